//! Crons in SQLite. Moving one on and making its run is one transaction, so that no moment counts twice or not at all.

use async_trait::async_trait;
use rusqlite::{
    Row, params,
    types::{ToSql, ValueRef},
};
use threadyard_core::{
    access::User,
    crons::{Cron, CronQuery, CronSort, CronTick, Crons, DueCrons, UpdatedCron},
    ids::{AssistantId, CronId, ThreadId},
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    runs::CreatedRun,
    sealing::SealingContext,
    storage::Result,
    time::Timestamp,
};

use super::{
    Connection, Done, SqliteStorage,
    assistants::direction,
    rows::{all, first, key, name, object, opened_as, time, uuid, word},
    runs, threads,
};
use crate::cipher::Place;

#[async_trait]
impl Crons for SqliteStorage {
    async fn create_cron(&self, cron: Cron, within: MetadataFilter) -> Result<bool> {
        self.writer
            .write(move |connection| {
                let mut threads = connection.prepare_cached("SELECT 1 FROM thread WHERE id = ?1")?;
                if cron.thread_id.is_some_and(|id| !threads.exists([key(id)]).unwrap_or_default()) {
                    return Ok(false);
                }
                if let Some(thread) = cron.thread_id
                    && !threads::admitted(connection, thread, &within)?
                {
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
                    "SELECT * FROM cron WHERE {MATCHES} ORDER BY {} {}, k DESC LIMIT ?6 OFFSET ?7",
                    column(query.sort_by),
                    direction(query.order)
                );
                let (assistant, thread, metadata, visible) = filter(&query)?;
                let limit = i64::from(window.limit) + 1;
                let parameters: [&dyn ToSql; 7] =
                    [&assistant, &thread, &query.enabled, &metadata, &visible, &limit, &window.offset];
                Ok(Page::from_probe(
                    all(&mut connection.prepare_cached(&sql)?, &parameters, |row| cron(connection, row))?,
                    window,
                ))
            })
            .await
    }

    async fn count_crons(&self, query: CronQuery) -> Result<u64> {
        self.readers
            .read(move |connection| {
                let sql = format!("SELECT count(*) FROM cron WHERE {MATCHES}");
                let (assistant, thread, metadata, visible) = filter(&query)?;
                let count: i64 = connection
                    .prepare_cached(&sql)?
                    .query_row(params![assistant, thread, query.enabled, metadata, visible], |row| row.get(0))?;
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

    async fn delete_cron(&self, id: CronId, within: MetadataFilter) -> Result<bool> {
        self.writer
            .write(move |connection| {
                if find(connection, id)?.is_none_or(|found| !within.admits(&found.metadata)) {
                    return Ok(false);
                }
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
                    crons: all(&mut due, &[&now.0, &limit], |row| cron(connection, row))?,
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
    AND (?3 IS NULL OR enabled = ?3) AND json_has(metadata, ?4) AND json_admits(metadata, ?5)";
/// Of crons that still have something to do.
const OPEN: &str = "enabled AND next_run_at IS NOT NULL AND (end_time IS NULL OR next_run_at <= end_time)";

type Filter = (Option<[u8; 16]>, Option<[u8; 16]>, String, String);

fn filter(query: &CronQuery) -> Done<Filter> {
    let (metadata, visible) = (serde_json::to_string(&query.metadata)?, serde_json::to_string(&query.visible)?);
    Ok((query.assistant_id.map(key), query.thread_id.map(key), metadata, visible))
}

fn find(connection: &Connection, id: CronId) -> Done<Option<Cron>> {
    let mut query = connection.prepare_cached("SELECT * FROM cron WHERE id = ?1")?;
    first(&mut query, &[&key(id)], |row| cron(connection, row))
}

/// What a cron's runs are made from, as its column holds it.
fn payload_of(connection: &Connection, it: &Cron) -> Done<String> {
    let place = Place::Cron("payload", it.cron_id.0);
    Ok(connection.cipher().seal_text(place, serde_json::to_string(&it.payload)?)?.into_owned())
}

fn insert(connection: &Connection, it: &Cron) -> Done<()> {
    let place = Place::Cron("auth_user", it.cron_id.0);
    let user = it.user.as_ref().map(serde_json::to_string).transpose()?;
    connection
        .prepare_cached(
            "INSERT INTO cron (id, assistant_id, thread_id, on_run_completed, end_time, schedule, timezone, enabled,
                 metadata, payload, next_run_at, created_at, updated_at, auth_user)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
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
            payload_of(connection, it)?,
            it.next_run_date.map(|time| time.0),
            it.created_at.0,
            it.updated_at.0,
            user.map(|user| connection.cipher().seal_text(place, user)).transpose()?,
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
            payload_of(connection, it)?,
            reschedule,
            it.next_run_date.map(|time| time.0),
            it.updated_at.0,
            seen.0,
        ])?;
    Ok(changed == 1)
}

fn cron(connection: &Connection, row: &Row<'_>) -> Done<Cron> {
    let id = uuid(row, "id")?;
    let moment = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(Timestamp));
    let thread: Option<[u8; 16]> = row.get("thread_id")?;
    let chosen: Option<String> = row.get("on_run_completed")?;
    let user: Option<User> = match row.get_ref("auth_user")? {
        ValueRef::Null => None,
        _ => Some(opened_as(connection, row, Place::Cron("auth_user", id))?),
    };
    Ok(Cron {
        cron_id: CronId(id),
        assistant_id: AssistantId(uuid(row, "assistant_id")?),
        thread_id: thread.map(|id| ThreadId(uuid::Uuid::from_bytes(id))),
        on_run_completed: chosen.map(|_| word("cron", row, "on_run_completed")).transpose()?,
        end_time: moment("end_time")?,
        schedule: row.get("schedule")?,
        timezone: row.get("timezone")?,
        enabled: row.get("enabled")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        user_id: user.as_ref().map(|user| user.identity().to_owned()).unwrap_or_default(),
        user,
        next_run_date: moment("next_run_at")?,
        metadata: object("cron", row, "metadata")?,
        payload: opened_as(connection, row, Place::Cron("payload", id))?,
        sealing: SealingContext::default(),
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
