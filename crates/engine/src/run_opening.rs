//! What users say in a claimed run: the project's own handlers may have to decrypt it before it can be executed. Meanwhile
//! its lease is renewed, and other runs go on.

use threadyard_core::{
    cancel::CancelAction,
    runs::{ClaimedRun, GivenBack, Run, RunError},
    runtime::{RuntimeError, StopReason},
    sealing::FAILURE,
    storage::StorageError,
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    Engine,
    cancel::by_deletion,
    run_task::{Outcome, lost, refused, requested},
};

/// The run as it can be read, or what becomes of it instead.
pub(crate) async fn opened(
    engine: &Engine,
    claimed: ClaimedRun,
    run: &Run,
    stops: &mut mpsc::UnboundedReceiver<StopReason>,
) -> Result<ClaimedRun, Outcome> {
    let opening = timeout(engine.settings.decrypt_within, engine.storage.open_claimed(claimed));
    tokio::select! {
        opened = opening => match opened {
            Ok(Ok(claimed)) => Ok(claimed),
            Ok(Err(error @ StorageError::Sealing(_))) => Err(unreadable(engine, run, &error)),
            Ok(Err(error)) => Err(lost(engine, run, &RuntimeError::Storage(error))),
            Err(_) => Err(late(engine, run)),
        },
        Some(reason) = stops.recv() => Err(stopped(engine, run, reason).await),
    }
}

/// Whatever the handlers wait for may be back later, but not for ever.
fn late(engine: &Engine, run: &Run) -> Outcome {
    let (waited, attempts) = (engine.settings.decrypt_within.as_secs(), run.counted_attempts());
    if engine.stopping.is_cancelled() {
        return Outcome::HandOver { why: GivenBack::Blameless, pause: false };
    }
    if attempts < engine.settings.max_attempts {
        tracing::warn!(run_id = %run.run_id, attempts, "the run was not decrypted within {waited} s, and waits");
        return Outcome::HandOver { why: GivenBack::Failed, pause: true };
    }
    let why = format!("the run was not decrypted within {waited} s, and none of its {attempts} attempts is left");
    unreadable(engine, run, &StorageError::Sealing(why))
}

/// Nobody can execute it, and it leaves its thread as it was.
fn unreadable(engine: &Engine, run: &Run, why: &StorageError) -> Outcome {
    tracing::error!(run_id = %run.run_id, %why, "a run can't be decrypted, and ends");
    let mut outcome = refused(engine, RunError { error: FAILURE.into(), message: why.to_string() });
    if let Outcome::Ended(ending, _) = &mut outcome {
        ending.unsealed = true;
    }
    outcome
}

/// It was told to stop before anything of it was done.
async fn stopped(engine: &Engine, run: &Run, reason: StopReason) -> Outcome {
    let action = match reason {
        StopReason::Interrupt => CancelAction::Interrupt,
        StopReason::Rollback => CancelAction::Rollback,
        StopReason::Drain | StopReason::Timeout | StopReason::Storage => {
            return Outcome::HandOver { why: GivenBack::Blameless, pause: false };
        }
    };
    let cancel = requested(engine, run).await.unwrap_or_else(|| by_deletion(action));
    Outcome::Ended(Box::new(cancel.ending(engine.ambient.now())), None)
}
