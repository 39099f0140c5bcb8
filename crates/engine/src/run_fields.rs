//! What a run is created with, as clients and crons write it.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use threadyard_core::{
    json::{Object, RawJson, Value, fields_of},
    runs::{Durability, MultitaskStrategy, PauseAt},
    stream::StreamMode,
};

use crate::{CheckpointRef, Error, Result, RunRequest};

/// What a run is created with, as clients write it. Unknown keys are ignored.
#[derive(Debug, Deserialize)]
pub struct RunFields {
    assistant_id: String,
    #[serde(default)]
    input: Option<RawJson>,
    #[serde(default)]
    command: Option<RawJson>,
    #[serde(default)]
    checkpoint: Option<CheckpointRef>,
    checkpoint_id: Option<String>,
    #[serde(default)]
    metadata: Option<Object>,
    #[serde(default)]
    config: Option<Object>,
    #[serde(default)]
    context: Option<Object>,
    #[serde(default, deserialize_with = "given")]
    webhook: Option<String>,
    #[serde(default)]
    interrupt_before: Option<PauseAt>,
    #[serde(default)]
    interrupt_after: Option<PauseAt>,
    #[serde(default, deserialize_with = "given")]
    stream_mode: Option<StreamModes>,
    #[serde(default)]
    stream_subgraphs: Option<bool>,
    #[serde(default)]
    stream_resumable: Option<bool>,
    #[serde(default)]
    feedback_keys: Option<Vec<String>>,
    #[serde(default)]
    multitask_strategy: Option<MultitaskStrategy>,
    #[serde(default)]
    if_not_exists: Option<IfNotExists>,
    #[serde(default)]
    after_seconds: Option<f64>,
    #[serde(default)]
    strict_resume: Option<bool>,
    #[serde(default)]
    durability: Option<Durability>,
    #[serde(default)]
    checkpoint_during: Option<bool>,
    /// Upstream: read only where it has a meaning, and anything goes elsewhere.
    #[serde(default)]
    on_disconnect: Option<Value>,
    #[serde(default)]
    on_completion: Option<Value>,
    #[serde(skip)]
    of_request: Object,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum StreamModes {
    One(StreamMode),
    Several(Vec<StreamMode>),
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum IfNotExists {
    Create,
    Reject,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum OnDisconnect {
    Cancel,
    Continue,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum OnCompletion {
    Delete,
    Keep,
}

impl RunFields {
    /// Adds what the run sees of the request that brings it, as keys of `config.configurable`.
    pub fn add_configurable(&mut self, of_request: &Object) {
        self.of_request.extend(of_request.clone());
    }

    /// Whether the run stops when the client that it is for goes away.
    pub fn cancels_on_disconnect(&self) -> Result<bool> {
        let chosen = choice("on_disconnect", self.on_disconnect.as_ref())?;
        Ok(chosen == Some(OnDisconnect::Cancel))
    }

    /// Whether the thread of a stateless run stays when the run has ended.
    pub fn keeps_thread(&self) -> Result<bool> {
        Ok(choice("on_completion", self.on_completion.as_ref())? == Some(OnCompletion::Keep))
    }

    /// Whether a thread that does not exist is made.
    pub fn makes_thread(&self) -> bool {
        self.if_not_exists == Some(IfNotExists::Create)
    }

    /// The run that is asked for.
    pub fn request(self) -> Result<RunRequest> {
        let after = self.after_seconds.unwrap_or(0.0);
        let after = Duration::try_from_secs_f64(after)
            .map_err(|_| Error::Invalid(format!("after_seconds: {after} must be zero or more")))?;
        if self.command.as_ref().is_some_and(|command| fields_of(command).is_none()) {
            return Err(Error::Invalid("command: must be an object".into()));
        }
        let exit = self.checkpoint_during == Some(false);
        let durability = self.durability.unwrap_or(if exit { Durability::Exit } else { Durability::Async });
        Ok(RunRequest {
            assistant: self.assistant_id,
            input: self.input,
            command: self.command,
            checkpoint: CheckpointRef::named(self.checkpoint, self.checkpoint_id),
            metadata: self.metadata.unwrap_or_default(),
            config: self.config.unwrap_or_default(),
            context: self.context.unwrap_or_default(),
            webhook: self.webhook,
            interrupt_before: self.interrupt_before,
            interrupt_after: self.interrupt_after,
            stream_mode: match self.stream_mode {
                None => Vec::new(),
                Some(StreamModes::One(mode)) => vec![mode],
                Some(StreamModes::Several(modes)) => modes,
            },
            stream_subgraphs: self.stream_subgraphs.unwrap_or(false),
            stream_resumable: self.stream_resumable.unwrap_or(false),
            feedback_keys: self.feedback_keys,
            multitask_strategy: self.multitask_strategy.unwrap_or_default(),
            after,
            durability,
            cron_id: None,
            push_target: None,
            of_request: self.of_request,
            event_streaming: false,
            strict_resume: self.strict_resume.unwrap_or(false),
        })
    }
}

fn choice<T: DeserializeOwned>(name: &str, given: Option<&Value>) -> Result<Option<T>> {
    let read = |value| T::deserialize(value).map_err(|error| Error::Invalid(format!("{name}: {error}")));
    given.map(read).transpose()
}

/// Tells a key that is null from one that is absent: null is read as the inner type, which refuses it.
pub(crate) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}
