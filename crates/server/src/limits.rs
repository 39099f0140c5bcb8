//! Limits that the operator chooses: how large requests may be, how many of them, and how many runs.

use std::num::NonZeroU32;

use clap::Args;
use threadyard_core::limits::{PerOwner, RunLimits};

use crate::api::{HttpLimits, Rate};

/// What `dev` and `serve` share of them.
#[derive(Args, Clone, Debug)]
pub struct LimitArgs {
    /// The largest body of a request that is read, in bytes; larger ones are answered 413.
    #[arg(long, env = "THREADYARD_MAX_BODY_BYTES", default_value_t = 300 << 20, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_body_bytes: u64,
    /// So long the first line and the headers of a request may be together, in bytes; longer ones are answered 431.
    #[arg(long, env = "THREADYARD_MAX_HEADER_BYTES", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(8_192..=1_048_576))]
    pub max_header_bytes: u32,
    /// How many connections, with those of WebSockets, are open at once; those beyond are answered 503 and closed.
    #[arg(long, env = "THREADYARD_MAX_CONNECTIONS", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_connections: u32,
    /// How many requests one caller may send in a second, on average; those beyond are answered 429. Each server counts
    /// for itself, by user, or by address where nobody asks who calls. Any number unless said.
    #[arg(long, env = "THREADYARD_MAX_REQUESTS_PER_SECOND")]
    pub max_requests_per_second: Option<NonZeroU32>,
    /// How many of them may come at once; as many as in a second unless said.
    #[arg(long, env = "THREADYARD_MAX_REQUEST_BURST", requires = "max_requests_per_second")]
    pub max_request_burst: Option<NonZeroU32>,
    /// How many runs of one user may wait, at all servers together; those beyond are answered 429. Without authentication
    /// everybody is one user. Any number unless said.
    #[arg(long, env = "THREADYARD_MAX_PENDING_RUNS_PER_USER")]
    pub max_pending_runs_per_user: Option<u32>,
    /// How many runs of one assistant may wait, as for users.
    #[arg(long, env = "THREADYARD_MAX_PENDING_RUNS_PER_ASSISTANT")]
    pub max_pending_runs_per_assistant: Option<u32>,
    /// How many runs of one user are executed at once, by all servers together; those beyond wait. Any number unless said.
    #[arg(long, env = "THREADYARD_MAX_RUNNING_RUNS_PER_USER")]
    pub max_running_runs_per_user: Option<NonZeroU32>,
    /// How many runs of one assistant are executed at once, as for users.
    #[arg(long, env = "THREADYARD_MAX_RUNNING_RUNS_PER_ASSISTANT")]
    pub max_running_runs_per_assistant: Option<NonZeroU32>,
}

impl LimitArgs {
    /// Those of requests.
    pub fn http(&self) -> HttpLimits {
        let rate = self
            .max_requests_per_second
            .map(|per_second| Rate { per_second, burst: self.max_request_burst.unwrap_or(per_second) });
        let max_body = usize::try_from(self.max_body_bytes).unwrap_or(usize::MAX);
        HttpLimits { max_body, max_header: self.max_header_bytes as usize, rate, ..HttpLimits::default() }
    }

    /// Those of runs.
    pub fn runs(&self) -> RunLimits {
        RunLimits {
            pending: PerOwner { user: self.max_pending_runs_per_user, assistant: self.max_pending_runs_per_assistant },
            running: PerOwner {
                user: self.max_running_runs_per_user.map(NonZeroU32::get),
                assistant: self.max_running_runs_per_assistant.map(NonZeroU32::get),
            },
        }
    }
}
