//! How runs end whose holders died.

use threadyard_core::{
    cancel::CancelRequest,
    json::{Object, raw},
    runs::{EndStatus, Ending, ExpireLeases, Run, RunError},
    threads::{ThreadOutcome, ThreadStatus, ThreadUpdate},
};

/// How a run ends whose holder died, if it may not be tried again.
pub(crate) fn last_word(stale: &Run, cancel: Option<CancelRequest>, expire: ExpireLeases) -> Option<Ending> {
    if let Some(cancel) = cancel {
        return Some(cancel.ending(expire.now));
    }
    (stale.counted_attempts() >= expire.max_attempts).then(|| {
        let message = format!("the server or worker died during each of {} attempts", stale.attempt);
        let error = RunError { error: "MaxAttemptsExceeded".into(), message };
        let outcome = ThreadOutcome { interrupts: raw(&Object::new()), error: Some(raw(&error)) };
        let thread = Some(ThreadUpdate { status: ThreadStatus::Error, values: None, outcome, state: None });
        Ending {
            status: EndStatus::Error,
            error: Some(error),
            cause: None,
            values: None,
            thread,
            at: expire.now,
            unsealed: false,
        }
    })
}
