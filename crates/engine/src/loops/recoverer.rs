//! Goes on with recoveries of deliveries, also with those that an earlier server began.

use threadyard_core::bus::Topic;

use crate::{
    Engine,
    destinations::{AT_ONCE, PAUSE},
};

pub(super) async fn run(engine: Engine) {
    while !engine.stopping.is_cancelled() {
        let wake = engine.bus.woken(Topic::Recoveries);
        match engine.storage.recover_deliveries(AT_ONCE, engine.ambient.now()).await {
            Ok(Some(recovery)) => {
                engine.settings.faults.reach("recovery.advanced");
                engine.wake(Topic::Deliveries);
                if recovery.finished_at.is_some() {
                    tracing::info!(recovery_id = %recovery.recovery_id, recovery.recovered, "webhook deliveries are sent again");
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            Ok(None) => {}
            Err(error) => tracing::error!(%error, "webhook deliveries could not be recovered; trying again"),
        }
        if !super::wait(&engine, wake, None).await {
            return;
        }
    }
}
