//! Removes what is kept no longer.

use std::time::Duration;

use threadyard_core::{retention::DeliveryTimes, storage::Result, webhooks::Overdue};

use crate::{Engine, Sweep};

/// Something that is swept.
#[derive(Clone, Copy, Debug)]
pub(super) enum Swept {
    Threads,
    Items,
    Overdue,
    Deliveries,
    PushConfigs,
    Events,
}

impl Swept {
    pub(super) const ALL: [Self; 6] =
        [Self::Threads, Self::Items, Self::Overdue, Self::Deliveries, Self::PushConfigs, Self::Events];
}

/// The shortest time between two sweeps of events.
const SHORTEST: Duration = Duration::from_secs(1);

pub(super) async fn run(engine: Engine, what: Swept) {
    let usual = Sweep::default();
    let sweep = match what {
        Swept::Threads => engine.settings.sweep,
        Swept::Items => engine.settings.item_sweep,
        Swept::Overdue | Swept::Deliveries | Swept::PushConfigs => usual,
        Swept::Events => Sweep { every: engine.settings.events_kept.clamp(SHORTEST, usual.every), ..usual },
    };
    loop {
        tick(&engine, what, sweep).await;
        tokio::select! {
            () = engine.stopping.cancelled() => return,
            () = tokio::time::sleep(sweep.every) => {}
        }
    }
}

/// Sweeps until nothing is left, in transactions that are short enough for others.
async fn tick(engine: &Engine, what: Swept, sweep: Sweep) {
    loop {
        match sweep_once(engine, what, sweep.limit).await {
            Ok(0) => return,
            Ok(count) => {
                tracing::info!(count, "{what:?} whose time was over were swept");
                if count < u64::from(sweep.limit) || engine.stopping.is_cancelled() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "{what:?} whose time is over could not be swept");
                return;
            }
        }
    }
}

async fn sweep_once(engine: &Engine, what: Swept, limit: u32) -> Result<u64> {
    let now = engine.ambient.now();
    match what {
        Swept::Threads => {
            let swept = engine.storage.sweep_threads(now, limit).await?;
            Ok((swept.deleted.len() + swept.pruned.len()) as u64)
        }
        Swept::Items => engine.storage.sweep_items(now, limit).await,
        Swept::Overdue => {
            let overdue = Overdue { begun_before: now - engine.settings.webhook_pace.deadline(), now };
            let given_up = engine.storage.give_up_deliveries(overdue, limit).await?;
            let count = given_up.len() as u64;
            for delivery in given_up {
                tracing::error!(
                    webhook_id = delivery.id,
                    "webhook given up: its receiver could not be reached in all the time there was"
                );
                engine.metrics.webhooks.given_up(delivery.event);
            }
            Ok(count)
        }
        Swept::Deliveries => {
            let kept = engine.settings.deliveries_kept;
            let before = DeliveryTimes { body: now - kept.body, row: now - kept.row };
            engine.storage.sweep_deliveries(before, limit).await
        }
        Swept::PushConfigs => engine.storage.sweep_push_configs(limit).await,
        Swept::Events => engine.storage.sweep_events(now - engine.settings.events_kept, limit).await,
    }
}
