//! What goes on by itself. Every loop registers interest in its topic, looks what is due, then waits for a wake, for the
//! next known moment, or for a safety poll; so nothing waits for a poll, and a lost wake costs one poll at most.

mod cron_ticker;
mod dispatcher;
mod leases;
mod recoverer;
mod sweeper;
mod unheard;
mod webhook_sender;
mod webhook_skipper;

use std::time::Duration;

use threadyard_core::{bus::Wake, time::Timestamp};

use crate::Engine;

use self::sweeper::Swept;

/// The longest wait of a loop that nobody wakes.
const SAFETY_POLL: Duration = Duration::from_secs(5);

/// Starts the loops of this server's role; they end when the engine stops.
pub(crate) fn start(engine: &Engine) {
    let role = engine.settings.role;
    engine.tasks.spawn(unheard::run(engine.clone()));
    if role.executes() {
        engine.tasks.spawn(dispatcher::run(engine.clone()));
        engine.tasks.spawn(cron_ticker::run(engine.clone()));
        engine.tasks.spawn(leases::run(engine.clone()));
        for what in Swept::ALL {
            engine.tasks.spawn(sweeper::run(engine.clone(), what));
        }
    }
    if engine.settings.webhooks_enabled && engine.reach.is_some() {
        engine.tasks.spawn(webhook_sender::run(engine.clone()));
    }
    match (role.sends(), engine.settings.webhooks_enabled) {
        (false, _) => {}
        (true, true) => drop(engine.tasks.spawn(recoverer::run(engine.clone()))),
        (true, false) => drop(engine.tasks.spawn(webhook_skipper::run(engine.clone()))),
    }
}

/// Waits for the wake, for `due`, or for the safety poll. Says whether the loop goes on.
async fn wait(engine: &Engine, wake: Wake, due: Option<Timestamp>) -> bool {
    let until_due = due.map_or(SAFETY_POLL, |due| due.since(engine.ambient.now()).min(SAFETY_POLL));
    tokio::select! {
        () = engine.stopping.cancelled() => false,
        () = wake => true,
        () = tokio::time::sleep(until_due) => true,
    }
}
