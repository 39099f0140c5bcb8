//! `/threads/{id}/stream/events` and `/threads/{id}/commands`: event streaming (protocol v2) over HTTP.

use axum::{
    body::Bytes,
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::{Value, json};
use threadyard_core::{
    event_streaming::{EventFilter, number_of},
    ids::ThreadId,
    json::{Object, RawObject},
};
use threadyard_engine::{Error, Tape};

use super::{
    caller::Caller,
    error::{Answer, ApiError},
    event_commands::{Command, Refusal, execute},
    extract::{Body, Ids},
    request_id::Configurable,
    sse::{self, BEAT, heartbeats},
};

/// The events of a thread's runs, for as long as the client listens.
pub(super) async fn events(
    Caller(engine): Caller,
    Ids((thread,)): Ids<(ThreadId,)>,
    headers: HeaderMap,
    Body(wanted): Body<Value>,
) -> Answer {
    let (filter, since) = subscription(&wanted).map_err(|why| ApiError(Error::Refused(why)))?;
    let after = match since {
        Some(since) => since,
        None => last_event(&headers)?,
    };
    Ok(tape(engine.read_tape(thread, filter, after).await?))
}

/// What to read, and behind which event.
pub(super) fn subscription(wanted: &Value) -> Result<(EventFilter, Option<u64>), String> {
    let Value::Object(wanted) = wanted else { return Err("must be an object".into()) };
    let given = |key: &str| wanted.get(key).filter(|value| !value.is_null());
    let channels = texts(wanted.get("channels")).filter(|channels| !channels.is_empty());
    let channels = channels.ok_or("channels: must be a list of the names of channels, at least one")?;
    if let Some(unknown) = channels.iter().find(|channel| !EventFilter::knows(channel)) {
        return Err(format!("channels: there is no channel `{unknown}`"));
    }
    let namespaces = match given("namespaces") {
        None => Some(Vec::new()),
        Some(Value::Array(prefixes)) => prefixes.iter().map(|prefix| texts(Some(prefix))).collect(),
        Some(_) => None,
    };
    let namespaces = namespaces.ok_or("namespaces: must be a list of lists of texts")?;
    let number = |key: &str| match given(key) {
        None => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(format!("{key}: {value} must be a whole number of zero or more")),
    };
    let depth = number("depth")?.map(|depth| usize::try_from(depth).unwrap_or(usize::MAX));
    Ok((EventFilter { channels, namespaces, depth }, number("since")?))
}

fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    value?.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// The number of the last event that a client has, which it may also name by the event's id.
fn last_event(headers: &HeaderMap) -> Result<u64, ApiError> {
    let Some(given) = headers.get("last-event-id") else { return Ok(0) };
    let given = given.to_str().unwrap_or_default();
    if matches!(given, "" | "-" | "-1") {
        return Ok(0);
    }
    let refused = || ApiError(Error::Refused(format!("last-event-id: `{given}` is not the id of an event")));
    number_of(given).ok_or_else(refused)
}

fn tape(tape: Tape) -> Response {
    let chunks = stream::unfold((tape, heartbeats()), |(mut tape, mut beats)| async move {
        let events = tokio::select! {
            events = tape.next() => events?,
            _ = beats.tick() => return Some((BEAT, (tape, beats))),
        };
        let mut chunk = Vec::new();
        for event in events {
            chunk.extend_from_slice(format!("event: {}\r\ndata: ", event.method).as_bytes());
            event.write(&mut chunk);
            chunk.extend_from_slice(format!("\r\nid: {}\r\n\r\n", event.seq).as_bytes());
        }
        Some((Bytes::from(chunk), (tape, beats)))
    });
    sse::event_stream(chunks, HeaderMap::new())
}

/// One command, and what came of it: failures that the protocol has a name for are answers as well.
pub(super) async fn command(
    Caller(engine): Caller,
    Path(thread): Path<String>,
    of_request: Configurable,
    body: Bytes,
) -> Response {
    let command = match Command::read(&body) {
        Ok(command) => command,
        Err((id, why)) => {
            let answer = Refusal::invalid(why).answer(id);
            return (StatusCode::BAD_REQUEST, json_answer(&answer)).into_response();
        }
    };
    let id = command.id;
    let answer = match thread.parse() {
        Ok(thread) => execute(&engine, thread, command, &of_request).await,
        Err(_) => Refusal::unknown("422: Invalid thread ID".to_owned()).answer(Some(id)),
    };
    json_answer(&answer)
}

fn json_answer(answer: &Value) -> Response {
    let mut told = ([(header::CONTENT_TYPE, "application/json")], answer.to_string()).into_response();
    if let Some(seconds) = answer.get("retry_after").and_then(Value::as_u64) {
        told.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    told
}

/// That a command did what it was to do.
pub(super) fn success(id: u64, result: &Value) -> Value {
    // Upstream: always 0. Clients take it for a place up to which they have heard everything, and none can be promised.
    json!({ "type": "success", "id": id, "result": result, "meta": { "applied_through_seq": 0 } })
}

/// The parameters of a command as plain values.
pub(super) fn plain(params: &RawObject) -> Object {
    let value = |(key, raw): (&String, &_)| Some((key.clone(), serde_json::to_value(raw).ok()?));
    params.iter().filter_map(value).collect()
}
