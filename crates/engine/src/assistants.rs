//! Assistants: finding them, and asking their graphs about themselves.

use serde_json::json;
use threadyard_core::{
    access::Action,
    assistants::{Assistant, AssistantPatch, AssistantQuery, AssistantVersion, CreatedAssistant},
    ids::AssistantId,
    json::{Object, RawJson, RawObject, Value, fields, raw},
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    runtime::{CallOperation, GraphCall},
};

use crate::{Engine, Error, Result};

/// An assistant that somebody asks for, or a change of one.
#[derive(Clone, Debug, Default)]
pub struct AssistantRequest {
    /// The graph.
    pub graph_id: Option<String>,
    /// A RunnableConfig.
    pub config: Object,
    /// The runtime context; an empty one takes away what was there.
    pub context: Option<Object>,
    /// Free annotations.
    pub metadata: Object,
    /// What people call it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
}

impl Engine {
    /// Makes an assistant. `keep_existing` accepts that the id is taken and answers the assistant that has it.
    pub async fn create_assistant(
        &self,
        id: Option<AssistantId>,
        request: AssistantRequest,
        keep_existing: bool,
    ) -> Result<Assistant> {
        self.check_graph(request.graph_id.as_deref())?;
        let now = self.ambient.now();
        let assistant_id = id.unwrap_or_else(|| AssistantId(self.ambient.random()));
        let (request, filter) = self.permit_change(Action::AssistantsCreate, assistant_id, request).await?;
        let Mirrored { config, context } = mirrored(request.config, request.context)?;
        let assistant = Assistant {
            assistant_id,
            graph_id: request.graph_id.unwrap_or_default(),
            config: config.unwrap_or_default(),
            context: context.unwrap_or_default(),
            metadata: request.metadata,
            name: request.name.unwrap_or_else(|| "Untitled".into()),
            created_at: now,
            updated_at: now,
            version: 1,
            description: request.description,
        };
        match self.storage.create_assistant(assistant).await? {
            CreatedAssistant::New(assistant) => Ok(assistant),
            CreatedAssistant::Existing(assistant) if keep_existing && filter.admits(&assistant.metadata) => {
                Ok(assistant)
            }
            CreatedAssistant::Existing(assistant) => {
                Err(Error::Conflict(format!("assistant `{}` already exists", assistant.assistant_id)))
            }
        }
    }

    /// Changes an assistant, which makes its next version.
    pub async fn patch_assistant(&self, id: AssistantId, request: AssistantRequest) -> Result<Assistant> {
        let (request, within) = self.permit_change(Action::AssistantsUpdate, id, request).await?;
        self.check_graph(request.graph_id.as_deref())?;
        let Mirrored { config, context } = mirrored(request.config, request.context)?;
        let patch = AssistantPatch {
            within,
            graph_id: request.graph_id,
            config,
            context,
            metadata: request.metadata,
            name: request.name,
            description: request.description,
        };
        self.storage.patch_assistant(id, patch, self.ambient.now()).await?.ok_or(Error::NotFound("assistant"))
    }

    /// The versions of an assistant, newest first.
    pub async fn assistant_versions(
        &self,
        id: AssistantId,
        metadata: Object,
        window: Window,
    ) -> Result<Vec<AssistantVersion>> {
        if self.is_restricted() {
            self.assistant(id).await?;
        }
        self.storage.assistant_versions(id, metadata, window).await?.ok_or(Error::NotFound("assistant"))
    }

    /// Makes an earlier version the one that runs use.
    pub async fn select_assistant_version(&self, id: AssistantId, version: i64) -> Result<Assistant> {
        let asked = || fields(&json!({ "assistant_id": id, "version": version }));
        let within = self.permit(Action::AssistantsUpdate, asked).await?.filter;
        let chosen = self.storage.select_assistant_version(id, within, version, self.ambient.now()).await?;
        chosen.ok_or(Error::NotFound("assistant or version"))
    }

    /// Deletes an assistant, and if asked the threads that it worked on last.
    pub async fn delete_assistant(&self, id: AssistantId, with_threads: bool) -> Result<()> {
        let within = self.permit(Action::AssistantsDelete, || assistant_value(id)).await?.filter;
        if !self.storage.delete_assistant(id, within).await? {
            return Err(Error::NotFound("assistant"));
        }
        if with_threads {
            self.delete_threads_of(id).await?;
        }
        Ok(())
    }

    /// The assistant with this id.
    pub async fn assistant(&self, id: AssistantId) -> Result<Assistant> {
        let filter = self.permit(Action::AssistantsRead, || assistant_value(id)).await?.filter;
        let found = self.storage.assistant(id).await?;
        found.filter(|found| filter.admits(&found.metadata)).ok_or(Error::NotFound("assistant"))
    }

    /// The assistants that match. An unknown graph is an error, not an empty page.
    pub async fn search_assistants(&self, mut query: AssistantQuery, window: Window) -> Result<Page<Assistant>> {
        self.permit_assistants(&mut query, window).await?;
        self.check_graph(query.graph_id.as_deref())?;
        Ok(self.storage.search_assistants(query, window).await?)
    }

    /// How many assistants match.
    pub async fn count_assistants(&self, mut query: AssistantQuery) -> Result<u64> {
        self.permit_assistants(&mut query, Window { limit: 0, offset: 0 }).await?;
        self.check_graph(query.graph_id.as_deref())?;
        Ok(self.storage.count_assistants(query).await?)
    }

    /// The JSON schemas of an assistant's graph.
    pub async fn assistant_schemas(&self, id: AssistantId) -> Result<RawJson> {
        let assistant = self.assistant(id).await?;
        self.ask(&assistant, CallOperation::Schemas, json!({ "config": self.config_of(&assistant) })).await
    }

    /// The drawing of an assistant's graph. `name` is the assistant's id or a graph's.
    pub async fn assistant_graph(&self, name: &str, xray: serde_json::Value) -> Result<RawJson> {
        let id = name.parse().unwrap_or_else(|_| AssistantId::of_graph(name));
        let assistant = self.assistant(id).await?;
        self.ask(&assistant, CallOperation::Draw, json!({ "config": self.config_of(&assistant), "xray": xray })).await
    }

    /// The schemas of the subgraphs of an assistant's graph.
    pub async fn assistant_subgraphs(
        &self,
        id: AssistantId,
        namespace: Option<String>,
        recurse: bool,
    ) -> Result<RawJson> {
        let assistant = self.assistant(id).await?;
        let args = json!({ "config": self.config_of(&assistant), "namespace": namespace, "recurse": recurse });
        self.ask(&assistant, CallOperation::Subgraphs, args).await
    }

    /// The assistant that a run names: by its id, or by its graph's for the default one.
    pub(crate) async fn resolve_assistant(&self, name: &str) -> Result<Assistant> {
        if let Ok(id) = name.parse::<AssistantId>() {
            let found = self.storage.assistant(id).await?.ok_or(Error::NotFound("thread or assistant"))?;
            let permitted = self.permit_assistant(&found).await?;
            return if permitted { Ok(found) } else { Err(Error::NotFound("thread or assistant")) };
        }
        if !self.runtime.graphs().iter().any(|graph| graph.id == name) {
            return Err(Error::Invalid(format!(
                "invalid assistant `{name}`: it must be the id of an assistant or one of the graphs: {}",
                self.graph_ids()
            )));
        }
        self.storage.assistant(AssistantId::of_graph(name)).await?.ok_or(Error::NotFound("thread or assistant"))
    }

    /// Asks about an assistant to be made or changed, which becomes what may be.
    async fn permit_change(
        &self,
        action: Action,
        id: AssistantId,
        mut request: AssistantRequest,
    ) -> Result<(AssistantRequest, MetadataFilter)> {
        let asked = || {
            fields(&json!({
                "assistant_id": id, "graph_id": request.graph_id, "config": request.config,
                "context": request.context, "metadata": request.metadata, "name": request.name,
            }))
        };
        let mut permit = self.permit(action, asked).await?;
        permit.edit("graph_id", &mut request.graph_id)?;
        permit.edit("config", &mut request.config)?;
        permit.edit("context", &mut request.context)?;
        permit.edit("metadata", &mut request.metadata)?;
        permit.edit("name", &mut request.name)?;
        Ok((request, permit.filter))
    }

    /// Narrows a search down to what the caller may see.
    async fn permit_assistants(&self, query: &mut AssistantQuery, window: Window) -> Result<()> {
        let asked = || {
            fields(&json!({
                "graph_id": query.graph_id, "metadata": query.metadata, "limit": window.limit, "offset": window.offset,
            }))
        };
        let mut permit = self.permit(Action::AssistantsSearch, asked).await?;
        permit.edit("metadata", &mut query.metadata)?;
        permit.edit("graph_id", &mut query.graph_id)?;
        query.visible = permit.filter.narrowing(&mut query.metadata);
        Ok(())
    }

    /// An assistant's config, with the caller in it for graphs that are made for each use.
    fn config_of(&self, assistant: &Assistant) -> Object {
        let mut config = assistant.config.clone();
        if self.is_restricted() {
            let configurable = config.entry("configurable").or_insert_with(|| json!({}));
            if let Value::Object(configurable) = configurable {
                self.name_caller(configurable);
            }
        }
        config
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

fn assistant_value(id: AssistantId) -> RawObject {
    fields(&json!({ "assistant_id": id }))
}

/// A config and a context that say the same.
struct Mirrored {
    config: Option<Object>,
    context: Option<Object>,
}

/// `config.configurable` and `context` mirror each other: whichever is given sets the other, so only one may be.
fn mirrored(mut config: Object, context: Option<Object>) -> Result<Mirrored> {
    let configurable = match config.get("configurable") {
        Some(Value::Object(configurable)) if !configurable.is_empty() => Some(configurable.clone()),
        _ => None,
    };
    let named = context.as_ref().filter(|context| !context.is_empty());
    match (configurable, named) {
        (Some(_), Some(_)) => Err(Error::Refused("give either `config.configurable` or `context`, not both".into())),
        (Some(configurable), None) => Ok(Mirrored { config: Some(config), context: Some(configurable) }),
        (None, Some(named)) => {
            config.insert("configurable".to_owned(), named.clone().into());
            Ok(Mirrored { config: Some(config), context })
        }
        (None, None) => Ok(Mirrored { config: Some(config).filter(|config| !config.is_empty()), context }),
    }
}
