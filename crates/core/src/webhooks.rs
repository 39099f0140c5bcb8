//! Webhooks: the durable duty to tell a URL how a run ended.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use url::Url;

use crate::{
    deliveries::Trigger,
    ids::{LeaseId, RunId},
    storage::Result,
    time::Timestamp,
};

/// A delivery that this server may now attempt.
#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    /// Its id, sent as `webhook-id`.
    pub id: String,
    /// The run that ended.
    pub run_id: RunId,
    /// What it tells, such as `run.success`.
    pub event: String,
    /// When the run ended.
    pub created_at: Timestamp,
    /// Where to send it.
    pub url: String,
    /// The receiver: scheme, host and port of the URL.
    pub origin: String,
    /// What to send.
    pub body: Bytes,
    /// Counts attempts, this one included, from 1.
    pub attempt: u32,
    /// Counts those that the schedule asked for.
    pub scheduled: u32,
    /// Why this one is made.
    pub trigger: Trigger,
    /// The right to record the result.
    pub lease_id: LeaseId,
}

/// How deliveries are taken.
#[derive(Clone, Debug)]
pub struct ClaimDeliveries {
    /// The id of the leases to be given.
    pub lease_id: LeaseId,
    /// How many at most.
    pub limit: u32,
    /// How long their bodies may be in all; the one that passes it is still taken.
    pub bytes: usize,
    /// How many of them may be attempts after the first.
    pub retries: u32,
    /// How many to one origin at most.
    pub per_origin: u32,
    /// The same for origins that have less room now.
    pub rooms: BTreeMap<String, u32>,
    /// Where to go on with looking at origins, in the order of their names; empty at the beginning.
    pub from: String,
    /// The present moment.
    pub now: Timestamp,
    /// When the leases end and others may try.
    pub until: Timestamp,
}

/// What there is to send.
#[derive(Clone, Debug, Default)]
pub struct ClaimedDeliveries {
    /// Those that are due, oldest first.
    pub deliveries: Vec<ClaimedDelivery>,
    /// When the next one becomes due that is not due yet.
    pub next_due: Option<Timestamp>,
    /// How many of these were on their way already when their sender died.
    pub lost: u64,
    /// Where to go on when some origins were not looked at.
    pub more: Option<String>,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptResult {
    /// The delivery.
    pub id: String,
    /// The lease under which it was attempted.
    pub lease_id: LeaseId,
    /// The attempt's number.
    pub attempt: u32,
    /// When the attempt ended.
    pub at: Timestamp,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong, without the URL.
    pub failure: Option<String>,
    /// What happens to the delivery.
    pub next: NextStep,
    /// Until when the receiver wants to be left alone.
    pub not_before: Option<Timestamp>,
}

/// What follows an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// The receiver has it.
    Delivered,
    /// Try again then.
    RetryAt(Timestamp),
    /// Give up.
    Failed,
    /// Nothing changes: somebody asked for this attempt besides the schedule.
    AsBefore,
}

/// What is to be sent to one origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Scheme, host and port.
    pub origin: String,
    /// How many deliveries.
    pub deliveries: u64,
    /// When the first of them is due.
    pub due: Timestamp,
}

/// A receiver that wants to be left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftAlone {
    /// Scheme, host and port.
    pub origin: String,
    /// Until when.
    pub not_before: Timestamp,
}

/// What has waited for too long.
#[derive(Clone, Copy, Debug)]
pub struct Overdue {
    /// Everything whose schedule began before this.
    pub begun_before: Timestamp,
    /// The present moment.
    pub now: Timestamp,
}

/// A delivery that was given up without a further attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// Its id.
    pub id: String,
    /// What it was to tell, such as `run.success`.
    pub event: String,
}

/// Stored deliveries.
#[async_trait]
pub trait Webhooks: Send + Sync {
    /// Leases deliveries that are due and counts the attempt.
    async fn claim_deliveries(&self, claim: ClaimDeliveries) -> Result<ClaimedDeliveries>;
    /// Records what an attempt came to, unless its lease was taken over or somebody stopped it; whether it was recorded.
    async fn record_attempt(&self, result: AttemptResult) -> Result<bool>;
    /// Settles everything that is to be sent, since webhooks are disabled; how many.
    async fn skip_deliveries(&self, now: Timestamp) -> Result<u64>;
    /// Settles what has waited for longer than its schedule takes and is not on its way; what was given up so.
    async fn give_up_deliveries(&self, overdue: Overdue, limit: u32) -> Result<Vec<GivenUp>>;
    /// The origins that something is to be sent to, with how much.
    async fn waiting(&self) -> Result<Vec<Waiting>>;
    /// The receivers that asked to be left alone and still are.
    async fn left_alone(&self, now: Timestamp) -> Result<Vec<LeftAlone>>;
}

/// The receiver that a URL leads to: its scheme, host and port.
pub fn origin(url: &str) -> Option<String> {
    let origin = Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// A URL without its query, fragment, and user information.
pub fn without_secrets(url: &str) -> String {
    if let Ok(mut parsed) = Url::parse(url)
        && parsed.has_host()
    {
        parsed.set_query(None);
        parsed.set_fragment(None);
        // These fail only for URLs that can't have any.
        let _ = (parsed.set_username(""), parsed.set_password(None));
        return parsed.into();
    }
    let plain = url.split(['?', '#']).next().unwrap_or_default();
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (url, expected) in [
            ("https://user:pw@Example.com:443/a?token=1", Some("https://example.com")),
            ("http://127.1:8080", Some("http://127.0.0.1:8080")),
            ("mailto:a@b.c", None),
            ("nothing", None),
        ] {
            assert_eq!(origin(url).as_deref(), expected);
        }
    }

    #[test]
    fn urls_are_shown_without_secrets() {
        for (url, shown) in [
            ("https://user:pass@example.com/hook?token=s#f", "https://example.com/hook"),
            ("https://example.com?token=s", "https://example.com/"),
            ("https:user:pass@example.com/hook", "https://example.com/hook"),
            ("https:/user:pass@example.com/hook", "https://example.com/hook"),
            (r"https:\\user:pass@example.com\hook?a", "https://example.com/hook"),
            ("not a url://user:pass@host/x?token=s", "not a url://host/x"),
            ("/relative?token=s", "/relative"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
