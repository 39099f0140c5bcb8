//! Tools: one for each assistant, named as it is.

use std::collections::{BTreeMap, HashMap};

use axum::{body::Bytes, http::HeaderMap, response::Response};
use serde::Deserialize;
use serde_json::{Value, json};
use threadyard_core::{
    assistants::{Assistant, AssistantQuery, AssistantSort},
    ids::AssistantId,
    json::Object,
    metadata_filter::MetadataFilter,
    page::{Order, Window},
    runs::RunError,
};
use threadyard_engine::{Engine, Error, ThreadChoice};

use super::{
    super::{
        json_rpc::{Call, RpcError},
        request_id::Configurable,
        runs::fields,
        sse::{self, Watchdog},
    },
    progress,
    versions::Manner,
};

/// So many tools are listed at once.
const PAGE: usize = 100;
/// So many assistants are read at once.
const READ: u32 = 100;
/// So long may the name of a tool be.
const LONGEST_NAME: usize = 128;

/// An assistant under the name that calls it.
struct Tool {
    name: String,
    assistant: Assistant,
}

pub(super) async fn list(engine: &Engine, cursor: Option<&Value>) -> Result<Value, RpcError> {
    let from = place(cursor)?;
    let (tools, total) = page(engine, from).await?;
    let mut shown = Vec::new();
    for tool in &tools {
        match described(engine, tool).await {
            Ok(tool) => shown.push(tool),
            // What one graph does not tell is no reason to keep the others from everybody.
            Err(error @ (Error::BrokenGraph { .. } | Error::Raised(_) | Error::Refused(_))) => {
                tracing::warn!(assistant = %tool.assistant.assistant_id, %error, "an assistant without schemas is no tool");
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut page = json!({ "tools": shown });
    if total.saturating_sub(from) > PAGE {
        page["nextCursor"] = (from + PAGE).to_string().into();
    }
    Ok(page)
}

/// Where to go on with the list.
fn place(cursor: Option<&Value>) -> Result<usize, RpcError> {
    let Some(cursor) = cursor.filter(|cursor| !cursor.is_null()) else { return Ok(0) };
    let place = match cursor {
        Value::String(text) => text.parse().ok(),
        number => number.as_u64().and_then(|number| usize::try_from(number).ok()),
    };
    place.ok_or_else(|| RpcError::params(format!("cursor: {cursor} is none of this list")))
}

/// The tools from a place on, those of the newest assistants first, and how many there are in all. Of assistants with one
/// name the one that a graph brought with it has it, or else the newest. Of those that are not shown only the name is kept.
async fn page(engine: &Engine, from: usize) -> Result<(Vec<Tool>, usize), RpcError> {
    let (mut places, mut shown) = (HashMap::new(), BTreeMap::new());
    each(engine, None, |name, assistant| {
        let next = places.len();
        let place = *places.entry(name.clone()).or_insert(next);
        let is_shown = (from..from.saturating_add(PAGE)).contains(&place);
        if is_shown && (place == next || is_of_a_graph(&assistant)) {
            shown.insert(place, Tool { name, assistant });
        }
    })
    .await?;
    Ok((shown.into_values().collect(), places.len()))
}

/// Shows the assistants whose names contain a text, or all, with the names of their tools: the newest first.
async fn each(engine: &Engine, part: Option<&str>, mut show: impl FnMut(String, Assistant)) -> Result<(), RpcError> {
    let mut offset = 0;
    loop {
        let query = AssistantQuery {
            visible: MetadataFilter::default(),
            metadata: Object::new(),
            graph_id: None,
            name: part.map(str::to_owned),
            sort_by: AssistantSort::CreatedAt,
            order: Order::Descending,
        };
        let page = engine.search_assistants(query, Window { limit: READ, offset }).await?;
        offset += READ;
        for assistant in page.rows {
            show(tool_name(&assistant), assistant);
        }
        if !page.more {
            return Ok(());
        }
    }
}

/// Whether a graph brought this assistant with it.
fn is_of_a_graph(assistant: &Assistant) -> bool {
    assistant.assistant_id == AssistantId::of_graph(&assistant.graph_id)
}

/// What an assistant is called where names have letters, digits, `_`, `-` and `.` only.
fn tool_name(assistant: &Assistant) -> String {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    let name: String = assistant.name.chars().map(|letter| if fits(letter) { letter } else { '_' }).collect();
    let name: String = name.trim_matches('_').chars().take(LONGEST_NAME).collect();
    if name.is_empty() { assistant.assistant_id.to_string() } else { name }
}

async fn described(engine: &Engine, tool: &Tool) -> Result<Value, Error> {
    let assistant = &tool.assistant;
    let schemas = engine.assistant_schemas(assistant.assistant_id).await?;
    let schemas: Value = serde_json::from_str(schemas.get())
        .map_err(|error| Error::Internal(format!("the schemas of a graph make no sense: {error}")))?;
    let description = assistant.description.clone().filter(|text| !text.is_empty());
    Ok(json!({
        "name": tool.name,
        "title": assistant.name,
        "description": description.unwrap_or_else(|| format!("Tool based on the {} assistant", assistant.name)),
        "inputSchema": input_schema(schemas["input_schema"].clone()),
        "annotations": {
            "readOnlyHint": false, "destructiveHint": false, "idempotentHint": false, "openWorldHint": true,
        },
    }))
}

/// The input of a graph, where messages are the text of one: models write that without fail.
fn input_schema(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else { return json!({ "type": "object" }) };
    schema.entry("type").or_insert_with(|| "object".into());
    let messages = schema.get_mut("properties").and_then(|properties| properties.get_mut("messages"));
    if let Some(messages) = messages.filter(|messages| holds_messages(messages)) {
        let title = messages["title"].as_str().unwrap_or("Messages");
        *messages =
            json!({ "type": "string", "title": title, "description": "The user message to send to the agent." });
    }
    if let Some(shapes) = schema.remove("$defs")
        && Value::from(schema.clone()).to_string().contains("#/$defs/")
    {
        schema.insert("$defs".into(), shapes);
    }
    schema.into()
}

fn holds_messages(schema: &Value) -> bool {
    schema["items"].to_string().contains("#/$defs/HumanMessage\"")
}

/// Runs an assistant on a thread that goes with the run. A client that leaves stops it: nobody else can ask for the result.
pub(super) async fn call(
    engine: Engine,
    call: &Call,
    of_request: &Configurable,
    (manner, streams): (Manner, bool),
) -> Result<Response, RpcError> {
    let assistant = named(&engine, call.params.get("name")).await?;
    let input = match call.params.get("arguments") {
        None | Some(Value::Null) => Object::new(),
        Some(Value::Object(arguments)) => arguments.clone(),
        Some(_) => return Err(RpcError::params("arguments: must be an object")),
    };
    let token = call.params.get("_meta").and_then(|meta| meta.get("progressToken"));
    let token = token.filter(|token| streams && (token.is_string() || token.is_number())).cloned();
    let run = fields(
        json!({ "assistant_id": assistant.assistant_id, "input": input, "stream_mode": ["updates"] }),
        of_request,
    );
    let started = engine.create_run(run.request()?, ThreadChoice::New(true)).await?;
    let (thread, run) = (started.run.thread_id, started.run.run_id);
    let watchdog = Watchdog::new(engine.clone(), thread, run, true);
    let id = call.id.clone();
    if let Some(token) = token {
        return Ok(progress::told(progress::Telling::new(engine, started, (id, token), manner), watchdog));
    }
    let answer = async move {
        let result = engine.wait_for(thread, run, started.stream).await;
        Bytes::from(answered(&id, result, manner).to_string())
    };
    Ok(sse::kept_alive(answer, watchdog, HeaderMap::new()))
}

async fn named(engine: &Engine, name: Option<&Value>) -> Result<Assistant, RpcError> {
    let Some(Value::String(name)) = name else { return Err(RpcError::params("name: must be the name of a tool")) };
    let mut tool = None;
    each(engine, Some(certain(name)), |found, assistant| {
        if found == *name && (tool.is_none() || is_of_a_graph(&assistant)) {
            tool = Some(assistant);
        }
    })
    .await?;
    // Those whose names have nothing to show are called by their ids.
    let nameless = match name.parse() {
        Ok(id) if tool.is_none() => engine.assistant(id).await.ok().filter(|it| tool_name(it) == *name),
        _ => None,
    };
    tool.or(nameless).ok_or_else(|| RpcError::params(format!("Unknown tool: {name}")))
}

/// What the name of an assistant has for certain, if this is its tool's: the longest part without `_`, which stands for
/// any letter.
fn certain(tool: &str) -> &str {
    tool.split('_').max_by_key(|part| part.len()).unwrap_or_default()
}

/// The answer to the call of a tool, once its run has ended.
pub(super) fn answered(id: &Value, result: Result<Bytes, Error>, manner: Manner) -> Value {
    manner.answer(id, result.map(|result| content(&String::from_utf8_lossy(&result))).map_err(RpcError::from))
}

/// What a run results in. That it failed is for the model to see, which may know better than to fail again.
fn content(result: &str) -> Value {
    #[derive(Deserialize)]
    struct Failed {
        __error__: RunError,
    }
    let text = |text: &str| json!([{ "type": "text", "text": text }]);
    match serde_json::from_str::<Failed>(result) {
        // Upstream: the class alone, since a message may hold what is not for clients.
        Ok(failed) => json!({ "isError": true, "content": text(&failed.__error__.error) }),
        Err(_) => json!({ "content": text(result) }),
    }
}

#[cfg(test)]
mod tests {
    use threadyard_core::{ids::AssistantId, time::Timestamp};

    use super::*;

    #[test]
    fn names_of_tools_hold_what_models_can_write() {
        let named = |name: &str| {
            tool_name(&Assistant {
                assistant_id: AssistantId::of_graph("g"),
                graph_id: "g".into(),
                config: Object::new(),
                context: Object::new(),
                metadata: Object::new(),
                name: name.into(),
                created_at: Timestamp(0),
                updated_at: Timestamp(0),
                version: 1,
                description: None,
            })
        };
        assert_eq!((named("agent"), named("My Bot!")), ("agent".into(), "My_Bot".into()));
        assert_eq!(named("x".repeat(200).as_str()).len(), LONGEST_NAME);
        assert_eq!(named("日本"), AssistantId::of_graph("g").to_string());
    }

    #[test]
    fn messages_are_written_as_the_text_of_one() {
        let list = |item: Value| json!({ "type": "array", "title": "Messages", "items": item });
        let human = json!({ "oneOf": [{ "$ref": "#/$defs/HumanMessage" }] });
        let shapes = json!({ "HumanMessage": {}, "Topic": {} });
        let schema = |messages: Value, topic: Value| {
            input_schema(json!({ "properties": { "messages": messages, "topic": topic }, "$defs": shapes }))
        };
        let simple = schema(list(human.clone()), json!({}));
        assert_eq!((&simple["properties"]["messages"]["type"], simple.get("$defs")), (&json!("string"), None));
        assert_eq!(simple["type"], json!("object"));
        let refers = schema(list(human), json!({ "$ref": "#/$defs/Topic" }));
        assert_eq!(refers["$defs"], shapes);
        let plain = schema(list(json!({})), json!({}));
        assert_eq!(plain["properties"]["messages"], list(json!({})));
        assert_eq!(input_schema(json!(true)), json!({ "type": "object" }));
    }

    #[test]
    fn a_cursor_counts_tools() {
        for (cursor, at) in [(None, 0), (Some(json!(null)), 0), (Some(json!("100")), 100), (Some(json!(7)), 7)] {
            assert_eq!(place(cursor.as_ref()), Ok(at));
        }
        for cursor in [json!("x"), json!(-1), json!("-1"), json!([]), json!(1.5)] {
            assert!(place(Some(&cursor)).is_err(), "{cursor}");
        }
    }

    #[test]
    fn a_failure_is_told_by_its_class() {
        let failed = content(r#"{"__error__":{"error":"ValueError","message":"secret"}}"#);
        assert_eq!(failed, json!({ "isError": true, "content": [{ "type": "text", "text": "ValueError" }] }));
        let odd = r#"{"a":"\ud800"}"#;
        assert_eq!(content(odd), json!({ "content": [{ "type": "text", "text": odd }] }));
    }
}
