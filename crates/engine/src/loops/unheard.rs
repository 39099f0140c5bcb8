//! Ends the streams of runs that ended while nobody could be heard: their server died, or the way to it was cut.

use std::time::Duration;

use futures_util::future::join_all;
use threadyard_core::{
    bus::Closing,
    ids::RunId,
    runs::RunError,
    storage::{Result, StorageError},
};

use crate::{Engine, stream::failed_result};

const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(engine: Engine) {
    loop {
        // One whose row takes long to decrypt holds up none of the others.
        join_all(engine.bus.unheard().into_iter().map(|run_id| look(&engine, run_id))).await;
        tokio::select! {
            () = engine.stopping.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look(engine: &Engine, run_id: RunId) {
    if let Err(error) = close_ended(engine, run_id).await {
        tracing::error!(%run_id, %error, "whether a run that is not heard of has ended could not be read");
    }
}

async fn close_ended(engine: &Engine, run_id: RunId) -> Result<()> {
    let found = match engine.storage.run_by_id(run_id).await {
        // That it has ended is told by its not being open, whatever else can't be decrypted.
        Err(StorageError::Sealing(_)) => {
            let open = engine.storage.open_runs(None).await?;
            if open.iter().all(|(_, open)| *open != run_id) {
                engine.bus.close(run_id, Closing::default());
            }
            return Ok(());
        }
        found => found?,
    };
    match found {
        Some(run) if run.status.is_terminal() => engine.bus.close(run_id, Closing::default()),
        Some(_) => {}
        // It took its thread with it, or its work was undone: storage knows nothing of it.
        None => {
            let message = "the run has ended, and what it resulted in was lost on the way to this server".into();
            let error = RunError { error: "ResultLost".into(), message };
            engine.bus.close(run_id, Closing { result: Some(failed_result(&error)) });
        }
    }
    Ok(())
}
