//! Limits in SQLite: the one writer counts what waits and what is executed.

use rusqlite::params;
use threadyard_core::{
    limits::{PerOwner, Places, QueueFull, Rooms},
    runs::{ClaimRuns, MultitaskStrategy, NewRun},
};

use super::{
    Connection, Done,
    rows::{all, key},
};

/// Whether one of those who ask for new runs has too many waiting. What a new run takes the place of does not wait.
pub(super) fn full(connection: &Connection, new: &[&NewRun]) -> Done<Option<QueueFull>> {
    let places = Places::of(new.iter().copied());
    let replaced = match new {
        [new] if replaces(new) => Some(key(new.run.thread_id)),
        _ => None,
    };
    let mut of_user = connection
        .prepare_cached("SELECT count(*) FROM run WHERE user_id = ?1 AND status = 'pending' AND thread_id IS NOT ?2")?;
    for (user, (wanted, limit)) in places.users {
        let waiting: u32 = of_user.query_row(params![user, replaced], |row| row.get(0))?;
        if waiting + wanted > limit {
            return Ok(Some(QueueFull::User(limit)));
        }
    }
    let mut of_assistant = connection.prepare_cached(
        "SELECT count(*) FROM run WHERE assistant_id = ?1 AND user_id IS NOT NULL AND status = 'pending'
             AND thread_id IS NOT ?2",
    )?;
    for (assistant, (wanted, limit)) in places.assistants {
        let waiting: u32 = of_assistant.query_row(params![key(assistant), replaced], |row| row.get(0))?;
        if waiting + wanted > limit {
            return Ok(Some(QueueFull::Assistant(limit)));
        }
    }
    Ok(None)
}

fn replaces(new: &NewRun) -> bool {
    matches!(new.run.multitask_strategy, MultitaskStrategy::Interrupt | MultitaskStrategy::Rollback)
}

/// As that of the queue, with whose runs they are.
pub(super) const OLDEST: &str = "SELECT k, user_id, assistant_id FROM (
        SELECT thread, min(k) AS k, user_id, assistant_id FROM run AS due INDEXED BY run_queue
        WHERE status = 'pending' AND due_at <= ?1
            AND NOT EXISTS (
                SELECT 1 FROM run INDEXED BY run_one_running WHERE run.thread = due.thread AND run.status = 'running')
        GROUP BY thread) AS due
    WHERE NOT EXISTS (
        SELECT 1 FROM run INDEXED BY run_open WHERE run.thread = due.thread AND run.status IN ('pending', 'running')
            AND run.status = 'pending' AND run.k < due.k AND run.due_at <= run.created_at)
    ORDER BY k";

/// The oldest due run of each thread that has none running, as far as their users and assistants have room.
pub(super) fn due(connection: &Connection, claim: &ClaimRuns, limits: PerOwner) -> Done<Vec<i64>> {
    let mut running = connection
        .prepare_cached("SELECT user_id, assistant_id FROM run WHERE status = 'running' AND user_id IS NOT NULL")?;
    let mut rooms = Rooms::<Vec<u8>>::beside(
        limits,
        all(&mut running, &[], |row| Ok((row.get("user_id")?, row.get("assistant_id")?)))?,
    );
    let mut due = connection.prepare_cached(OLDEST)?;
    let mut rows = due.query([claim.now.0])?;
    let mut taken = Vec::new();
    while let Some(row) = rows.next()? {
        let user: Option<String> = row.get("user_id")?;
        let assistant = row.get("assistant_id")?;
        if rooms.take(user.map(|user| (user, assistant))) {
            taken.push(row.get("k")?);
        }
        if taken.len() >= claim.limit as usize {
            break;
        }
    }
    Ok(taken)
}
