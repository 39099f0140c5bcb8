//! What an agent says about itself.

use serde_json::{Value, json};
use threadyard_core::assistants::Assistant;
use threadyard_engine::{Engine, Error};

use super::{super::json_rpc::RpcError, Client};

/// What agents here take and give.
const MODES: [&str; 2] = ["application/json", "text/plain"];
/// The header by which a client chooses how much of a context's history it is told.
pub(super) const HISTORY_SCOPE: &str = "LangGraph-A2A-History-Scope";

/// The card of an assistant, at the address that the client used.
pub(super) async fn of(engine: &Engine, assistant: &Assistant, client: &Client) -> Result<Value, RpcError> {
    let id = assistant.assistant_id;
    let url = format!("{}/a2a/{id}", client.place);
    let given = assistant.description.clone().filter(|text| !text.is_empty());
    let description = given.unwrap_or_else(|| format!("{} assistant", assistant.name));
    let input = input(engine, assistant).await?;
    let interface = |version: &str| json!({ "url": url, "protocolBinding": "JSONRPC", "protocolVersion": version });
    Ok(json!({
        "name": assistant.name,
        "description": description,
        "url": url,
        "protocolVersion": "0.3.0",
        "preferredTransport": "JSONRPC",
        "supportedInterfaces": [interface("1.0"), interface("0.3")],
        "capabilities": {
            "streaming": true,
            "pushNotifications": engine.sends_webhooks(),
            "stateTransitionHistory": false,
            "extensions": [{
                "uri": "https://langchain.com/a2a/extensions/history-scope/v1",
                "description": "Choose task-only or full-context response history",
                "required": false,
                "params": {
                    "header": HISTORY_SCOPE, "values": ["context", "task"], "default": "context",
                    "methods": ["SendMessage", "GetTask", "ListTasks"],
                },
            }],
        },
        "defaultInputModes": MODES,
        "defaultOutputModes": MODES,
        "skills": [{
            "id": format!("{id}-main"),
            "name": format!("{} Capabilities", assistant.name),
            "description": description,
            "tags": ["assistant", "langgraph"],
            "examples": [],
            "inputModes": MODES,
            "outputModes": MODES,
            "metadata": { "inputSchema": input },
        }],
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

/// Which channels the graph takes.
async fn input(engine: &Engine, assistant: &Assistant) -> Result<Value, RpcError> {
    let schema = input_schema(engine, assistant).await?;
    let properties = fields(&schema);
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let conversational = properties.iter().any(|name| name == "messages");
    Ok(json!({ "required": required, "properties": properties, "supportsA2A": conversational }))
}

/// The JSON schema of what a graph takes.
pub(super) async fn input_schema(engine: &Engine, assistant: &Assistant) -> Result<Value, RpcError> {
    let schemas = engine.assistant_schemas(assistant.assistant_id).await?;
    let mut schemas: Value = serde_json::from_str(schemas.get())
        .map_err(|error| Error::Internal(format!("the schemas of a graph make no sense: {error}")))?;
    Ok(schemas["input_schema"].take())
}

/// The names of what it takes, in order.
pub(super) fn fields(schema: &Value) -> Vec<String> {
    let mut names: Vec<_> =
        schema["properties"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
    names.sort();
    names
}
