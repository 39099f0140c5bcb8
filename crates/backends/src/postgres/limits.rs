//! Limits in PostgreSQL: whoever counts what waits, or what is executed, keeps other servers from adding to it until the
//! end of the transaction.

use threadyard_core::{
    ids::AssistantId,
    limits::{PerOwner, Places, QueueFull, Rooms},
    runs::{ClaimRuns, MultitaskStrategy, NewRun},
};
use uuid::Uuid;

use super::{
    Client,
    failures::Done,
    queue::NEXT_OF_THREAD,
    rows::{Parameter, Text, all, both, get},
};

/// Held by whoever counts; its number is that of a text.
const ALONE: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
/// What holds the lock who claims runs.
const CLAIMING: &str = "runs are claimed";

/// Whether one of those who ask for new runs has too many waiting. What a new run takes the place of does not wait.
pub(super) async fn full(client: &Client, new: &[&NewRun]) -> Done<Option<QueueFull>> {
    let places = Places::of(new.iter().copied());
    let replaced = match new {
        [new] if replaces(new) => Some(new.run.thread_id.0),
        _ => None,
    };
    // Everybody takes the locks in this order, so that nobody waits for who waits for them.
    for (user, (wanted, limit)) in places.users {
        let lock = format!("pending of user {user}");
        if waiting(client, &lock, OF_USER, (&Text(user), &replaced)).await? + i64::from(wanted) > i64::from(limit) {
            return Ok(Some(QueueFull::User(limit)));
        }
    }
    for (AssistantId(assistant), (wanted, limit)) in places.assistants {
        let lock = format!("pending of assistant {assistant}");
        let waiting = waiting(client, &lock, OF_ASSISTANT, (&assistant, &replaced)).await?;
        if waiting + i64::from(wanted) > i64::from(limit) {
            return Ok(Some(QueueFull::Assistant(limit)));
        }
    }
    Ok(None)
}

/// How many runs of a user wait.
const OF_USER: &str =
    "SELECT count(*) AS waiting FROM run WHERE user_id = $1 AND status = 'pending' AND thread_id IS DISTINCT FROM $2";
/// How many runs of an assistant wait.
const OF_ASSISTANT: &str = "SELECT count(*) AS waiting FROM run WHERE assistant_id = $1
    AND user_id IS NOT NULL AND status = 'pending' AND thread_id IS DISTINCT FROM $2";

async fn waiting(
    client: &Client,
    lock: &str,
    sql: &str,
    (owner, replaced): (Parameter<'_>, Parameter<'_>),
) -> Done<i64> {
    let (_, rows) = both(client, (ALONE, &[&Text(lock)]), (sql, &[owner, replaced])).await?;
    rows.first().map_or(Ok(0), |row| get(row, "waiting"))
}

fn replaces(new: &NewRun) -> bool {
    matches!(new.run.multitask_strategy, MultitaskStrategy::Interrupt | MultitaskStrategy::Rollback)
}

/// The oldest due run of each thread that has none running, as far as their users and assistants have room.
pub(super) async fn due(client: &Client, claim: &ClaimRuns, limits: PerOwner) -> Done<Vec<i64>> {
    let running = "SELECT user_id, assistant_id FROM run WHERE status = 'running' AND user_id IS NOT NULL";
    let (_, running) = both(client, (ALONE, &[&Text(CLAIMING)]), (running, &[])).await?;
    let running = running.iter().map(|row| Done::Ok((get(row, "user_id")?, get(row, "assistant_id")?)));
    let mut rooms = Rooms::<Uuid>::beside(limits, running.collect::<Done<Vec<_>>>()?);
    // Those who have no room left are passed over, so that they do not fill the page.
    let sql = format!(
        "SELECT k, user_id, assistant_id FROM run AS due WHERE {NEXT_OF_THREAD}
             AND (user_id IS NULL OR user_id <> ALL($3::text[]) AND assistant_id <> ALL($4::uuid[]))
             AND k <> ALL($5::bigint[])
         ORDER BY due_at, k LIMIT $2"
    );
    let (limit, mut taken) = (i64::from(claim.limit), Vec::new());
    loop {
        let (users, assistants) = (rooms.full_users(), rooms.full_assistants());
        let rows = all(client, &sql, &[&claim.now.0, &limit, &users, &assistants, &taken]).await?;
        for row in &rows {
            let user = get::<Option<String>>(row, "user_id")?;
            let assistant = get(row, "assistant_id")?;
            if taken.len() < claim.limit as usize && rooms.take(user.map(|user| (user, assistant))) {
                taken.push(get(row, "k")?);
            }
        }
        if taken.len() >= claim.limit as usize || rows.len() < claim.limit as usize {
            return Ok(taken);
        }
    }
}
