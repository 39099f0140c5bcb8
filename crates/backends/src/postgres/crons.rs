//! Crons in PostgreSQL. Moving one on and making its run is one transaction, so that no moment counts twice or not at all,
//! however many servers look at it.

use async_trait::async_trait;
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
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Client, PostgresStorage,
    assistants::direction,
    failures::Done,
    metadata::{self, Wanted},
    rows::{
        Parameter, Text, both, execute, first, get, name, object, opened_as, optional_string, optional_time, string,
        time, uuid, word,
    },
    runs,
    sql::Sql,
    threads,
};
use crate::cipher::{Cipher, Place};

#[async_trait]
impl Crons for PostgresStorage {
    async fn create_cron(&self, cron: Cron, within: MetadataFilter) -> Result<bool> {
        self.transact((cron, within), |client, (cron, within)| {
            Box::pin(async move {
                if let Some(thread) = cron.thread_id
                    && !threads::admitted(client, thread, within).await?
                {
                    return Ok(false);
                }
                insert(client, cron).await
            })
        })
        .await
    }

    async fn cron(&self, id: CronId) -> Result<Option<Cron>> {
        Ok(find(&self.client().await?, id).await?)
    }

    async fn search_crons(&self, query: CronQuery, window: Window) -> Result<Page<Cron>> {
        let mut sql = matching("*", &query);
        sql.add(&format!("ORDER BY {} {}, k DESC", column(query.sort_by), direction(query.order)));
        let mut client = self.client().await?;
        let cipher = client.cipher().clone();
        let found = metadata::find(&mut client, sql, wanted(&query), window, |row| cron(&cipher, row)).await?;
        Ok(Page::from_probe(found, window))
    }

    async fn count_crons(&self, query: CronQuery) -> Result<u64> {
        let sql = matching("metadata", &query);
        Ok(metadata::count(&mut self.client().await?, sql, wanted(&query)).await?)
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

    async fn delete_cron(&self, id: CronId, within: MetadataFilter) -> Result<bool> {
        self.transact((id, within), |client, (id, within)| {
            Box::pin(async move {
                let sql = "SELECT * FROM cron WHERE id = $1 FOR UPDATE";
                let found = first(client, sql, &[&id.0]).await?.map(|row| cron(client.cipher(), &row)).transpose()?;
                if found.is_none_or(|found| !within.admits(&found.metadata)) {
                    return Ok(false);
                }
                Ok(execute(client, "DELETE FROM cron WHERE id = $1", &[&id.0]).await? == 1)
            })
        })
        .await
    }

    async fn due_crons(&self, now: Timestamp, limit: u32) -> Result<DueCrons> {
        let due = format!("SELECT * FROM cron WHERE {OPEN} AND next_run_at <= $1 ORDER BY next_run_at LIMIT $2");
        let next = format!("SELECT min(next_run_at) AS next FROM cron WHERE {OPEN} AND next_run_at > $1");
        let client = self.client().await?;
        let (due, next) = both(&client, (&due, &[&now.0, &i64::from(limit)]), (&next, &[&now.0])).await?;
        let next_due = next.first().map(|row| optional_time(row, "next")).transpose()?.flatten();
        Ok(DueCrons { crons: due.iter().map(|row| cron(client.cipher(), row)).collect::<Done<_>>()?, next_due })
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
    metadata::narrow(&mut sql, "metadata", wanted(query));
    sql
}

fn wanted(query: &CronQuery) -> Wanted<'_> {
    Wanted { pattern: &query.metadata, visible: &query.visible }
}

async fn find(client: &Client, id: CronId) -> Done<Option<Cron>> {
    let found = first(client, "SELECT * FROM cron WHERE id = $1", &[&id.0]).await?;
    found.map(|row| cron(client.cipher(), &row)).transpose()
}

/// What a cron's runs are made from, as its column holds it.
fn payload_of(cipher: &Cipher, it: &Cron) -> Done<String> {
    let place = Place::Cron("payload", it.cron_id.0);
    Ok(cipher.seal_text(place, serde_json::to_string(&it.payload)?)?.into_owned())
}

/// Makes a cron, unless its thread is not there. Says whether it did.
async fn insert(client: &Client, it: &Cron) -> Done<bool> {
    // The thread is held, so that it can't be deleted without its cron.
    let sql = "WITH place AS (SELECT 1 FROM thread WHERE id = $3 FOR KEY SHARE)
         INSERT INTO cron (id, assistant_id, thread_id, on_run_completed, end_time, schedule, timezone, enabled,
             metadata, payload, next_run_at, created_at, updated_at, auth_user)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14
         WHERE $3::uuid IS NULL OR EXISTS (SELECT 1 FROM place)";
    let user = it.user.as_ref().map(serde_json::to_string).transpose()?;
    let parameters: [Parameter<'_>; 14] = [
        &it.cron_id.0,
        &it.assistant_id.0,
        &it.thread_id.map(|id| id.0),
        &it.on_run_completed.as_ref().map(name).transpose()?,
        &it.end_time.map(|time| time.0),
        &Text(&it.schedule),
        &it.timezone.as_deref().map(Text),
        &it.enabled,
        &serde_json::to_string(&it.metadata)?,
        &payload_of(client.cipher(), it)?,
        &it.next_run_date.map(|time| time.0),
        &it.created_at.0,
        &it.updated_at.0,
        &user.map(|user| client.cipher().seal_text(Place::Cron("auth_user", it.cron_id.0), user)).transpose()?,
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
        &payload_of(client.cipher(), it)?,
        &reschedule,
        &it.next_run_date.map(|time| time.0),
        &it.updated_at.0,
        &seen.0,
    ];
    first(client, sql, &parameters).await?.map(|row| cron(client.cipher(), &row)).transpose()
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

fn cron(cipher: &Cipher, row: &Row) -> Done<Cron> {
    let id = uuid(row, "id")?;
    let chosen: Option<&str> = get(row, "on_run_completed")?;
    let user: Option<User> = match get::<Option<&str>>(row, "auth_user")? {
        None => None,
        Some(_) => Some(opened_as(cipher, row, Place::Cron("auth_user", id))?),
    };
    Ok(Cron {
        cron_id: CronId(id),
        assistant_id: AssistantId(uuid(row, "assistant_id")?),
        thread_id: get::<Option<Uuid>>(row, "thread_id")?.map(ThreadId),
        on_run_completed: chosen.map(|_| word("cron", row, "on_run_completed")).transpose()?,
        end_time: optional_time(row, "end_time")?,
        schedule: string(row, "schedule")?,
        timezone: optional_string(row, "timezone")?,
        enabled: get(row, "enabled")?,
        created_at: time(row, "created_at")?,
        updated_at: time(row, "updated_at")?,
        user_id: user.as_ref().map(|user| user.identity().to_owned()).unwrap_or_default(),
        user,
        next_run_date: optional_time(row, "next_run_at")?,
        metadata: object("cron", row, "metadata")?,
        payload: opened_as(cipher, row, Place::Cron("payload", id))?,
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
