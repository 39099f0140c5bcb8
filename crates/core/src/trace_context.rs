//! W3C Trace Context: by which words a run, and who hears of its end, are found in the trace of who asked for it.

use crate::json::{Object, Value};

/// The place of something in a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The header of this name, which is well formed.
    pub traceparent: String,
    /// The header of this name, if there is one.
    pub tracestate: Option<String>,
}

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
/// The longest `tracestate` that is passed on.
const LONGEST_STATE: usize = 512;

impl TraceContext {
    /// Reads the headers; what is not well formed is none.
    pub fn read(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        let is_visible = |state: &&str| state.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let tracestate = tracestate.filter(|state| state.len() <= LONGEST_STATE).filter(is_visible);
        is_parent(traceparent)
            .then(|| Self { traceparent: traceparent.to_owned(), tracestate: tracestate.map(str::to_owned) })
    }

    /// What the config of a run says, in its metadata.
    pub fn of(config: &Object) -> Option<Self> {
        let metadata = config.get("metadata")?;
        let text = |key| metadata.get(key).and_then(Value::as_str);
        Self::read(text(PARENT)?, text(STATE))
    }

    /// Has the config of a run say it.
    pub fn note(&self, config: &mut Object) {
        let metadata = config.entry("metadata").or_insert_with(|| Object::new().into());
        let Value::Object(metadata) = metadata else { return };
        metadata.shift_remove(STATE);
        for (name, value) in self.headers() {
            metadata.insert(name.into(), value.into());
        }
    }

    /// Both, by their names.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let state = self.tracestate.as_deref().map(|state| (STATE, state));
        std::iter::once((PARENT, self.traceparent.as_str())).chain(state)
    }
}

/// Whether this is `version-trace-parent-flags`, in lower case hexadecimal digits, of the version that everybody knows.
fn is_parent(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &str| part.bytes().all(|byte| byte == b'0');
    parts.iter().all(is_hex)
        && parts.iter().map(|part| part.len()).eq([2, 32, 16, 2])
        && parts[0] == "00"
        && !is_zero(parts[1])
        && !is_zero(parts[2])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const PARENT_OF_ALL: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_what_is_well_formed_is_passed_on() {
        for (parent, state, expected) in [
            (PARENT_OF_ALL, None, Some(None)),
            (PARENT_OF_ALL, Some("a=1,b=2"), Some(Some("a=1,b=2"))),
            (PARENT_OF_ALL, Some("a=\r\nx: 1"), Some(None)),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None, None),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None, None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None, None),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None, None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", None, None),
            ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n", None, None),
            ("", None, None),
        ] {
            let read = TraceContext::read(parent, state);
            assert_eq!(read.as_ref().map(|it| it.tracestate.as_deref()), expected, "{parent:?} {state:?}");
        }
        let long = "a".repeat(LONGEST_STATE + 1);
        assert_eq!(TraceContext::read(PARENT_OF_ALL, Some(&long)).unwrap().tracestate, None);
    }

    #[test]
    fn a_config_says_what_it_is_told_to() {
        let mut config = Object::new();
        let first = TraceContext::read(PARENT_OF_ALL, Some("a=1")).unwrap();
        first.note(&mut config);
        assert_eq!(TraceContext::of(&config), Some(first));
        let second = TraceContext::read(&PARENT_OF_ALL.replace("b7-01", "b8-00"), None).unwrap();
        second.note(&mut config);
        assert_eq!(TraceContext::of(&config), Some(second));
        let Value::Object(odd) = json!({ "metadata": { "traceparent": 1 } }) else { unreachable!() };
        assert_eq!(TraceContext::of(&odd), None);
    }
}
