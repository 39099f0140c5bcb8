//! What a run is executed with, as the API shows it under `kwargs`.

use serde::{Deserialize, Serialize};

use crate::{
    event_streaming::MARKER,
    json::{Object, RawJson},
    stream::StreamMode,
};

/// When checkpoints are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// While the next superstep runs.
    #[default]
    Async,
    /// Before the next superstep starts.
    Sync,
    /// Once, when the run ends.
    Exit,
}

/// Nodes at which to pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PauseAt {
    /// `"*"`: every node.
    Every(Star),
    /// These nodes.
    Nodes(Vec<String>),
}

/// The text `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Star {
    /// The only value.
    #[serde(rename = "*")]
    Star,
}

/// What a run is to be executed with, as the API shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the shape is the API's")]
pub struct RunKwargs {
    /// The graph's input; `null` continues from the thread's state.
    pub input: Option<RawJson>,
    /// Resume, update and goto.
    pub command: Option<RawJson>,
    /// The RunnableConfig: the assistant's, overlaid by the request's.
    pub config: Object,
    /// The runtime context: the assistant's, overlaid by the request's.
    pub context: Object,
    /// What the creator wants to see.
    pub stream_mode: Vec<StreamMode>,
    /// Pause before these nodes.
    pub interrupt_before: Option<PauseAt>,
    /// Pause after these nodes.
    pub interrupt_after: Option<PauseAt>,
    /// Where to tell that the run ended.
    pub webhook: Option<String>,
    /// Accepted for compatibility; needs a tracing backend to mean anything.
    pub feedback_keys: Option<Vec<String>>,
    /// Whether the thread exists for this run alone and goes with it.
    pub temporary: bool,
    /// Whether events of subgraphs are streamed.
    pub subgraphs: bool,
    /// Whether events carry ids and can be replayed.
    pub resumable: bool,
    /// The older spelling of `durability`.
    pub checkpoint_during: bool,
    /// When checkpoints are written.
    pub durability: Durability,
    /// Whether an answer to an interrupt that does not wait fails the run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict_resume: bool,
}

impl RunKwargs {
    /// Whether the run was asked for by the event streaming protocol, and says its events.
    pub fn event_streaming(&self) -> bool {
        let configurable = self.config.get("configurable");
        configurable.and_then(|configurable| configurable.get(MARKER)).is_some_and(|marker| marker == true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_a_star_or_a_list() {
        assert_eq!(serde_json::from_str::<PauseAt>("\"*\"").unwrap(), PauseAt::Every(Star::Star));
        assert_eq!(serde_json::from_str::<PauseAt>("[\"a\"]").unwrap(), PauseAt::Nodes(vec!["a".into()]));
        assert!(serde_json::from_str::<PauseAt>("\"a\"").is_err());
    }
}
