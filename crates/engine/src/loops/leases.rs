//! Keeps the leases of running runs alive, and takes back runs whose leases ended.

use threadyard_core::{bus::Topic, runs::ExpireLeases};

use crate::Engine;

pub(super) async fn run(engine: Engine) {
    loop {
        tick(&engine).await;
        tokio::select! {
            () = engine.stopping.cancelled() => return,
            () = tokio::time::sleep(engine.settings.lease / 4) => {}
        }
    }
}

async fn tick(engine: &Engine) {
    let now = engine.ambient.now();
    if let Err(error) = engine.storage.extend_leases(engine.running.leases(), now + engine.settings.lease).await {
        tracing::error!(%error, "leases could not be renewed");
    }
    let expire = ExpireLeases { now, max_attempts: engine.settings.max_attempts };
    match engine.storage.expire_leases(expire).await {
        Ok(expired) => {
            for (run, ending) in expired.ended {
                tracing::warn!(%run.run_id, "the run ended because its server died too often or was asked to stop it");
                engine.announce_ending(&run, &ending);
            }
            if !expired.requeued.is_empty() {
                tracing::warn!(runs = expired.requeued.len(), "runs whose server died are taken up again");
                engine.bus.wake(Topic::Runs);
            }
        }
        Err(error) => tracing::error!(%error, "ended leases could not be looked for"),
    }
}
