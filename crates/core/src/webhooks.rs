//! Webhooks: the durable duty to tell a URL how a run ended.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Serialize;
use url::Url;

use crate::{
    cancel::CancelCause,
    deliveries::Trigger,
    ids::{LeaseId, RunId, ThreadId},
    json::{Object, RawJson, Value, raw},
    runs::{EndStatus, Ending, Run, RunKwargs},
    storage::Result,
    threads::ThreadStatus,
    time::Timestamp,
};

/// A duty to call a URL, with the body frozen when the run ended, so that every attempt sends the same bytes.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    /// Derived from the run, so that even a repeated ending has the same id: the receiver can tell duplicates.
    pub id: String,
    /// The run that ended.
    pub run_id: RunId,
    /// Its thread.
    pub thread_id: ThreadId,
    /// What it tells, such as `run.success`.
    pub event: String,
    /// Where to send it; may hold a token, so it is never logged.
    pub url: String,
    /// The JSON to send.
    pub body: RawJson,
    /// When the run ended; the first attempt is due at once.
    pub created_at: Timestamp,
}

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
    pub body: String,
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
    /// How many of them may be attempts after the first.
    pub retries: u32,
    /// How many to one origin at most.
    pub per_origin: u32,
    /// The same for origins that have less room now.
    pub rooms: BTreeMap<String, u32>,
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

/// Stored deliveries.
#[async_trait]
pub trait Webhooks: Send + Sync {
    /// Leases deliveries that are due and counts the attempt.
    async fn claim_deliveries(&self, claim: ClaimDeliveries) -> Result<ClaimedDeliveries>;
    /// Records what an attempt came to, unless its lease was taken over.
    async fn record_attempt(&self, result: AttemptResult) -> Result<()>;
    /// Settles everything that is to be sent, since webhooks are disabled; how many.
    async fn skip_deliveries(&self, now: Timestamp) -> Result<u64>;
    /// The origins that something is to be sent to, with how much.
    async fn waiting(&self) -> Result<Vec<Waiting>>;
}

/// A body is cut to this, so that receivers can take it.
const MAX_BODY: usize = 25 << 20;

/// The delivery that the end of a run gives rise to, if the run has a webhook. `thread_seq` counts those of the thread.
pub fn delivery_for(run: &Run, ending: &Ending, thread_seq: u64) -> Option<NewDelivery> {
    let url = run.kwargs.webhook.clone()?;
    let body = body(run, ending, thread_seq);
    Some(NewDelivery {
        id: format!("msg_{}_1", run.run_id.0.simple()),
        run_id: run.run_id,
        thread_id: run.thread_id,
        url,
        event: body.kind.clone(),
        body: within(MAX_BODY, body),
        created_at: ending.at,
    })
}

/// The text of a body, without what is large where it would be too long.
fn within(limit: usize, mut body: Body<'_>) -> RawJson {
    let whole = raw(&body);
    if whole.get().len() <= limit {
        return whole;
    }
    body.links = Some(Links {
        run: format!("/threads/{}/runs/{}", body.thread_id, body.run_id),
        state: format!("/threads/{}/state", body.thread_id),
    });
    body.values = None;
    body.truncated.push("values");
    let without_values = raw(&body);
    if without_values.get().len() <= limit {
        return without_values;
    }
    body.kwargs = None;
    body.interrupts = None;
    body.truncated.extend(["kwargs", "interrupts"]);
    raw(&body)
}

/// The Run as clients know it, with its final status, and what the receiver needs besides.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: String,
    run_id: RunId,
    thread_id: ThreadId,
    assistant_id: crate::ids::AssistantId,
    status: &'static str,
    metadata: &'a Object,
    kwargs: Option<RunKwargs>,
    multitask_strategy: crate::runs::MultitaskStrategy,
    created_at: Timestamp,
    updated_at: Timestamp,
    langsmith_session_name: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_started_at: Option<Timestamp>,
    run_ended_at: Timestamp,
    webhook_sent_at: Timestamp,
    values: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a crate::runs::RunError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thread_status: Option<ThreadStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interrupts: Option<&'a RawJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_reason: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_by: Option<RunId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cron_id: Option<&'a Value>,
    /// Grows from end to end of a thread's runs, so that stale news can be told.
    thread_seq: u64,
    /// The fields that were left out because the body would be too long.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Links>,
}

/// Where to read what was left out.
#[derive(Serialize)]
struct Links {
    run: String,
    state: String,
}

fn body<'a>(run: &'a Run, ending: &'a Ending, thread_seq: u64) -> Body<'a> {
    let waits = ending.thread.as_ref().is_some_and(|thread| thread.status == ThreadStatus::Interrupted);
    let kind = match ending.status {
        EndStatus::Success if waits => "waiting",
        status => status.as_str(),
    };
    Body {
        kind: format!("run.{kind}"),
        run_id: run.run_id,
        thread_id: run.thread_id,
        assistant_id: run.assistant_id,
        status: ending.status.as_str(),
        metadata: &run.metadata,
        kwargs: Some(public_kwargs(run)),
        multitask_strategy: run.multitask_strategy,
        created_at: run.created_at,
        updated_at: ending.at,
        langsmith_session_name: None,
        run_started_at: run.started_at,
        run_ended_at: ending.at,
        webhook_sent_at: ending.at,
        values: ending.values.as_ref(),
        error: ending.error.as_ref(),
        thread_status: ending.thread.as_ref().map(|thread| thread.status),
        interrupts: ending.thread.as_ref().map(|thread| &thread.outcome.interrupts),
        cancel_reason: ending.cause.map(CancelCause::as_str),
        superseded_by: match ending.cause {
            Some(CancelCause::Superseded(by)) => Some(by),
            _ => None,
        },
        cron_id: run.kwargs.config.get("configurable").and_then(|configurable| configurable.get("cron_id")),
        thread_seq,
        truncated: Vec::new(),
        links: None,
    }
}

/// The run's kwargs without what is nobody's business outside: credentials, internals, and the webhook's own secrets.
fn public_kwargs(run: &Run) -> RunKwargs {
    let mut kwargs = run.kwargs.clone();
    if let Some(Value::Object(configurable)) = kwargs.config.get_mut("configurable") {
        configurable.retain(|key, _| !key.starts_with("langgraph_auth_") && !key.starts_with("__"));
    }
    kwargs.webhook = kwargs.webhook.as_deref().map(without_secrets);
    kwargs
}

/// The receiver that a URL leads to: its scheme, host and port.
pub fn origin(url: &str) -> Option<String> {
    let origin = Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| origin.ascii_serialization())
}

/// A URL without its query, fragment, and user information.
pub fn without_secrets(url: &str) -> String {
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
    use serde_json::json;

    use super::*;

    #[test]
    fn the_body_carries_input_that_only_its_author_understands() {
        let odd = r#"{"x":"\ud800","y":1e999}"#;
        let now = Timestamp(0);
        let mut run = crate::testkit::new_run(RunId(uuid::Uuid::nil()), ThreadId(uuid::Uuid::nil()), now).run;
        run.kwargs.input = Some(crate::json::raw_from_text(odd.into()).unwrap());
        run.kwargs.webhook = Some("https://example.com/hook?token=secret".into());
        let ending =
            Ending { status: EndStatus::Success, error: None, cause: None, values: None, thread: None, at: now };
        let delivery = delivery_for(&run, &ending, 1).unwrap();
        assert!(delivery.body.get().contains(odd));
        assert!(!delivery.body.get().contains("secret"));
    }

    #[test]
    fn a_body_that_is_too_long_says_what_it_leaves_out() {
        let now = Timestamp(0);
        let mut run = crate::testkit::new_run(RunId(uuid::Uuid::nil()), ThreadId(uuid::Uuid::nil()), now).run;
        run.kwargs.input = Some(raw(&"i".repeat(500)));
        let values = Some(raw(&"v".repeat(1000)));
        let ending = Ending { status: EndStatus::Success, error: None, cause: None, values, thread: None, at: now };
        let cut = |limit| -> Value { serde_json::from_str(within(limit, body(&run, &ending, 1)).get()).unwrap() };
        assert_eq!(cut(4000).get("truncated"), None);
        let without_values = cut(2000);
        assert_eq!((&without_values["values"], &without_values["truncated"]), (&Value::Null, &json!(["values"])));
        assert_eq!(without_values["kwargs"]["input"].as_str().unwrap().len(), 500);
        let short = cut(1000);
        assert_eq!(short["truncated"], json!(["values", "kwargs", "interrupts"]));
        assert_eq!((&short["kwargs"], short["status"].as_str()), (&Value::Null, Some("success")));
        assert_eq!(short["links"]["run"], format!("/threads/{}/runs/{}", run.thread_id, run.run_id));
    }

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
            ("https://example.com?token=s", "https://example.com"),
            ("/relative?token=s", "/relative"),
        ] {
            assert_eq!(without_secrets(url), shown);
        }
    }
}
