//! The state that a run leaves on its thread, without the values that its row has already, which may be long.

use threadyard_core::{
    json::{RawJson, raw_from_text},
    threads::ThreadUpdate,
};

/// How a state begins that comes from a run.
const VALUES: &str = r#"{"values":"#;

/// What is kept of a state.
pub(crate) fn kept(update: &ThreadUpdate) -> Option<&str> {
    let state = update.state.as_ref()?.state.get();
    let values = update.values.as_ref().map(|values| values.get());
    let rest = values.and_then(|values| state.strip_prefix(VALUES)?.strip_prefix(values));
    Some(rest.filter(|rest| rest.starts_with(',')).unwrap_or(state))
}

/// The state again.
pub(crate) fn whole(kept: &str, values: Option<&str>) -> Result<RawJson, serde_json::Error> {
    if kept.starts_with(',') {
        return raw_from_text([VALUES, values.unwrap_or_default(), kept].concat());
    }
    raw_from_text(kept.to_owned())
}
