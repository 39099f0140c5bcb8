//! What a webhook tells of the end of a run: the Run as clients know it, and what the receiver needs besides.

use serde::Serialize;

use crate::{
    access::User,
    cancel::CancelCause,
    ids::{RunId, ThreadId},
    json::{Object, RawJson, Value, raw},
    runs::{EndStatus, Ending, Run, RunError, RunKwargs},
    threads::ThreadStatus,
    time::Timestamp,
    trace_context::TraceContext,
    webhook_policy::WebhookHeaders,
    webhooks::{own_route, without_secrets},
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
    /// What it carries besides what all of them do.
    pub headers: WebhookHeaders,
    /// Who made the run, where the project's own application is told: nobody else learns that.
    pub maker: Option<User>,
    /// The JSON to send.
    pub body: RawJson,
    /// When the run ended; the first attempt is due at once.
    pub created_at: Timestamp,
}

/// A body is cut to this, so that receivers can take it.
const MAX_BODY: usize = 25 << 20;
/// The name of an error is left out where it is longer. It may be encrypted, and half of it would not be read again.
const CLASS: usize = 200;
/// What stands for it then.
const SOME_ERROR: &str = "Error";

/// The delivery that the end of a run gives rise to, if the run has a webhook. `thread_seq` counts those of the thread.
pub fn delivery_for(run: &Run, ending: &Ending, thread_seq: u64) -> Option<NewDelivery> {
    let url = run.kwargs.webhook.clone()?;
    let body = body(run, ending, thread_seq);
    Some(NewDelivery {
        id: format!("msg_{}_1", run.run_id.0.simple()),
        run_id: run.run_id,
        thread_id: run.thread_id,
        maker: own_route(&url).and_then(|_| maker(run)),
        url,
        headers: trace_headers(run),
        event: body.kind.clone(),
        body: within(MAX_BODY, body),
        created_at: ending.at,
    })
}

/// On whose behalf a run was executed, if anybody was asked who they are.
fn maker(run: &Run) -> Option<User> {
    let user = run.kwargs.config.get("configurable")?.get("langgraph_auth_user")?;
    serde_json::from_value(user.clone()).ok()
}

/// Has the receiver of a delivery go on with the trace of its run.
pub(crate) fn trace_headers(run: &Run) -> WebhookHeaders {
    let trace = TraceContext::of(&run.kwargs.config);
    let headers = trace.iter().flat_map(TraceContext::headers);
    WebhookHeaders(headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
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
    let without_kwargs = raw(&body);
    if without_kwargs.get().len() <= limit {
        return without_kwargs;
    }
    let class = body.error.map(|error| if error.error.len() <= CLASS { &error.error } else { SOME_ERROR });
    let message = "left out, since it is too long";
    let error = class.map(|class| RunError { error: class.into(), message: message.into() });
    let none = Object::new();
    body.truncated.extend(["metadata", "error.message", "cron_id"]);
    raw(&Body { metadata: &none, error: error.as_ref(), cron_id: None, ..body })
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
    error: Option<&'a RunError>,
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
        let ending = Ending {
            status: EndStatus::Success,
            error: None,
            cause: None,
            values: None,
            thread: None,
            at: now,
            unsealed: false,
        };
        let delivery = delivery_for(&run, &ending, 1).unwrap();
        assert!(delivery.body.get().contains(odd));
        assert!(!delivery.body.get().contains("secret"));
    }

    #[test]
    fn only_the_own_application_learns_who_made_a_run() {
        let now = Timestamp(0);
        let mut run = crate::testkit::new_run(RunId(uuid::Uuid::nil()), ThreadId(uuid::Uuid::nil()), now).run;
        let user = json!({ "identity": "ann", "team": "blue" });
        run.kwargs.config.insert("configurable".into(), json!({ "langgraph_auth_user": user }));
        let ending = Ending {
            status: EndStatus::Success,
            error: None,
            cause: None,
            values: None,
            thread: None,
            at: now,
            unsealed: false,
        };
        for (url, maker) in [("/done?t=1", Some("ann")), ("https://example.com/done", None)] {
            run.kwargs.webhook = Some(url.into());
            let delivery = delivery_for(&run, &ending, 1).unwrap();
            assert_eq!(delivery.maker.as_ref().map(User::identity), maker);
            assert!(!delivery.body.get().contains("blue"));
        }
    }

    #[test]
    fn a_body_that_is_too_long_says_what_it_leaves_out() {
        let now = Timestamp(0);
        let mut run = crate::testkit::new_run(RunId(uuid::Uuid::nil()), ThreadId(uuid::Uuid::nil()), now).run;
        run.kwargs.input = Some(raw(&"i".repeat(500)));
        let values = Some(raw(&"v".repeat(1000)));
        let ending = Ending {
            status: EndStatus::Success,
            error: None,
            cause: None,
            values,
            thread: None,
            at: now,
            unsealed: false,
        };
        let cut = |limit| -> Value { serde_json::from_str(within(limit, body(&run, &ending, 1)).get()).unwrap() };
        assert_eq!(cut(4000).get("truncated"), None);
        let without_values = cut(2000);
        assert_eq!((&without_values["values"], &without_values["truncated"]), (&Value::Null, &json!(["values"])));
        assert_eq!(without_values["kwargs"]["input"].as_str().unwrap().len(), 500);
        let short = cut(1000);
        assert_eq!(short["truncated"], json!(["values", "kwargs", "interrupts"]));
        assert_eq!((&short["kwargs"], short["status"].as_str()), (&Value::Null, Some("success")));
        assert_eq!(short["links"]["run"], format!("/threads/{}/runs/{}", run.thread_id, run.run_id));
        run.metadata.insert("note".into(), "n".repeat(2000).into());
        let error = Some(RunError { error: "E".repeat(2000), message: "m".repeat(2000) });
        let ending = Ending { status: EndStatus::Error, error, ..ending };
        let least = within(1500, body(&run, &ending, 1));
        let told: Value = serde_json::from_str(least.get()).unwrap();
        assert!(least.get().len() <= 1500, "{told}");
        assert_eq!((&told["metadata"], &told["error"]["error"]), (&json!({}), &json!(SOME_ERROR)));
        assert_eq!(
            told["truncated"],
            json!(["values", "kwargs", "interrupts", "metadata", "error.message", "cron_id"])
        );
    }
}
