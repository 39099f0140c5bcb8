//! Crons: runs that begin by themselves, again and again.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    access::User,
    ids::{AssistantId, CronId, ThreadId},
    json::{Object, RawObject},
    metadata_filter::MetadataFilter,
    page::{Order, Page, Window},
    runs::{CreatedRun, NewRun},
    sealing::SealingContext,
    storage::Result,
    time::Timestamp,
};

/// A schedule and what is to be run on it.
#[derive(Clone, Debug, Serialize)]
pub struct Cron {
    /// Its id.
    pub cron_id: CronId,
    /// The assistant that is run.
    pub assistant_id: AssistantId,
    /// The thread that is worked on, or none for a new one each time.
    pub thread_id: Option<ThreadId>,
    /// What becomes of the thread of a run that brought its own.
    pub on_run_completed: Option<OnRunCompleted>,
    /// After this, nothing is run any more.
    pub end_time: Option<Timestamp>,
    /// When to run, as five fields or more.
    pub schedule: String,
    /// The IANA time zone of the schedule; UTC when there is none.
    pub timezone: Option<String>,
    /// Whether anything is run at all.
    pub enabled: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// The identity of who made it; empty when nobody was asked for one.
    pub user_id: String,
    /// Who made it, and so whose its runs are. Never shown.
    #[serde(skip)]
    pub user: Option<User>,
    /// The next moment of the schedule that nothing was run for.
    pub next_run_date: Option<Timestamp>,
    /// Free annotations.
    pub metadata: Object,
    /// What each run is created with, as it was sent.
    pub payload: RawObject,
    /// Under which context the project's own handlers encrypt what its runs leave.
    #[serde(skip)]
    pub sealing: SealingContext,
}

/// What becomes of the thread of a run that brought its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnRunCompleted {
    /// It goes with its run.
    Delete,
    /// It stays.
    Keep,
}

/// Which crons to find.
#[derive(Clone, Debug, Default)]
pub struct CronQuery {
    /// Only those of this assistant.
    pub assistant_id: Option<AssistantId>,
    /// Only those of this thread.
    pub thread_id: Option<ThreadId>,
    /// Only those that are enabled, or that are not.
    pub enabled: Option<bool>,
    /// Metadata must contain this.
    pub metadata: Object,
    /// Only those that whoever asks may see.
    pub visible: MetadataFilter,
    /// The column that orders the result.
    pub sort_by: CronSort,
    /// The direction of the order.
    pub order: Order,
}

/// What crons can be ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are those of the fields")]
pub enum CronSort {
    CronId,
    AssistantId,
    ThreadId,
    NextRunDate,
    EndTime,
    #[default]
    CreatedAt,
    UpdatedAt,
}

/// Crons whose moment has come.
#[derive(Clone, Debug)]
pub struct DueCrons {
    /// The longest waiting first.
    pub crons: Vec<Cron>,
    /// When the next one becomes due.
    pub next_due: Option<Timestamp>,
}

/// One moment of a cron's schedule.
#[derive(Clone, Debug)]
pub struct CronTick {
    /// The cron.
    pub cron_id: CronId,
    /// The moment, as the row says it; when it says another one, somebody else was faster.
    pub at: Timestamp,
    /// The moment after that, if there is one.
    pub next: Option<Timestamp>,
    /// The run, unless it can't be made.
    pub run: Option<NewRun>,
}

/// What became of a change of a cron.
#[derive(Clone, Debug)]
pub enum UpdatedCron {
    /// This is the cron now.
    Done(Box<Cron>),
    /// Somebody else changed it first; nothing was written.
    Stale,
    /// There is no such cron.
    Missing,
}

/// Stored crons. They go with their thread and with their assistant.
#[async_trait]
pub trait Crons: Send + Sync {
    /// Makes a cron. Says whether its thread, if it has one, exists and is one of these.
    async fn create_cron(&self, cron: Cron, within: MetadataFilter) -> Result<bool>;
    /// The cron with this id.
    async fn cron(&self, id: CronId) -> Result<Option<Cron>>;
    /// The crons that match, in order.
    async fn search_crons(&self, query: CronQuery, window: Window) -> Result<Page<Cron>>;
    /// How many crons match.
    async fn count_crons(&self, query: CronQuery) -> Result<u64>;
    /// Replaces a cron that nobody changed since `seen`, its `updated_at` then; its next moment only when the schedule
    /// changed, since a tick may have moved it on meanwhile.
    async fn update_cron(&self, cron: Cron, seen: Timestamp, reschedule: bool) -> Result<UpdatedCron>;
    /// Deletes a cron, if it is one of these. Says whether there was one.
    async fn delete_cron(&self, id: CronId, within: MetadataFilter) -> Result<bool>;
    /// Finds crons that are due.
    async fn due_crons(&self, now: Timestamp, limit: u32) -> Result<DueCrons>;
    /// Moves a cron on and makes its run, both or neither. `None`: the moment was treated already.
    async fn tick_cron(&self, tick: CronTick) -> Result<Option<Option<CreatedRun>>>;
}
