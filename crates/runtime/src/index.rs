//! What `langgraph.json` says of finding items by their meaning: `store.index`.

use serde::Deserialize;
use threadyard_core::{items::ItemIndex, json::Value};

/// `store.index`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreIndex {
    embed: String,
    dims: usize,
    #[serde(default)]
    fields: Option<Vec<String>>,
}

/// The whole value is one text unless the project names fields.
const WHOLE_VALUE: &str = "$";

/// How items are found by their meaning.
pub(crate) fn items(index: Option<&Value>) -> Result<Option<ItemIndex>, String> {
    let Some(index) = index.filter(|index| !index.is_null()) else { return Ok(None) };
    let StoreIndex { embed, dims, fields } =
        StoreIndex::deserialize(index).map_err(|error| format!("store.index: {error}"))?;
    if !matches!(embed.split_once(':'), Some((source, name)) if !source.is_empty() && !name.is_empty()) {
        return Err(format!(
            "store.index.embed: `{embed}` must be a function such as \"./embed.py:embed\", or a provider and a model such \
             as \"openai:text-embedding-3-small\""
        ));
    }
    if dims == 0 {
        return Err("store.index.dims: must be above zero".into());
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
        assert_eq!(items(None), Ok(None));
        let index = items(Some(&json!({"embed": "openai:m", "dims": 3}))).unwrap().unwrap();
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
            (json!({"embed": "openai:m", "dims": 3, "feilds": ["a"]}), "feilds"),
        ] {
            let error = items(Some(&index)).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
