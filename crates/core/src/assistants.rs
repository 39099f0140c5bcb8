//! Assistants: a graph with configuration, context and metadata.

use async_trait::async_trait;
use serde::Serialize;

use crate::{
    ids::AssistantId,
    json::Object,
    metadata_filter::MetadataFilter,
    page::{Order, Page, Window},
    storage::Result,
    time::Timestamp,
};

/// A graph with what it is to be run with.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Assistant {
    /// Its id; derived from the graph for default assistants.
    pub assistant_id: AssistantId,
    /// The graph it runs.
    pub graph_id: String,
    /// A RunnableConfig each run starts from.
    pub config: Object,
    /// The runtime context each run starts from.
    pub context: Object,
    /// Free annotations, copied into each run's metadata.
    pub metadata: Object,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes, from 1.
    pub version: i64,
    /// What it is for, if somebody said so.
    pub description: Option<String>,
}

/// One state of an assistant; every change makes another.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AssistantVersion {
    /// Whose it is.
    pub assistant_id: AssistantId,
    /// Counts the states, from 1.
    pub version: i64,
    /// The graph it ran.
    pub graph_id: String,
    /// Its RunnableConfig.
    pub config: Object,
    /// Its runtime context.
    pub context: Object,
    /// Its annotations.
    pub metadata: Object,
    /// When this state came to be.
    pub created_at: Timestamp,
    /// What people called it.
    pub name: String,
    /// What it was for.
    pub description: Option<String>,
}

/// What came of making an assistant.
#[derive(Clone, Debug)]
pub enum CreatedAssistant {
    /// It is new.
    New(Assistant),
    /// The id was taken; this is the assistant that has it.
    Existing(Assistant),
}

/// A change of an assistant; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct AssistantPatch {
    /// Only if it is one of these; others are as good as missing.
    pub within: MetadataFilter,
    /// Another graph.
    pub graph_id: Option<String>,
    /// Takes the place of the config.
    pub config: Option<Object>,
    /// Takes the place of the context.
    pub context: Option<Object>,
    /// Laid over the metadata, key by key at the top level.
    pub metadata: Object,
    /// Another name.
    pub name: Option<String>,
    /// Another description.
    pub description: Option<String>,
}

/// Which assistants to find.
#[derive(Clone, Debug)]
pub struct AssistantQuery {
    /// Metadata must contain this.
    pub metadata: Object,
    /// Only those that whoever asks may see.
    pub visible: MetadataFilter,
    /// Only assistants of this graph.
    pub graph_id: Option<String>,
    /// The name contains this, whatever the case.
    pub name: Option<String>,
    /// The column that orders the result.
    pub sort_by: AssistantSort,
    /// The direction of the order.
    pub order: Order,
}

/// What assistants can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are those of the fields")]
pub enum AssistantSort {
    AssistantId,
    #[default]
    CreatedAt,
    UpdatedAt,
    Name,
    GraphId,
}

/// Stored assistants.
#[async_trait]
pub trait Assistants: Send + Sync {
    /// Stores those assistants whose ids are new and leaves the others as they are.
    async fn register_assistants(&self, assistants: Vec<Assistant>) -> Result<()>;
    /// The assistant with this id.
    async fn assistant(&self, id: AssistantId) -> Result<Option<Assistant>>;
    /// The assistants that match, in order.
    async fn search_assistants(&self, query: AssistantQuery, window: Window) -> Result<Page<Assistant>>;
    /// Makes an assistant, in its first version, unless its id is taken.
    async fn create_assistant(&self, assistant: Assistant) -> Result<CreatedAssistant>;
    /// Changes an assistant, which makes its next version.
    async fn patch_assistant(
        &self,
        id: AssistantId,
        patch: AssistantPatch,
        now: Timestamp,
    ) -> Result<Option<Assistant>>;
    /// The versions whose metadata contain these, newest first, or `None` when there is no such assistant.
    async fn assistant_versions(
        &self,
        id: AssistantId,
        metadata: Object,
        window: Window,
    ) -> Result<Option<Vec<AssistantVersion>>>;
    /// Makes an earlier version the one that runs use, if the assistant is one of these.
    async fn select_assistant_version(
        &self,
        id: AssistantId,
        within: MetadataFilter,
        version: i64,
        now: Timestamp,
    ) -> Result<Option<Assistant>>;
    /// Deletes an assistant with its versions, if it is one of these; its runs stay. Says whether there was one.
    async fn delete_assistant(&self, id: AssistantId, within: MetadataFilter) -> Result<bool>;
    /// How many assistants match.
    async fn count_assistants(&self, query: AssistantQuery) -> Result<u64>;
}
