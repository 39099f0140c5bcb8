//! Settles webhooks while they are disabled, so that nothing is sent later that nobody expects any more.

use threadyard_core::bus::Topic;

use crate::Engine;

pub(super) async fn run(engine: Engine) {
    while !engine.stopping.is_cancelled() {
        let wake = engine.bus.woken(Topic::Deliveries);
        match engine.storage.skip_deliveries(engine.ambient.now()).await {
            Ok(0) => {}
            Ok(skipped) => tracing::warn!(skipped, "webhooks are disabled: what was to be sent is skipped"),
            Err(error) => tracing::error!(%error, "webhooks could not be skipped; trying again"),
        }
        if !super::wait(&engine, wake, None).await {
            return;
        }
    }
}
