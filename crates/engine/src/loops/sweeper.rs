//! Removes what is kept no longer.

use crate::Engine;

pub(super) async fn run(engine: Engine) {
    loop {
        tick(&engine).await;
        tokio::select! {
            () = engine.stopping.cancelled() => return,
            () = tokio::time::sleep(engine.settings.sweep.every) => {}
        }
    }
}

/// Sweeps until nothing is left, in transactions that are short enough for others.
async fn tick(engine: &Engine) {
    let limit = engine.settings.sweep.limit;
    loop {
        match engine.storage.sweep_threads(engine.ambient.now(), limit).await {
            Ok(swept) => {
                let count = swept.deleted.len() + swept.pruned.len();
                if count > 0 {
                    let (deleted, pruned) = (swept.deleted.len(), swept.pruned.len());
                    tracing::info!(deleted, pruned, "threads whose time was over were swept");
                }
                if count < limit as usize || engine.stopping.is_cancelled() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "threads whose time is over could not be swept");
                return;
            }
        }
    }
}
