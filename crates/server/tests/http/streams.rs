//! Streams and answers that take their time.

use std::time::Duration;

use axum::http::header;
use serde_json::json;
use threadyard_core::runtime::StopReason;

use crate::{Api, BEAT, Pieces, SOON, json};

const ECHO: &str = r#"{"assistant_id": "echo", "input": {}}"#;

#[tokio::test]
async fn a_stream_is_framed_as_upstream_frames_it() {
    let api = Api::start().await;
    let thread = api.thread().await;
    let answer = api.send("POST", &format!("/threads/{thread}/runs/stream"), ECHO).await;
    let headers = answer.headers().clone();
    assert_eq!(headers[header::CONTENT_TYPE], "text/event-stream; charset=utf-8");
    assert_eq!(headers[header::CACHE_CONTROL], "no-store");
    let place = headers[header::CONTENT_LOCATION].to_str().unwrap().to_owned();
    assert!(place.starts_with(&format!("/threads/{thread}/runs/")));
    assert_eq!(headers[header::LOCATION], format!("{place}/stream"));
    let run_id = place.rsplit('/').next().unwrap();

    let mut pieces = Pieces::of(answer);
    let run = api.runtime.next_run().await;
    let metadata = format!("event: metadata\r\ndata: {{\"run_id\":\"{run_id}\",\"attempt\":1}}\r\n\r\n");
    assert_eq!(pieces.next().await.unwrap(), metadata);
    run.say("values", &json!({ "text": "two\nlines" }));
    assert_eq!(pieces.next().await.unwrap(), "event: values\r\ndata: {\"text\":\"two\\nlines\"}\r\n\r\n");
    run.raise("ValueError", "negative");
    let error = "event: error\r\ndata: {\"error\":\"ValueError\",\"message\":\"negative\"}\r\n\r\n";
    assert_eq!(pieces.rest().await, error);
}

#[tokio::test]
async fn a_resumable_stream_is_read_on_behind_the_last_event() {
    let api = Api::start().await;
    let create = r#"{"assistant_id": "echo", "input": {}, "stream_resumable": true, "on_completion": "keep"}"#;
    let answer = api.send("POST", "/runs/stream", create).await;
    let again = answer.headers()[header::LOCATION].to_str().unwrap().to_owned();
    let run = api.runtime.next_run().await;
    for n in 1..=3 {
        run.say("values", &json!(n));
    }
    run.succeed(&json!({}));
    let whole = Pieces::of(answer).rest().await;
    let ids: Vec<_> = whole.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids.len(), 4, "{whole}");
    let rest = Pieces::of(api.send_with("GET", &again, &[("last-event-id", ids[2])], "").await).rest().await;
    assert_eq!(rest, format!("event: values\r\ndata: 3\r\nid: {}\r\n\r\n", ids[3]));
}

#[tokio::test]
async fn a_join_sees_only_what_it_asked_for() {
    let api = Api::start().await;
    let thread = api.thread().await;
    let run_id = json(api.send("POST", &format!("/threads/{thread}/runs"), ECHO).await).await.1["run_id"].clone();
    let run = api.runtime.next_run().await;
    let place = format!("/threads/{thread}/runs/{}/stream?stream_mode=updates", run_id.as_str().unwrap());
    let joined = api.send("GET", &place, "").await;
    run.say("values", &json!(1));
    run.say("updates", &json!(2));
    run.succeed(&json!({}));
    assert_eq!(Pieces::of(joined).rest().await, "event: updates\r\ndata: 2\r\n\r\n");
}

#[tokio::test]
async fn silence_is_broken_by_heartbeats() {
    let api = Api::start().await;
    let mut stream = Pieces::of(api.send("POST", "/runs/stream", ECHO).await);
    let run = api.runtime.next_run().await;
    assert!(stream.next().await.unwrap().starts_with("event: metadata"));
    // With nothing to do, paused time flies to the next deadline.
    tokio::time::pause();
    for _ in 0..3 {
        assert_eq!(stream.any().await.unwrap(), BEAT);
    }
    tokio::time::resume();
    run.succeed(&json!({}));
    assert_eq!(stream.rest().await, "");

    let mut waiting = Pieces::of(api.send("POST", "/runs/wait", ECHO).await);
    let run = api.runtime.next_run().await;
    tokio::time::pause();
    for _ in 0..3 {
        assert_eq!(waiting.any().await.unwrap(), "\n");
    }
    tokio::time::resume();
    run.succeed(&json!({ "x": 1 }));
    assert_eq!(waiting.rest().await, r#"{"x":1}"#);
}

#[tokio::test]
async fn a_client_that_leaves_stops_its_run_only_if_it_said_so() {
    for (choice, stops) in [("cancel", true), ("continue", false)] {
        let api = Api::start().await;
        let thread = api.thread().await;
        let create = format!(r#"{{"assistant_id": "echo", "input": {{}}, "on_disconnect": "{choice}"}}"#);
        let answer = api.send("POST", &format!("/threads/{thread}/runs/stream"), &create).await;
        let place = answer.headers()[header::CONTENT_LOCATION].to_str().unwrap().to_owned();
        let mut run = api.runtime.next_run().await;
        drop(answer);
        // That nobody stops it has no moment: so long it would have taken at most if somebody did.
        let patience = if stops { SOON } else { Duration::from_millis(200) };
        let stopped = tokio::time::timeout(patience, run.stopped()).await;
        assert_eq!(stopped.ok(), stops.then_some(StopReason::Interrupt), "{choice}");
        if !stops {
            run.succeed(&json!({}));
        }
        let expected = if stops { "interrupted" } else { "success" };
        while api.status_of(&place).await != expected {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn what_a_client_asked_for_happens_though_it_leaves_at_once() {
    let api = Api::start().await;
    for _ in 0..30 {
        let thread = api.thread().await;
        let (_, created) = json(api.send("POST", &format!("/threads/{thread}/runs"), ECHO).await).await;
        let place = format!("/threads/{thread}/runs/{}", created["run_id"].as_str().unwrap());
        let mut run = api.runtime.next_run().await;
        // Polled once, as by a connection that then breaks.
        let path = format!("{place}/cancel");
        let cancel = api.send("POST", &path, "");
        assert!(futures_util::FutureExt::now_or_never(cancel).is_none());
        let stopped = tokio::time::timeout(SOON, run.stopped()).await;
        assert_eq!(stopped, Ok(StopReason::Interrupt));
    }
}
