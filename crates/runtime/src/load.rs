//! What a worker is to load, and what became of it: the bodies of LOAD and READY.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use threadyard_core::{
    items::{ItemIndex, ItemTtl},
    runtime::GraphError,
};

use crate::{auth::AuthConfig, custom_app::RouteTable, serde_rules::SerdeRules};

#[derive(Clone, Serialize)]
pub(crate) struct Load {
    pub(crate) proto: u32,
    pub(crate) project: String,
    pub(crate) graphs: BTreeMap<String, LoadGraph>,
    pub(crate) concurrency: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store_ttl: Option<StoreTtl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) store_index: Option<StoreIndex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) serde: Option<SerdeRules>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auth: Option<LoadAuth>,
    /// Where the handlers of the project's own encryption are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<LoadGraph>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app: Option<LoadApp>,
    pub(crate) imports: Vec<String>,
    /// Where the project's code finds the server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
}

/// How long store items are kept, for LangGraph's own store code.
#[derive(Clone, Serialize)]
pub(crate) struct StoreTtl {
    default_ttl: Option<f64>,
    refresh_on_read: bool,
}

impl StoreTtl {
    /// `None` when nothing was configured.
    pub(crate) fn of(ttl: ItemTtl) -> Option<Self> {
        let default_ttl = ttl.default.map(|ttl| ttl.as_secs_f64() / 60.0);
        (ttl != ItemTtl::default()).then_some(Self { default_ttl, refresh_on_read: ttl.refresh_on_read })
    }
}

/// What makes vectors of texts, and of which.
#[derive(Clone, Serialize)]
pub(crate) struct StoreIndex {
    pub(crate) embed: String,
    dims: usize,
    fields: Vec<String>,
}

impl StoreIndex {
    pub(crate) fn of(index: &ItemIndex) -> Self {
        Self { embed: index.embed.clone(), dims: index.dims, fields: index.fields.clone() }
    }
}

/// What decides about access.
#[derive(Clone, Serialize)]
pub(crate) struct LoadAuth {
    path: String,
    /// Whether what no handler looks at is refused.
    deny: bool,
}

impl LoadAuth {
    pub(crate) fn of(config: &AuthConfig) -> Self {
        Self { path: config.path.clone(), deny: config.deny }
    }
}

/// The user's HTTP application.
#[derive(Clone, Serialize)]
pub(crate) struct LoadApp {
    pub(crate) path: String,
    /// Whether only those whom the host lets in may reach its routes.
    pub(crate) guarded: bool,
}

#[derive(Clone, Serialize)]
pub(crate) struct LoadGraph {
    pub(crate) path: String,
}

#[derive(Deserialize)]
pub(crate) struct Ready {
    pub(crate) graphs: BTreeMap<String, Loaded>,
    pub(crate) revision: String,
    /// What became of `store_index`, when there was one.
    #[serde(default)]
    pub(crate) store_index: Option<Loaded>,
    /// What became of `auth`, when there was one.
    #[serde(default)]
    pub(crate) auth: Option<LoadedAuth>,
    /// What became of `encryption`, when there was one.
    #[serde(default)]
    pub(crate) encryption: Option<LoadedEncryption>,
    /// What became of `app`, when there was one.
    #[serde(default)]
    pub(crate) app: Option<LoadedApp>,
}

/// What became of an encryption object.
#[derive(Deserialize)]
pub(crate) struct LoadedEncryption {
    #[serde(default)]
    pub(crate) error: Option<GraphError>,
    /// Whether a handler makes the context of a request.
    #[serde(default)]
    pub(crate) context: bool,
}

/// What became of an application.
#[derive(Deserialize)]
pub(crate) struct LoadedApp {
    #[serde(default)]
    pub(crate) error: Option<GraphError>,
    #[serde(default, rename = "routes")]
    pub(crate) table: RouteTable,
    /// Whether it has middleware, which wraps routes of the host, too.
    #[serde(default)]
    pub(crate) middleware: bool,
    /// JSON.
    #[serde(default)]
    pub(crate) openapi: Option<bytes::Bytes>,
}

/// What became of an auth object.
#[derive(Deserialize)]
pub(crate) struct LoadedAuth {
    #[serde(default)]
    pub(crate) error: Option<GraphError>,
    /// Whether authentication looks at the bodies of requests.
    #[serde(default)]
    pub(crate) body: bool,
}

/// What became of something that was to be loaded.
#[derive(Deserialize)]
pub(crate) struct Loaded {
    #[serde(default)]
    pub(crate) error: Option<GraphError>,
}
