//! Webhooks: the durable duty to tell a URL how a run ended.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use url::{Position, Url};

use crate::{
    access::User,
    deliveries::Trigger,
    ids::{LeaseId, RunId},
    storage::Result,
    time::Timestamp,
    webhook_policy::WebhookHeaders,
};

/// A delivery that this server may now attempt. What it says, and where it goes, may be encrypted until it is opened.
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
    /// What it carries besides what all of them do.
    pub headers: WebhookHeaders,
    /// Who made the run, where the project's own application is told.
    pub maker: Option<User>,
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
    /// Reads what a claimed delivery says and where it goes. Where the project encrypts by itself, that takes as long as its
    /// handlers do.
    async fn open_delivery(&self, claimed: ClaimedDelivery) -> Result<ClaimedDelivery> {
        Ok(claimed)
    }
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

/// What stands for the project's own application among the origins of receivers. It comes before those of all others.
pub const OWN_APP: &str = "/";

/// The path and query of a URL that names a route of the project's own application: it begins with one slash.
pub fn own_route(url: &str) -> Option<String> {
    if !url.starts_with('/') {
        return None;
    }
    // What a URL may look like but is not, such as `/\host`, is told by whether it leads elsewhere.
    let base = Url::parse("http://own.invalid").ok()?;
    let url = base.join(url).ok()?;
    (url.origin() == base.origin()).then(|| url[Position::BeforePath..Position::AfterQuery].to_owned())
}

/// The receiver that a URL leads to: its scheme, host and port, or [`OWN_APP`].
pub fn origin(url: &str) -> Option<String> {
    if own_route(url).is_some() {
        return Some(OWN_APP.to_owned());
    }
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
    shown_though_wrong(url.split(['?', '#']).next().unwrap_or_default())
}

/// What is no URL may be nearly one: the slashes may be missing, turned around, or have something between them.
fn shown_though_wrong(plain: &str) -> String {
    let scheme = plain.find(':').map(|colon| colon + 1).filter(|end| !plain[..*end].contains(['/', '@']));
    let (scheme, rest) = plain.split_at(scheme.unwrap_or_default());
    let after = rest.trim_start_matches(|it: char| it == '/' || it == '\\' || it == ' ' || it.is_control());
    let slashes = &rest[..rest.len() - after.len()];
    if scheme.is_empty() && slashes.len() < 2 {
        return plain.to_owned();
    }
    // Where the host begins can't be known; a secret stands before some `@`.
    let host = after.rsplit('@').next().unwrap_or_default();
    format!("{scheme}{slashes}{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        for (url, expected) in [
            ("https://user:pw@Example.com:443/a?token=1", Some("https://example.com")),
            ("http://127.1:8080", Some("http://127.0.0.1:8080")),
            ("/", Some("/")),
            ("/a?token=1", Some("/")),
            ("//example.com/a", None),
            ("mailto:a@b.c", None),
            ("nothing", None),
        ] {
            assert_eq!(origin(url).as_deref(), expected);
        }
    }

    #[test]
    fn a_route_of_the_own_application_leads_nowhere_else() {
        for (url, expected) in [
            ("/done", Some("/done")),
            ("/done/ä b?x=/y&t=1#f", Some("/done/%C3%A4%20b?x=/y&t=1")),
            ("/a/../b/./c", Some("/b/c")),
            ("/a//b", Some("/a//b")),
            ("/../..", Some("/")),
            ("//evil.example/x", None),
            (r"/\evil.example/x", None),
            ("/\t/evil.example/x", None),
            ("/\n\\evil.example", None),
            ("done", None),
            ("", None),
            ("?x", None),
            ("http://own.invalid/x", None),
        ] {
            assert_eq!(own_route(url).as_deref(), expected, "{url:?}");
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
            ("http:user:pass@ho st/x", "http:ho st/x"),
            ("http:/\t\\user:pass@ho st/x@y", "http:/\t\\y"),
            ("http:/user:pass@/more@ho st/x", "http:/ho st/x"),
            ("//user:pass@ho st/x", "//ho st/x"),
            ("/relative?token=s", "/relative"),
            ("a@b/c:d", "a@b/c:d"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
