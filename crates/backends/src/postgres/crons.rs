//! Crons in PostgreSQL. Moving one on and making its run is one transaction, so that no moment counts twice or not at all,
//! however many servers look at it.

use async_trait::async_trait;
use threadyard_core::{
    crons::{Cron, CronQuery, CronSort, CronTick, Crons, DueCrons, UpdatedCron},
    ids::{AssistantId, CronId, ThreadId},
    page::{Page, Window},
    runs::CreatedRun,
    storage::Result,
    time::Timestamp,
};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Client, PostgresStorage,
    assistants::direction,
    failures::Done,
    metadata,
    rows::{
        Parameter, Text, both, decoded, execute, first, get, name, object, optional_string, optional_time, string,
        time, uuid, word,
    },
    runs,
    sql::Sql,
};

#[async_trait]
impl Crons for PostgresStorage {
    async fn create_cron(&self, cron: Cron) -> Result<bool> {
        self.transact(cron, |client, cron| Box::pin(insert(client, cron))).await
    }

    async fn cron(&self, id: CronId) -> Result<Option<Cron>> {
        Ok(find(&*self.client().await?, id).await?)
    }

    async fn search_crons(&self, query: CronQuery, window: Window) -> Result<Page<Cron>> {
        let mut sql = matching("*", &query);
        sql.add(&format!("ORDER BY {} {}, k DESC", column(query.sort_by), direction(query.order)));
        let found = metadata::find(&mut self.client().await?, sql, &query.metadata, window, cron).await?;
        Ok(Page::from_probe(found, window))
    }

    async fn count_crons(&self, query: CronQuery) -> Result<u64> {
        let sql = matching("metadata", &query);
        Ok(metadata::count(&mut self.client().await?, sql, &query.metadata).await?)
    }

    async fn update_cron(&self, cron: Cron, seen: Timestamp, reschedule: bool) -> Result<UpdatedCron> {
        self.transact((cron, seen, reschedule), |client, (cron, seen, reschedule)| {
            Box::pin(async move {
                if let Some(changed) = update(client, cron, *seen, *reschedule).await? {
                    return Ok(UpdatedCron::Done(Box::new(changed)));
                }
                let found = find(client, cron.cron_id).await?;
                Ok(found.map_or(UpdatedCron::Missing, |_| UpdatedCron::Stale))
            })
        })
        .await
    }

    async fn delete_cron(&self, id: CronId) -> Result<bool> {
        self.transact(id, |client, id| {
            Box::pin(async move { Ok(execute(client, "DELETE FROM cron WHERE id = $1", &[&id.0]).await? == 1) })
        })
        .await
    }

    async fn due_crons(&self, now: Timestamp, limit: u32) -> Result<DueCrons> {
        let due = format!("SELECT * FROM cron WHERE {OPEN} AND next_run_at <= $1 ORDER BY next_run_at LIMIT $2");
        let next = format!("SELECT min(next_run_at) AS next FROM cron WHERE {OPEN} AND next_run_at > $1");
        let client = self.client().await?;
        let (due, next) = both(&client, (&due, &[&now.0, &i64::from(limit)]), (&next, &[&now.0])).await?;
        let next_due = next.first().map(|row| optional_time(row, "next")).transpose()?.flatten();
        Ok(DueCrons { crons: due.iter().map(cron).collect::<Done<_>>()?, next_due })
    }

    async fn tick_cron(&self, tick: CronTick) -> Result<Option<Option<CreatedRun>>> {
        self.transact(tick, |client, tick| Box::pin(move_on(client, tick))).await
    }
}

/// Of crons that still have something to do.
const OPEN: &str = "enabled AND next_run_at IS NOT NULL AND (end_time IS NULL OR next_run_at <= end_time)";

/// What of the crons that match, as far as the database can tell.
fn matching(what: &str, query: &CronQuery) -> Sql {
    let mut sql = Sql::new(&format!("SELECT {what} FROM cron WHERE true"));
    if let Some(assistant) = query.assistant_id {
        sql.with("AND assistant_id = ?", assistant.0);
    }
    if let Some(thread) = query.thread_id {
        sql.with("AND thread_id = ?", thread.0);
    }
    if let Some(enabled) = query.enabled {
        sql.with("AND enabled = ?", enabled);
    }
    metadata::narrow(&mut sql, "metadata", &query.metadata);
    sql
}

async fn find(client: &Client, id: CronId) -> Done<Option<Cron>> {
    let found = first(client, "SELECT * FROM cron WHERE id = $1", &[&id.0]).await?;
    found.as_ref().map(cron).transpose()
}

/// Makes a cron, unless its thread is not there. Says whether it did.
async fn insert(client: &Client, it: &Cron) -> Done<bool> {
    // The thread is held, so that it can't be deleted without its cron.
    let sql = "WITH place AS (SELECT 1 FROM thread WHERE id = $3 FOR KEY SHARE)
         INSERT INTO cron (id, assistant_id, thread_id, on_run_completed, end_time, schedule, timezone, enabled,
             metadata, payload, next_run_at, created_at, updated_at)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
         WHERE $3::uuid IS NULL OR EXISTS (SELECT 1 FROM place)";
    let parameters: [Parameter<'_>; 13] = [
        &it.cron_id.0,
        &it.assistant_id.0,
        &it.thread_id.map(|id| id.0),
        &it.on_run_completed.as_ref().map(name).transpose()?,
        &it.end_time.map(|time| time.0),
        &Text(&it.schedule),
        &it.timezone.as_deref().map(Text),
        &it.enabled,
        &serde_json::to_string(&it.metadata)?,
        &serde_json::to_string(&it.payload)?,
        &it.next_run_date.map(|time| time.0),
        &it.created_at.0,
        &it.updated_at.0,
    ];
    Ok(execute(client, sql, &parameters).await? == 1)
}

/// Changes a cron that is still the one that was seen. Each change gets a later time, so that it is told from the last.
async fn update(client: &Client, it: &Cron, seen: Timestamp, reschedule: bool) -> Done<Option<Cron>> {
    let sql = "UPDATE cron SET on_run_completed = $2, end_time = $3, schedule = $4, timezone = $5, enabled = $6,
             metadata = $7, payload = $8, next_run_at = CASE WHEN $9 THEN $10 ELSE next_run_at END,
             updated_at = greatest($11, updated_at + 1)
         WHERE id = $1 AND updated_at = $12 RETURNING *";
    let parameters: [Parameter<'_>; 12] = [
        &it.cron_id.0,
        &it.on_run_completed.as_ref().map(name).transpose()?,
        &it.end_time.map(|time| time.0),
        &Text(&it.schedule),
        &it.timezone.as_deref().map(Text),
        &it.enabled,
        &serde_json::to_string(&it.metadata)?,
        &serde_json::to_string(&it.payload)?,
        &reschedule,
        &it.next_run_date.map(|time| time.0),
        &it.updated_at.0,
        &seen.0,
    ];
    first(client, sql, &parameters).await?.as_ref().map(cron).transpose()
}

/// Of those who see the same moment, one finds the row as it was.
async fn move_on(client: &Client, tick: &CronTick) -> Done<Option<Option<CreatedRun>>> {
    let home = tick.run.as_ref().map(|new| new.run.thread_id.0);
    // Who deletes the thread holds it and then wants its crons: it comes first here as well.
    let home = ("SELECT 1 FROM thread WHERE id = $1 FOR NO KEY UPDATE", &[&home as Parameter<'_>][..]);
    let next = tick.next.map(|next| next.0);
    let moved = "UPDATE cron SET next_run_at = $3 WHERE id = $1 AND next_run_at = $2 AND enabled RETURNING k";
    let (_, moved) = both(client, home, (moved, &[&tick.cron_id.0, &tick.at.0, &next])).await?;
    match &tick.run {
        _ if moved.is_empty() => Ok(None),
        Some(new) => Ok(Some(Some(runs::create(client, new).await?))),
        None => Ok(Some(None)),
    }
}

fn cron(row: &Row) -> Done<Cron> {
    let chosen: Option<&str> = get(row, "on_run_completed")?;
    Ok(Cron {
        cron_id: CronId(uuid(row, "id")?),
        assistant_id: AssistantId(uuid(row, "assistant_id")?),
        thread_id: get::<Option<Uuid>>(row, "thread_id")?.map(ThreadId),
        on_run_completed: chosen.map(|_| word("cron", row, "on_run_completed")).transpose()?,
        end_time: optional_time(row, "end_time")?,
        schedule: string(row, "schedule")?,
        timezone: optional_string(row, "timezone")?,
        enabled: get(row, "enabled")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        user_id: String::new(),
        next_run_date: optional_time(row, "next_run_at")?,
        metadata: object("cron", row, "metadata")?,
        payload: decoded("cron", row, "payload")?,
    })
}

fn column(sort: CronSort) -> &'static str {
    match sort {
        CronSort::CronId => "id",
        CronSort::AssistantId => "assistant_id",
        CronSort::ThreadId => "thread_id",
        CronSort::NextRunDate => "next_run_at",
        CronSort::EndTime => "end_time",
        CronSort::CreatedAt => "created_at",
        CronSort::UpdatedAt => "updated_at",
    }
}
