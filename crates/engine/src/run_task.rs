//! Drives one claimed run from its first event to its end.

use bytes::Bytes;
use serde_json::json;
use threadyard_core::{
    bus::{Closing, Topic},
    cancel::{CancelAction, CancelRequest},
    event_streaming::{Lifecycle, answered, lifecycle},
    json::{RawJson, raw},
    runs::{ClaimedRun, EndStatus, Ending, GivenBack, Run, RunError},
    runtime::{RunEnd, RunEndStatus, RunJob, RunSession, RuntimeError, SessionEvent, StopReason},
    sealing::{FAILURE, within},
    storage::StorageError,
    stream::StreamEvent,
    threads::{SavedState, ThreadOutcome, ThreadStatus, ThreadUpdate},
    time::Timestamp,
    trace_context::TraceContext,
};
use tokio::{sync::mpsc, time::Instant};

use crate::{
    Engine, answers,
    cancel::{by_deletion, stop_reason},
    events::Voice,
    left_behind::{left_behind, nothing},
    run_config,
    run_ending::{announce, record},
    run_opening::opened,
    run_traces,
    slots::Taken,
    stream::failed_result,
};

/// What executing a run came to.
pub(crate) enum Outcome {
    /// It ended for good; `wait` answers the result.
    Ended(Box<Ending>, Option<Bytes>),
    /// Another attempt has to go on.
    HandOver {
        /// Why this one does not.
        why: GivenBack,
        /// Whether the next attempt would only meet the same if it came at once.
        pause: bool,
    },
}

/// A run that was there so often when a shared worker died gets a worker of its own.
const QUARANTINED: u32 = 2;

/// Has a claimed run executed.
pub(crate) fn begin(engine: &Engine, claimed: ClaimedRun, slot: Taken) {
    let engine = engine.clone();
    engine.metrics.runs.begun(&claimed.run);
    // From now on this server speaks for the run.
    let voice = Voice::of(&engine, &claimed);
    engine.tasks.clone().spawn(async move {
        let sealing = claimed.sealing.clone();
        let others_wait = within(sealing, drive(&engine, claimed, voice)).await;
        let others_wait = others_wait || engine.settings.run_limits.running.limits();
        if engine.slots.give_back(slot) || others_wait {
            engine.wake(Topic::Runs);
        }
    });
}

/// Executes the run and records how it ended. Says whether another run, or this one again, may wait for it.
async fn drive(engine: &Engine, claimed: ClaimedRun, mut voice: Voice) -> bool {
    // As far as it can be read before it is opened.
    let mut run = claimed.run.clone();
    let mut span = engine.traces.begin(TraceContext::of(&run.kwargs.config).as_ref(), || run_traces::begun(&run));
    let lease = claimed.lease;
    let mut stops = engine.running.enter(lease);
    engine.settings.faults.reach("run.claimed");

    let mut outcome = match opened(engine, claimed, &run, &mut stops).await {
        Ok(mut claimed) => {
            run = claimed.run.clone();
            if let Some(trace) = span.context() {
                trace.note(&mut claimed.run.kwargs.config);
            }
            execute(engine, claimed, &run, stops, &mut voice).await
        }
        Err(outcome) => outcome,
    };
    let mut recorded = record(engine, lease, &outcome).await;
    if let Err(StorageError::Sealing(why)) = recorded {
        // What the run came to can't be stored; that it failed can.
        outcome = unsealed(engine, &run, why);
        recorded = record(engine, lease, &outcome).await;
    }
    engine.running.leave(lease);
    match recorded {
        Ok(others_wait) => {
            run_traces::ended(&mut span, &outcome);
            announce(engine, &run, outcome, voice).await;
            return others_wait;
        }
        Err(StorageError::LeaseLost) => {
            span.fail("lease_lost");
            tracing::warn!(run_id = %run.run_id, attempt = run.attempt, "the run was taken over or deleted; what this attempt did is dropped");
            // The stream goes on with the next attempt, if there is one.
            let left = engine.storage.run_by_id(run.run_id).await;
            if left.is_ok_and(|left| left.is_none_or(|run| run.status.is_terminal())) {
                engine.bus.close(run.run_id, Closing::default());
            } else {
                engine.bus.hand_over(run.run_id);
            }
        }
        // The lease ends by itself, and the run is taken up again when storage is back.
        Err(error) => {
            span.fail("storage");
            tracing::error!(run_id = %run.run_id, %error, "the end of the run could not be stored");
            engine.bus.hand_over(run.run_id);
        }
    }
    true
}

async fn execute(
    engine: &Engine,
    claimed: ClaimedRun,
    run: &Run,
    mut stops: mpsc::UnboundedReceiver<StopReason>,
    voice: &mut Voice,
) -> Outcome {
    if let Err(error) = begun(engine, run, voice).await {
        return lost(engine, run, &RuntimeError::Storage(error));
    }
    match answers::refusal(engine, run).await {
        Ok(None) => {}
        Ok(Some(error)) => return refused(engine, error),
        Err(error) => return lost(engine, run, &RuntimeError::Storage(error)),
    }
    let mut session = match engine.runtime.start(job(claimed)).await {
        Ok(session) => session,
        Err(error) => return lost(engine, run, &error),
    };
    // A request that came before this run could be signalled is on its row.
    let mut cancel = requested(engine, run).await;
    let (mut stopped, mut abandoned) = (None, false);
    if let Some(request) = &cancel {
        stop(session.as_ref(), stop_reason(request.action), &mut stopped);
    }
    let timeout = tokio::time::sleep(engine.settings.run_timeout);
    tokio::pin!(timeout);
    // Re-armed when the run is told to stop.
    let patience = tokio::time::sleep(engine.settings.stop_within);
    tokio::pin!(patience);
    loop {
        let stopping = stopped.is_some();
        tokio::select! {
            event = session.next() => match event {
                SessionEvent::Events(events) => if let Err(error) = voice.say(events).await {
                    return lost(engine, run, &RuntimeError::Storage(error));
                },
                SessionEvent::Ended(end) => return ended(engine, run, end, stopped, cancel),
                // It was ended because it did not stop by itself.
                SessionEvent::Lost(_) if abandoned => {
                    let end = match stopped {
                        Some(StopReason::Interrupt | StopReason::Timeout) => left_behind(engine, run).await,
                        _ => nothing(RunEndStatus::Cancelled),
                    };
                    return ended(engine, run, end, stopped, cancel);
                }
                SessionEvent::Lost(error) => return lost(engine, run, &error),
            },
            Some(reason) = stops.recv() => {
                cancel = requested(engine, run).await;
                stop(session.as_ref(), reason, &mut stopped);
            }
            () = &mut timeout, if !stopping => stop(session.as_ref(), StopReason::Timeout, &mut stopped),
            () = &mut patience, if stopping && !abandoned => {
                tracing::warn!(run_id = %run.run_id, "the run does not stop; its worker is ended");
                session.abandon();
                abandoned = true;
            }
        }
        if !stopping && stopped.is_some() {
            patience.as_mut().reset(Instant::now() + engine.settings.stop_within);
        }
    }
}

/// Says that the attempt begins.
async fn begun(engine: &Engine, run: &Run, voice: &mut Voice) -> Result<(), StorageError> {
    let attempt = StreamEvent::of("metadata", &json!({ "run_id": run.run_id, "attempt": run.attempt }));
    if run.kwargs.event_streaming() && voice.begin_block(run.thread_id).await? {
        let now = engine.ambient.now();
        let running = lifecycle(run, Lifecycle::Running, None, now);
        let told = [Some(running), answered(run, now), Some(attempt)];
        return voice.say(told.into_iter().flatten().collect()).await;
    }
    voice.say(vec![attempt]).await
}

fn stop(session: &dyn RunSession, reason: StopReason, stopped: &mut Option<StopReason>) {
    if stopped.is_none() {
        *stopped = Some(reason);
        session.cancel(reason);
    }
}

pub(crate) async fn requested(engine: &Engine, run: &Run) -> Option<CancelRequest> {
    engine.storage.cancel_request(run.run_id).await.unwrap_or_else(|error| {
        tracing::warn!(run_id = %run.run_id, %error, "whether the run is to stop could not be read");
        None
    })
}

fn job(claimed: ClaimedRun) -> RunJob {
    let config = run_config::for_attempt(&claimed);
    let ClaimedRun { run, lease, head, resume, .. } = claimed;
    let alone = run.shared_losses >= QUARANTINED;
    let kwargs = run.kwargs;
    RunJob {
        lease,
        thread_id: run.thread_id,
        assistant_id: run.assistant_id,
        graph_id: run.graph_id,
        attempt: run.attempt,
        input: kwargs.input,
        command: kwargs.command,
        config,
        context: kwargs.context,
        modes: kwargs.stream_mode,
        subgraphs: kwargs.subgraphs,
        durability: kwargs.durability,
        interrupt_before: kwargs.interrupt_before,
        interrupt_after: kwargs.interrupt_after,
        head,
        resume,
        alone,
    }
}

/// The execution came to an end that the worker could report.
fn ended(
    engine: &Engine,
    run: &Run,
    end: RunEnd,
    stopped: Option<StopReason>,
    cancel: Option<CancelRequest>,
) -> Outcome {
    let at = engine.ambient.now();
    match (end.status, stopped) {
        (_, Some(StopReason::Rollback)) => {
            let cancel = cancel.unwrap_or_else(|| by_deletion(CancelAction::Rollback));
            Outcome::Ended(Box::new(cancel.ending(at)), None)
        }
        (RunEndStatus::Cancelled, Some(StopReason::Drain)) => {
            Outcome::HandOver { why: GivenBack::Blameless, pause: false }
        }
        (RunEndStatus::Cancelled, Some(StopReason::Timeout)) => {
            let message = format!("the run took longer than {} s", engine.settings.run_timeout.as_secs());
            let error = Some(RunError { error: "TimeoutError".into(), message });
            let ending = Ending {
                status: EndStatus::Timeout,
                error,
                cause: None,
                values: None,
                thread: None,
                at,
                unsealed: false,
            };
            stopped_ending(engine, end, ending)
        }
        (RunEndStatus::Cancelled, Some(StopReason::Interrupt)) => {
            let cancel = cancel.unwrap_or_else(|| by_deletion(CancelAction::Interrupt));
            stopped_ending(engine, end, Ending { status: EndStatus::Interrupted, ..cancel.ending(at) })
        }
        (RunEndStatus::Success, _) => {
            let result = bytes(end.result.as_ref().or(end.values.as_ref()));
            let values = end.values.clone();
            let rest = if end.has_next { ThreadStatus::Interrupted } else { ThreadStatus::Idle };
            let thread = Some(thread_update(engine, end, rest, None));
            Outcome::Ended(
                Box::new(Ending {
                    status: EndStatus::Success,
                    error: None,
                    cause: None,
                    values,
                    thread,
                    at,
                    unsealed: false,
                }),
                result,
            )
        }
        (RunEndStatus::Error | RunEndStatus::Cancelled, _) => {
            let error = match &end.error {
                Some(raised) => {
                    tracing::warn!(run_id = %run.run_id, graph_id = run.graph_id, error = raised.error, traceback = raised.traceback.as_deref().unwrap_or_default(), "the graph raised");
                    RunError { error: raised.error.clone(), message: raised.message.clone() }
                }
                None => {
                    RunError { error: "CancelledError".into(), message: "the run was cancelled by its own code".into() }
                }
            };
            failed(engine, end, error, at)
        }
    }
}

/// The run is not to begin, and leaves its thread as it was.
pub(crate) fn refused(engine: &Engine, error: RunError) -> Outcome {
    let (status, result) = (EndStatus::Error, failed_result(&error));
    let at = engine.ambient.now();
    let ending = Ending { status, error: Some(error), cause: None, values: None, thread: None, at, unsealed: false };
    Outcome::Ended(Box::new(ending), Some(result))
}

/// The worker is gone, or never could begin.
pub(crate) fn lost(engine: &Engine, run: &Run, error: &RuntimeError) -> Outcome {
    tracing::warn!(run_id = %run.run_id, run_attempt = run.attempt, %error, "the attempt failed");
    let at = engine.ambient.now();
    let why = match error {
        RuntimeError::WorkerLost(_) if engine.stopping.is_cancelled() => Some(GivenBack::Blameless),
        RuntimeError::Storage(StorageError::Sealing(_)) => None,
        // Nothing of the run has begun where there was no worker for it; one of its own it may have spoilt itself.
        RuntimeError::Unavailable(_) if run.shared_losses >= QUARANTINED && !engine.stopping.is_cancelled() => {
            Some(GivenBack::Failed)
        }
        RuntimeError::Displaced
        | RuntimeError::Unavailable(_)
        | RuntimeError::Storage(StorageError::Unavailable(_)) => Some(GivenBack::Blameless),
        RuntimeError::SharedWorkerLost(_) => Some(GivenBack::SharedLoss),
        RuntimeError::WorkerLost(_) | RuntimeError::Storage(_) => Some(GivenBack::Failed),
        _ => None,
    };
    let attempts = run.counted_attempts();
    match why {
        Some(GivenBack::Failed) if attempts >= engine.settings.max_attempts => {}
        Some(why) => {
            let pause =
                matches!(error, RuntimeError::Unavailable(_) | RuntimeError::Storage(StorageError::Unavailable(_)));
            return Outcome::HandOver { why, pause };
        }
        None => {}
    }
    let error = match error {
        RuntimeError::BrokenGraph { error, .. } | RuntimeError::Raised(error) | RuntimeError::Refused { error, .. } => {
            RunError { error: error.error.clone(), message: error.message.clone() }
        }
        RuntimeError::Storage(StorageError::Sealing(why)) => return unsealed(engine, run, why.clone()),
        other if why.is_some() => RunError {
            error: "MaxAttemptsExceeded".into(),
            message: format!("{attempts} attempts failed, the last one with: {other}"),
        },
        other => RunError { error: "RuntimeError".into(), message: other.to_string() },
    };
    failed(engine, nothing(RunEndStatus::Error), error, at)
}

/// The project's own encryption failed. Nothing of what the run came to is kept in the clear.
fn unsealed(engine: &Engine, run: &Run, why: String) -> Outcome {
    tracing::error!(run_id = %run.run_id, why, "custom encryption failed a run");
    let error = RunError { error: FAILURE.into(), message: StorageError::Sealing(why).to_string() };
    let mut outcome = failed(engine, nothing(RunEndStatus::Error), error, engine.ambient.now());
    if let Outcome::Ended(ending, _) = &mut outcome {
        ending.unsealed = true;
    }
    outcome
}

fn failed(engine: &Engine, end: RunEnd, error: RunError, at: Timestamp) -> Outcome {
    let result = failed_result(&error);
    let values = end.values.clone();
    let thread = Some(thread_update(engine, end, ThreadStatus::Error, Some(raw(&error))));
    let ending =
        Ending { status: EndStatus::Error, error: Some(error), cause: None, values, thread, at, unsealed: false };
    Outcome::Ended(Box::new(ending), Some(result))
}

/// The run was stopped and what it did is kept.
fn stopped_ending(engine: &Engine, end: RunEnd, ending: Ending) -> Outcome {
    let result = bytes(end.values.as_ref());
    let values = end.values.clone();
    let (rest, error) = match ending.status {
        EndStatus::Timeout => (ThreadStatus::Error, ending.error.as_ref().map(raw)),
        _ if end.has_next => (ThreadStatus::Interrupted, None),
        _ => (ThreadStatus::Idle, None),
    };
    let thread = Some(thread_update(engine, end, rest, error));
    Outcome::Ended(Box::new(Ending { values, thread, ..ending }), result)
}

fn thread_update(engine: &Engine, end: RunEnd, status: ThreadStatus, error: Option<RawJson>) -> ThreadUpdate {
    let interrupts = end.interrupts.unwrap_or_else(|| raw(&json!({})));
    let revision = engine.runtime.revision();
    ThreadUpdate {
        status,
        values: end.values,
        outcome: ThreadOutcome { interrupts, error },
        state: end.state.map(|state| SavedState { state, revision }),
    }
}

fn bytes(json: Option<&RawJson>) -> Option<Bytes> {
    json.map(|json| Bytes::copy_from_slice(json.get().as_bytes()))
}
