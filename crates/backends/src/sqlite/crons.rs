//! Crons in SQLite. Moving one on and making its run is one transaction, so that no moment counts twice or not at all.

use async_trait::async_trait;
use rusqlite::{Connection, Row, params, types::ToSql};
use threadyard_core::{
    crons::{Cron, CronQuery, CronSort, CronTick, Crons, DueCrons, UpdatedCron},
    ids::{AssistantId, CronId, ThreadId},
    page::{Page, Window},
    runs::CreatedRun,
    storage::Result,
    time::Timestamp,
};

use super::{
    Done, SqliteStorage,
    assistants::direction,
    rows::{all, decoded, first, key, name, object, time, uuid, word},
    runs,
};

#[async_trait]
impl Crons for SqliteStorage {
    async fn create_cron(&self, cron: Cron) -> Result<bool> {
        self.writer
            .write(move |connection| {
                let mut threads = connection.prepare_cached("SELECT 1 FROM thread WHERE id = ?1")?;
                if cron.thread_id.is_some_and(|id| !threads.exists([key(id)]).unwrap_or_default()) {
                    return Ok(false);
                }
                insert(connection, &cron).map(|()| true)
            })
            .await
    }

    async fn cron(&self, id: CronId) -> Result<Option<Cron>> {
        self.readers.look_up(move |connection| find(connection, id)).await
    }

    async fn search_crons(&self, query: CronQuery, window: Window) -> Result<Page<Cron>> {
        self.readers
            .read(move |connection| {
                let sql = format!(
                    "SELECT * FROM cron WHERE {MATCHES} ORDER BY {} {}, k DESC LIMIT ?5 OFFSET ?6",
                    column(query.sort_by),
                    direction(query.order)
                );
                let (assistant, thread, metadata) = filter(&query)?;
                let limit = i64::from(window.limit) + 1;
                let parameters: [&dyn ToSql; 6] =
                    [&assistant, &thread, &query.enabled, &metadata, &limit, &window.offset];
                Ok(Page::from_probe(all(&mut connection.prepare_cached(&sql)?, &parameters, cron)?, window))
            })
            .await
    }

    async fn count_crons(&self, query: CronQuery) -> Result<u64> {
        self.readers
            .read(move |connection| {
                let sql = format!("SELECT count(*) FROM cron WHERE {MATCHES}");
                let (assistant, thread, metadata) = filter(&query)?;
                let count: i64 = connection
                    .prepare_cached(&sql)?
                    .query_row(params![assistant, thread, query.enabled, metadata], |row| row.get(0))?;
                Ok(count.unsigned_abs())
            })
            .await
    }

    async fn update_cron(&self, cron: Cron, seen: Timestamp, reschedule: bool) -> Result<UpdatedCron> {
        self.writer
            .write(move |connection| {
                let changed = update(connection, &cron, seen, reschedule)?;
                Ok(match find(connection, cron.cron_id)? {
                    None => UpdatedCron::Missing,
                    Some(_) if !changed => UpdatedCron::Stale,
                    Some(cron) => UpdatedCron::Done(Box::new(cron)),
                })
            })
            .await
    }

    async fn delete_cron(&self, id: CronId) -> Result<bool> {
        self.writer
            .write(move |connection| {
                Ok(connection.prepare_cached("DELETE FROM cron WHERE id = ?1")?.execute([key(id)])? == 1)
            })
            .await
    }

    async fn due_crons(&self, now: Timestamp, limit: u32) -> Result<DueCrons> {
        self.readers
            .read(move |connection| {
                let mut due = connection.prepare_cached(&format!(
                    "SELECT * FROM cron WHERE {OPEN} AND next_run_at <= ?1 ORDER BY next_run_at LIMIT ?2"
                ))?;
                let mut next = connection
                    .prepare_cached(&format!("SELECT min(next_run_at) FROM cron WHERE {OPEN} AND next_run_at > ?1"))?;
                Ok(DueCrons {
                    crons: all(&mut due, &[&now.0, &limit], cron)?,
                    next_due: next.query_row([now.0], |row| row.get::<_, Option<i64>>(0))?.map(Timestamp),
                })
            })
            .await
    }

    async fn tick_cron(&self, tick: CronTick) -> Result<Option<Option<CreatedRun>>> {
        self.writer
            .write(move |connection| {
                let moved = connection
                    .prepare_cached("UPDATE cron SET next_run_at = ?3 WHERE id = ?1 AND next_run_at = ?2 AND enabled")?
                    .execute(params![key(tick.cron_id), tick.at.0, tick.next.map(|next| next.0)])?;
                if moved == 0 {
                    return Ok(None);
                }
                tick.run.map(|new| runs::create(connection, &new)).transpose().map(Some)
            })
            .await
    }
}

const MATCHES: &str = "(?1 IS NULL OR assistant_id = ?1) AND (?2 IS NULL OR thread_id = ?2)
    AND (?3 IS NULL OR enabled = ?3) AND json_has(metadata, ?4)";
/// Of crons that still have something to do.
const OPEN: &str = "enabled AND next_run_at IS NOT NULL AND (end_time IS NULL OR next_run_at <= end_time)";

type Filter = (Option<[u8; 16]>, Option<[u8; 16]>, String);

fn filter(query: &CronQuery) -> Done<Filter> {
    Ok((query.assistant_id.map(key), query.thread_id.map(key), serde_json::to_string(&query.metadata)?))
}

fn find(connection: &Connection, id: CronId) -> Done<Option<Cron>> {
    first(&mut connection.prepare_cached("SELECT * FROM cron WHERE id = ?1")?, &[&key(id)], cron)
}

fn insert(connection: &Connection, it: &Cron) -> Done<()> {
    connection
        .prepare_cached(
            "INSERT INTO cron (id, assistant_id, thread_id, on_run_completed, end_time, schedule, timezone, enabled,
                 metadata, payload, next_run_at, created_at, updated_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            key(it.cron_id),
            key(it.assistant_id),
            it.thread_id.map(key),
            it.on_run_completed.as_ref().map(name).transpose()?,
            it.end_time.map(|time| time.0),
            it.schedule,
            it.timezone,
            it.enabled,
            serde_json::to_string(&it.metadata)?,
            serde_json::to_string(&it.payload)?,
            it.next_run_date.map(|time| time.0),
            it.created_at.0,
            it.updated_at.0,
        ])?;
    Ok(())
}

/// Says whether the cron was still the one that was seen. Each change gets a later time, so that it is told from the last.
fn update(connection: &Connection, it: &Cron, seen: Timestamp, reschedule: bool) -> Done<bool> {
    let changed = connection
        .prepare_cached(
            "UPDATE cron SET on_run_completed = ?2, end_time = ?3, schedule = ?4, timezone = ?5, enabled = ?6,
                 metadata = ?7, payload = ?8, next_run_at = CASE WHEN ?9 THEN ?10 ELSE next_run_at END,
                 updated_at = max(?11, updated_at + 1)
             WHERE id = ?1 AND updated_at = ?12",
        )?
        .execute(params![
            key(it.cron_id),
            it.on_run_completed.as_ref().map(name).transpose()?,
            it.end_time.map(|time| time.0),
            it.schedule,
            it.timezone,
            it.enabled,
            serde_json::to_string(&it.metadata)?,
            serde_json::to_string(&it.payload)?,
            reschedule,
            it.next_run_date.map(|time| time.0),
            it.updated_at.0,
            seen.0,
        ])?;
    Ok(changed == 1)
}

fn cron(row: &Row<'_>) -> Done<Cron> {
    let moment = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp));
    let thread: Option<[u8; 16]> = row.get("thread_id")?;
    let chosen: Option<String> = row.get("on_run_completed")?;
    Ok(Cron {
        cron_id: CronId(uuid(row, "id")?),
        assistant_id: AssistantId(uuid(row, "assistant_id")?),
        thread_id: thread.map(|id| ThreadId(uuid::Uuid::from_bytes(id))),
        on_run_completed: chosen.map(|_| word("cron", row, "on_run_completed")).transpose()?,
        end_time: moment("end_time")?,
        schedule: row.get("schedule")?,
        timezone: row.get("timezone")?,
        enabled: row.get("enabled")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        user_id: String::new(),
        next_run_date: moment("next_run_at")?,
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
