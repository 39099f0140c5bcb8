//! Named points at which a test makes the server kill itself, to prove that nothing is lost there.

/// The point at which this process ends itself with `SIGKILL`, if any.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    kill_at: Option<String>,
}

impl Faults {
    /// Dies at the named point; `None` never dies.
    pub fn new(kill_at: Option<String>) -> Self {
        Self { kill_at }
    }

    /// Passes a named point.
    pub fn reach(&self, point: &str) {
        if self.kill_at.as_deref() == Some(point) {
            tracing::warn!(point, "killing this process, as asked for by the fault plan");
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        }
    }
}
