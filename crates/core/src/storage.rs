//! The contract of durable facts: one trait for each noun, each method one atomic operation.

use crate::{
    agent_task_list::AgentTasks, api_keys::ApiKeys, assistants::Assistants, checkpoints::Checkpoints,
    connections::Connections, crons::Crons, deliveries::Deliveries, events::Events, items::Items,
    push_configs::PushConfigs, retention::Retention, runs::Runs, threads::Threads, webhook_keys::WebhookKeys,
    webhooks::Webhooks,
};

/// Everything that must survive. Times and ids are arguments, absence is an `Option`, and a method either happens
/// completely or not at all.
pub trait Storage:
    Assistants
    + Threads
    + Runs
    + Events
    + Crons
    + Checkpoints
    + Items
    + Webhooks
    + Deliveries
    + AgentTasks
    + PushConfigs
    + WebhookKeys
    + ApiKeys
    + Retention
    + Connections
{
}

impl<
    T: Assistants
        + Threads
        + Runs
        + Events
        + Crons
        + Checkpoints
        + Items
        + Webhooks
        + Deliveries
        + AgentTasks
        + PushConfigs
        + WebhookKeys
        + ApiKeys
        + Retention
        + Connections,
> Storage for T
{
}

/// Why an operation did not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The writer no longer holds the lease of the run, so nothing was written.
    #[error("the lease of the run is lost")]
    LeaseLost,
    /// The storage can't be reached or is full; the same operation may succeed later.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// The database lacks what the operation needs; whoever runs it can add that.
    #[error("{0}")]
    Unsupported(String),
    /// The project's own encryption did not do it. The text holds nothing of the data.
    #[error("encryption.path: {0}")]
    Sealing(String),
    /// A stored row makes no sense.
    #[error("row {row} of table `{table}` is corrupt: {why}")]
    Corrupt {
        /// The table that holds the row.
        table: &'static str,
        /// What identifies the row.
        row: String,
        /// What is wrong with it.
        why: String,
    },
    /// The statement itself is wrong: a bug in the backend.
    #[error("storage operation failed: {0}")]
    Bug(String),
}

/// The outcome of a storage operation.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;
