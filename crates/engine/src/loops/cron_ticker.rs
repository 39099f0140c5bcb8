//! Begins the runs of crons. Moments that passed while no server was up are made up for by one run.

use futures_util::future::join_all;
use threadyard_core::{
    bus::Topic,
    crons::{Cron, CronTick, OnRunCompleted},
    runs::{CreatedRun, NewRun},
    sealing::within,
    time::Timestamp,
};

use crate::{Engine, Error, Result, ThreadChoice, crons::run_request, schedule::Schedule};

/// How many crons are treated before the queue is looked at again.
const AT_ONCE: u32 = 100;

pub(super) async fn run(engine: Engine) {
    while !engine.stopping.is_cancelled() {
        let wake = engine.bus.woken(Topic::Crons);
        let due = tick(&engine).await;
        if !super::wait(&engine, wake, due).await {
            return;
        }
    }
}

/// Begins what is due. Returns when the next cron becomes due.
async fn tick(engine: &Engine) -> Option<Timestamp> {
    loop {
        let due = match engine.storage.due_crons(engine.ambient.now(), AT_ONCE).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "crons could not be looked for; trying again");
                return None;
            }
        };
        if due.crons.is_empty() {
            return due.next_due;
        }
        // One whose words take long to encrypt holds up none of the others.
        let fired = join_all(due.crons.iter().map(|cron| within(cron.sealing.clone(), fire(engine, cron)))).await;
        let mut failed = false;
        for (cron, outcome) in due.crons.iter().zip(fired) {
            if let Err(error) = outcome {
                tracing::error!(cron_id = %cron.cron_id, %error, "a cron could not be moved on; trying again");
                failed = true;
            }
        }
        if failed {
            return None;
        }
    }
}

async fn fire(engine: &Engine, cron: &Cron) -> Result<()> {
    let Some(at) = cron.next_run_date else { return Ok(()) };
    let now = engine.ambient.now();
    let next = Schedule::read(&cron.schedule, cron.timezone.as_deref()).and_then(|it| it.after(now.max(at))).ok();
    let run = match prepare(engine, cron).await {
        Ok(new) => Some(new),
        Err(error @ Error::Unavailable(_)) => return Err(error),
        Err(error) => {
            tracing::warn!(cron_id = %cron.cron_id, %error, "a cron's run can't be created; this moment passes");
            None
        }
    };
    let created = run.as_ref().map(|new| new.run.clone());
    let ticked = engine.storage.tick_cron(CronTick { cron_id: cron.cron_id, at, next, run }).await?;
    match (ticked.flatten(), created) {
        (Some(CreatedRun::Created { ended, stopping, .. }), Some(run)) => {
            tracing::info!(cron_id = %cron.cron_id, run_id = %run.run_id, "a cron began a run");
            engine.announce_stopped(&run, ended, stopping).await;
            engine.wake(Topic::Runs);
        }
        (Some(CreatedRun::QueueFull(full)), _) => {
            tracing::info!(cron_id = %cron.cron_id, %full, "the queue of a cron is full; this moment passes");
        }
        (Some(CreatedRun::ThreadBusy), _) => {
            tracing::info!(cron_id = %cron.cron_id, "the thread of a cron is busy; this moment passes");
        }
        _ => {}
    }
    Ok(())
}

async fn prepare(engine: &Engine, cron: &Cron) -> Result<NewRun> {
    let choice = match cron.thread_id {
        Some(thread) => ThreadChoice::Existing(thread, false),
        None => ThreadChoice::New(cron.on_run_completed != Some(OnRunCompleted::Keep)),
    };
    engine.prepare_run(run_request(cron)?, choice, cron.user.as_ref()).await
}
