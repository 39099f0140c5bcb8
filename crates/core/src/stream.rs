//! What a client sees while a run goes on.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::json::raw;

/// Something a client may ask to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are those of LangGraph")]
pub enum StreamMode {
    Values,
    Updates,
    Messages,
    MessagesTuple,
    Events,
    Custom,
    Debug,
    Tasks,
    Checkpoints,
}

impl StreamMode {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Values => "values",
            Self::Updates => "updates",
            Self::Messages => "messages",
            Self::MessagesTuple => "messages-tuple",
            Self::Events => "events",
            Self::Custom => "custom",
            Self::Debug => "debug",
            Self::Tasks => "tasks",
            Self::Checkpoints => "checkpoints",
        }
    }

    /// Whether an event of this name belongs to this mode: `messages/partial` and `messages|child:1` are `messages`.
    pub fn owns(self, event_name: &str) -> bool {
        let base = event_name.split(['|', '/']).next().unwrap_or(event_name);
        base == if self == Self::MessagesTuple { "messages" } else { self.as_str() }
    }
}

/// One item of a run's stream: a name and finished JSON, neither of which the host parses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEvent {
    /// The event's name on the wire.
    pub name: Arc<str>,
    /// JSON text without line breaks.
    pub data: Bytes,
}

impl StreamEvent {
    /// An event with this value as its data.
    pub fn of(name: &str, data: &impl Serialize) -> Self {
        Self { name: name.into(), data: Bytes::from(String::from(Box::<str>::from(raw(data)))) }
    }

    /// Keeps the place of an event that can't be read any more.
    pub fn lost() -> Self {
        Self { name: "".into(), data: Bytes::new() }
    }

    /// Whether this only keeps the place of an event.
    pub fn is_lost(&self) -> bool {
        self.name.is_empty()
    }
}

/// The place of an event in its run's stream: strictly increasing, and increasing with time over attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// Unix milliseconds at which the stream began.
    pub epoch_ms: i64,
    /// Counts the events of the stream.
    pub seq: u64,
}

impl EventId {
    /// Comes before every event.
    pub const START: Self = Self { epoch_ms: 0, seq: 0 };

    /// Reads `<ms>-<n>`; the texts `-1` and `0` mean the start.
    pub fn parse(text: &str) -> Option<Self> {
        if matches!(text, "-1" | "0") {
            return Some(Self::START);
        }
        let (epoch_ms, seq) = text.split_once('-')?;
        Some(Self { epoch_ms: epoch_ms.parse().ok()?, seq: seq.parse().ok()? })
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch_ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_owns_its_variants_and_subgraphs() {
        assert!(StreamMode::Messages.owns("messages/partial"));
        assert!(StreamMode::MessagesTuple.owns("messages"));
        assert!(StreamMode::Values.owns("values|child:1"));
        assert!(!StreamMode::Values.owns("metadata"));
    }

    #[test]
    fn event_ids_are_read_as_they_are_written() {
        let id = EventId { epoch_ms: 1_767_000_000_000, seq: 7 };
        assert_eq!(EventId::parse(&id.to_string()), Some(id));
        assert_eq!(EventId::parse("-1"), Some(EventId::START));
        assert_eq!(EventId::parse("soon"), None);
    }
}
