//! Ends the streams of runs that ended while nobody could be heard: their server died, or the way to it was cut.

use std::time::Duration;

use threadyard_core::{bus::Closing, ids::RunId, runs::RunError, storage::Result};

use crate::{Engine, stream::failed_result};

const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn run(engine: Engine) {
    loop {
        for run_id in engine.bus.unheard() {
            if let Err(error) = look(&engine, run_id).await {
                tracing::error!(%run_id, %error, "whether a run that is not heard of has ended could not be read");
            }
        }
        tokio::select! {
            () = engine.stopping.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look(engine: &Engine, run_id: RunId) -> Result<()> {
    match engine.storage.run_by_id(run_id).await? {
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
