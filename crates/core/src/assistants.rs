//! Assistants: a graph with configuration, context and metadata.

use async_trait::async_trait;
use serde::Serialize;

use crate::{
    ids::AssistantId,
    json::Object,
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

/// Which assistants to find.
#[derive(Clone, Debug)]
pub struct AssistantQuery {
    /// Metadata must contain this.
    pub metadata: Object,
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
    /// How many assistants match.
    async fn count_assistants(&self, query: AssistantQuery) -> Result<u64>;
}
