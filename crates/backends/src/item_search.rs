//! What searches of the store find, as far as databases can't tell.

use threadyard_core::{
    filter,
    items::{Item, NamespaceQuery},
    json::{Object, Value},
};

/// Whether the value of an item meets the conditions of a filter.
pub(crate) fn satisfies(item: &Item, filter: &Object) -> Result<bool, serde_json::Error> {
    if filter.is_empty() {
        return Ok(true);
    }
    let value: Value = serde_json::from_str(item.value.get())?;
    let met =
        |(field, condition): (&String, &Value)| filter::satisfies(value.get(field).unwrap_or(&Value::Null), condition);
    Ok(filter.iter().all(met))
}

/// What of these namespaces a listing shows.
pub(crate) fn listed(mut namespaces: Vec<Vec<String>>, query: &NamespaceQuery) -> Vec<Vec<String>> {
    namespaces.retain(|labels| {
        let enough = labels.len() >= query.prefix.len().max(query.suffix.len());
        enough && matches(&query.prefix, labels) && matches(&query.suffix, &labels[labels.len() - query.suffix.len()..])
    });
    for labels in &mut namespaces {
        labels.truncate(query.max_depth.unwrap_or(usize::MAX));
    }
    namespaces.sort_unstable();
    namespaces.dedup();
    let window = query.window;
    namespaces.into_iter().skip(window.offset as usize).take(window.limit as usize).collect()
}

fn matches(pattern: &[String], labels: &[String]) -> bool {
    pattern.iter().zip(labels).all(|(wanted, label)| wanted == "*" || wanted == label)
}
