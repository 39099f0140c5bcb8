//! The store as graph code reaches it over the wire.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use threadyard_core::{
    items::{Embedding, FoundItem, Item, ItemAnswer, ItemIndex, ItemOperation, ItemPut, ItemSearch, NamespaceQuery},
    json::raw_from_text,
    metadata_filter::MetadataFilter,
    page::Window,
};

use crate::frame::FrameError;

/// Operations of graph code on the store.
#[derive(Deserialize)]
pub(crate) struct StoreBatch {
    /// On whose behalf.
    #[serde(default)]
    pub(crate) slot: u64,
    ops: Vec<StoreOp>,
}

#[derive(Deserialize)]
struct StoreOp {
    op: String,
    #[serde(default)]
    ns: Vec<String>,
    #[serde(default)]
    key: String,
    #[serde(default)]
    value: Option<Bytes>,
    #[serde(default)]
    vectors: Vec<Bytes>,
    #[serde(default)]
    ttl: Option<f64>,
    #[serde(default)]
    refresh: Option<bool>,
    #[serde(default)]
    filter: Option<Bytes>,
    #[serde(default)]
    prefix: Option<Vec<String>>,
    #[serde(default)]
    suffix: Option<Vec<String>>,
    #[serde(default)]
    max_depth: Option<usize>,
    #[serde(default)]
    limit: u32,
    #[serde(default)]
    offset: u32,
}

impl StoreBatch {
    /// What storage is to do. Vectors must be those of the project's index.
    pub(crate) fn understood(self, index: Option<&ItemIndex>) -> Result<Vec<ItemOperation>, FrameError> {
        self.ops.into_iter().map(|op| op.understood(index)).collect()
    }
}

impl StoreOp {
    fn understood(self, index: Option<&ItemIndex>) -> Result<ItemOperation, FrameError> {
        let body = |why: String| FrameError::Body(why);
        let refresh = self.refresh.unwrap_or_default();
        let window = Window { limit: self.limit, offset: self.offset };
        // Graphs may touch everything.
        let visible = MetadataFilter::default();
        Ok(match self.op.as_str() {
            "get" => ItemOperation::Get { namespace: self.ns, key: self.key, refresh, visible },
            "put" => {
                let text = |bytes: Bytes| String::from_utf8(bytes.into()).map_err(|error| body(error.to_string()));
                let json = |text| raw_from_text(text).map_err(|error| body(error.to_string()));
                let value = self.value.map(|bytes| text(bytes).and_then(json)).transpose()?;
                let ttl = self.ttl.map(|minutes| Duration::try_from_secs_f64(minutes * 60.0)).transpose();
                let ttl = ttl.map_err(|error| body(format!("ttl: {error}")))?;
                let embeddings =
                    self.vectors.iter().map(|vector| embedding(index, vector)).collect::<Result<_, _>>()?;
                ItemOperation::Put(ItemPut {
                    namespace: self.ns,
                    key: self.key,
                    value,
                    ttl,
                    embeddings,
                    within: visible,
                })
            }
            "search" => {
                let parse = |bytes: Bytes| serde_json::from_slice(&bytes).map_err(|error| body(error.to_string()));
                let filter = self.filter.map(parse).transpose()?.unwrap_or_default();
                let query = self.vectors.first().map(|vector| embedding(index, vector)).transpose()?;
                ItemOperation::Search(ItemSearch { prefix: self.ns, filter, query, window, refresh, visible })
            }
            "list" => ItemOperation::ListNamespaces(NamespaceQuery {
                prefix: self.prefix.unwrap_or_default(),
                suffix: self.suffix.unwrap_or_default(),
                max_depth: self.max_depth,
                window,
            }),
            other => return Err(body(format!("unknown store operation `{other}`"))),
        })
    }
}

/// A vector as the wire carries it: 32-bit floats, little end first.
fn embedding(index: Option<&ItemIndex>, vector: &[u8]) -> Result<Embedding, FrameError> {
    let Some(index) = index else { return Err(FrameError::Body("the project has no store.index".into())) };
    let (numbers, _) = vector.as_chunks();
    let vector = numbers.iter().copied().map(f32::from_le_bytes).collect();
    index.embedding(vector).map_err(|error| FrameError::Body(error.to_string()))
}

/// What storage answers, as graph code gets it.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum StoreAnswer {
    Item(Option<WireItem>),
    Items(Vec<WireItem>),
    Namespaces(Vec<Vec<String>>),
}

#[derive(Serialize)]
pub(crate) struct WireItem {
    ns: Vec<String>,
    key: String,
    value: Bytes,
    created: String,
    updated: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
}

impl From<ItemAnswer> for StoreAnswer {
    fn from(answer: ItemAnswer) -> Self {
        match answer {
            ItemAnswer::Item(item) => Self::Item(item.map(WireItem::from)),
            ItemAnswer::Written | ItemAnswer::Hidden => Self::Item(None),
            ItemAnswer::Items(found) => {
                let scored = |it: FoundItem| WireItem { score: it.score, ..it.item.into() };
                Self::Items(found.into_iter().map(scored).collect())
            }
            ItemAnswer::Namespaces(namespaces) => Self::Namespaces(namespaces),
        }
    }
}

impl From<Item> for WireItem {
    fn from(item: Item) -> Self {
        Self {
            ns: item.namespace,
            key: item.key,
            value: Bytes::copy_from_slice(item.value.get().as_bytes()),
            created: item.created_at.to_string(),
            updated: item.updated_at.to_string(),
            score: None,
        }
    }
}
