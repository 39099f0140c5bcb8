//! Deliveries as people see and steer them: what was sent, what came of it, and what is to be sent again.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    ids::{RecoveryId, RunId, ThreadId},
    page::{Page, Window},
    storage::Result,
    time::Timestamp,
};

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    /// It is to be sent, or on its way.
    Pending,
    /// The receiver has it.
    Delivered,
    /// It was given up.
    Failed,
    /// Somebody stopped it.
    Cancelled,
    /// Webhooks were disabled when it was to be sent.
    Skipped,
}

impl DeliveryState {
    /// The word in storage and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

/// A delivery, without its body and without what is secret about its URL.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    /// Its id, which receivers get as `webhook-id`.
    pub delivery_id: String,
    /// The run that ended.
    pub run_id: RunId,
    /// Its thread.
    pub thread_id: ThreadId,
    /// What it tells, such as `run.success`.
    pub event: String,
    /// Where it goes, without query, fragment and user information.
    pub url: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// How many attempts were begun.
    pub attempt_count: u32,
    /// When the next attempt is due; for one on its way, when it is presumed lost.
    pub next_attempt_at: Option<Timestamp>,
    /// The status of the last answer.
    pub last_status: Option<u16>,
    /// What went wrong last.
    pub last_failure: Option<String>,
    /// When the run ended.
    pub created_at: Timestamp,
    /// When it was settled.
    pub finished_at: Option<Timestamp>,
}

/// One attempt at a delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Attempt {
    /// Counts the attempts, from 1.
    pub n: u32,
    /// Why it was made.
    pub trigger: Trigger,
    /// How far it is known.
    pub state: AttemptState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// The status of the answer.
    pub status: Option<u16>,
    /// What went wrong.
    pub failure: Option<String>,
}

/// Why an attempt is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trigger {
    /// It was due.
    Schedule,
    /// Somebody asked for it.
    Resend,
}

/// How far an attempt is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttemptState {
    /// It is on its way.
    Started,
    /// What came of it is known.
    Done,
    /// Its sender died; the receiver may have it.
    Unknown,
}

/// Which deliveries to find.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeliveryQuery {
    /// Only those of this run.
    pub run_id: Option<RunId>,
    /// Only those of this thread.
    pub thread_id: Option<ThreadId>,
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only those to this receiver: scheme, host and port.
    #[serde(default)]
    pub origin: Option<String>,
    /// Only those whose URL, as it is shown, begins with this.
    pub url: Option<String>,
    /// Only those of runs that ended at or after this.
    pub since: Option<Timestamp>,
    /// Only those of runs that ended before this.
    pub until: Option<Timestamp>,
}

/// What came of steering a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steered {
    /// It is as was asked.
    Done,
    /// There is none with this id.
    Missing,
    /// Its state does not allow it.
    NotNow,
    /// Its body is not kept any more.
    Erased,
}

/// Having everything that matches sent again that was given up, cancelled or skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Recovery {
    /// Its id.
    pub recovery_id: RecoveryId,
    /// How many deliveries were made due so far.
    pub recovered: u64,
    /// When it began.
    pub created_at: Timestamp,
    /// When the last delivery was looked at.
    pub finished_at: Option<Timestamp>,
}

/// Stored deliveries, for people.
#[async_trait]
pub trait Deliveries: Send + Sync {
    /// A page of deliveries, the newest first.
    async fn search_deliveries(&self, query: DeliveryQuery, window: Window) -> Result<Page<Delivery>>;
    /// How many match.
    async fn count_deliveries(&self, query: DeliveryQuery) -> Result<u64>;
    /// One delivery with its attempts, the oldest first.
    async fn delivery(&self, id: String) -> Result<Option<(Delivery, Vec<Attempt>)>>;
    /// What is sent, to the byte.
    async fn delivery_body(&self, id: String) -> Result<Option<String>>;
    /// Has a delivery sent now, besides its schedule. If that fails, it stands as before. Not while it is on its way.
    async fn resend_delivery(&self, id: String, now: Timestamp) -> Result<Steered>;
    /// Notes that every delivery of now is to be sent again that matches, is settled, was not delivered, and has a body.
    async fn begin_recovery(&self, id: RecoveryId, query: DeliveryQuery, now: Timestamp) -> Result<()>;
    /// Goes on with the oldest recovery that has not ended, by at most `limit` deliveries, the oldest first.
    async fn recover_deliveries(&self, limit: u32, now: Timestamp) -> Result<Option<Recovery>>;
    /// How far a recovery is.
    async fn recovery(&self, id: RecoveryId) -> Result<Option<Recovery>>;
    /// Stops a delivery that is not settled.
    async fn cancel_delivery(&self, id: String, now: Timestamp) -> Result<Steered>;
}
