//! What `langgraph.json` says of finding items by their meaning: `store.index`.

use serde::Deserialize;
use threadyard_core::{items::ItemIndex, json::Value};

use crate::project::document::{Wrong, read};

/// `store.index`.
#[derive(Deserialize)]
struct StoreIndex {
    embed: String,
    dims: usize,
    #[serde(default)]
    fields: Option<Vec<String>>,
}

/// The whole value is one text unless the project names fields.
const WHOLE_VALUE: &str = "$";

/// How items are found by their meaning.
pub(crate) fn items(index: Option<&Value>, unknown: &mut Vec<String>) -> Result<Option<ItemIndex>, Wrong> {
    let Some(index) = index else { return Ok(None) };
    let StoreIndex { embed, dims, fields } = read("store.index", index, unknown)?;
    if !matches!(embed.split_once(':'), Some((source, name)) if !source.is_empty() && !name.is_empty()) {
        let why = format!(
            "`{embed}` must be a function such as \"./embed.py:embed\", or a provider and a model such as \
             \"openai:text-embedding-3-small\""
        );
        return Err(Wrong::new("store.index.embed", why));
    }
    if dims == 0 {
        return Err(Wrong::new("store.index.dims", "must be above zero"));
    }
    let fields = fields.unwrap_or_else(|| vec![WHOLE_VALUE.into()]);
    Ok(Some(ItemIndex { embed, dims, fields }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_index_is_read_with_its_defaults() {
        assert_eq!(items(None, &mut Vec::new()), Ok(None));
        let index = items(Some(&json!({"embed": "openai:m", "dims": 3})), &mut Vec::new()).unwrap().unwrap();
        assert_eq!((index.dims, index.fields), (3, vec!["$".to_owned()]));
    }

    #[test]
    fn what_makes_no_index_is_named() {
        for (index, word) in [
            (json!({"dims": 3}), "embed"),
            (json!({"embed": "openai:m"}), "dims"),
            (json!({"embed": "nothing", "dims": 3}), "embed"),
            (json!({"embed": "openai:m", "dims": 0}), "dims"),
            (json!({"embed": "openai:m", "dims": 3, "fields": "a"}), "store.index"),
        ] {
            let error = items(Some(&index), &mut Vec::new()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let mut unknown = Vec::new();
        items(Some(&json!({"embed": "openai:m", "dims": 3, "feilds": ["a"]})), &mut unknown).unwrap();
        assert_eq!(unknown, ["store.index.feilds"]);
    }
}
