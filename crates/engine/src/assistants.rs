//! Assistants: finding them, and asking their graphs about themselves.

use serde_json::json;
use threadyard_core::{
    assistants::{Assistant, AssistantQuery},
    ids::AssistantId,
    json::{RawJson, raw},
    page::{Page, Window},
    runtime::{CallOperation, GraphCall},
};

use crate::{Engine, Error, Result};

impl Engine {
    /// The assistant with this id.
    pub async fn assistant(&self, id: AssistantId) -> Result<Assistant> {
        self.storage.assistant(id).await?.ok_or(Error::NotFound("assistant"))
    }

    /// The assistants that match. An unknown graph is an error, not an empty page.
    pub async fn search_assistants(&self, query: AssistantQuery, window: Window) -> Result<Page<Assistant>> {
        self.check_graph(query.graph_id.as_deref())?;
        Ok(self.storage.search_assistants(query, window).await?)
    }

    /// How many assistants match.
    pub async fn count_assistants(&self, query: AssistantQuery) -> Result<u64> {
        self.check_graph(query.graph_id.as_deref())?;
        Ok(self.storage.count_assistants(query).await?)
    }

    /// The JSON schemas of an assistant's graph.
    pub async fn assistant_schemas(&self, id: AssistantId) -> Result<RawJson> {
        let assistant = self.assistant(id).await?;
        self.ask(&assistant, CallOperation::Schemas, json!({ "config": assistant.config })).await
    }

    /// The drawing of an assistant's graph. `name` is the assistant's id or a graph's.
    pub async fn assistant_graph(&self, name: &str, xray: serde_json::Value) -> Result<RawJson> {
        let id = name.parse().unwrap_or_else(|_| AssistantId::of_graph(name));
        let assistant = self.assistant(id).await?;
        self.ask(&assistant, CallOperation::Draw, json!({ "config": assistant.config, "xray": xray })).await
    }

    /// The schemas of the subgraphs of an assistant's graph.
    pub async fn assistant_subgraphs(
        &self,
        id: AssistantId,
        namespace: Option<String>,
        recurse: bool,
    ) -> Result<RawJson> {
        let assistant = self.assistant(id).await?;
        let args = json!({ "config": assistant.config, "namespace": namespace, "recurse": recurse });
        self.ask(&assistant, CallOperation::Subgraphs, args).await
    }

    /// The assistant that a run names: by its id, or by its graph's for the default one.
    pub(crate) async fn resolve_assistant(&self, name: &str) -> Result<Assistant> {
        if let Ok(id) = name.parse::<AssistantId>() {
            return self.storage.assistant(id).await?.ok_or(Error::NotFound("thread or assistant"));
        }
        if !self.runtime.graphs().iter().any(|graph| graph.id == name) {
            return Err(Error::Invalid(format!(
                "invalid assistant `{name}`: it must be the id of an assistant or one of the graphs: {}",
                self.graph_ids()
            )));
        }
        self.storage.assistant(AssistantId::of_graph(name)).await?.ok_or(Error::NotFound("thread or assistant"))
    }

    fn check_graph(&self, graph_id: Option<&str>) -> Result<()> {
        match graph_id {
            Some(id) if !self.runtime.graphs().iter().any(|graph| graph.id == id) => Err(Error::NotFound("graph")),
            _ => Ok(()),
        }
    }

    async fn ask(&self, assistant: &Assistant, operation: CallOperation, args: serde_json::Value) -> Result<RawJson> {
        let call = GraphCall { operation, graph_id: assistant.graph_id.clone(), args: raw(&args) };
        Ok(self.runtime.call(call).await?)
    }
}
