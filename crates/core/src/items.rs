//! Items: the long-term memory that graphs reach through LangGraph's store.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    json::{Object, RawJson},
    metadata_filter::MetadataFilter,
    page::Window,
    storage::Result,
    time::Timestamp,
};

/// Something remembered under a namespace and a key.
#[derive(Clone, Debug)]
pub struct Item {
    /// The labels of its namespace.
    pub namespace: Vec<String>,
    /// Its key within the namespace.
    pub key: String,
    /// A JSON object.
    pub value: RawJson,
    /// When it was first written.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

impl Item {
    /// Whether a filter admits it, by its value.
    pub fn is_admitted(&self, filter: &MetadataFilter) -> bool {
        filter.is_empty() || serde_json::from_str(self.value.get()).is_ok_and(|value| filter.admits(&value))
    }
}

/// What the project says of how long items are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ItemTtl {
    /// How long, unless who writes says otherwise.
    pub default: Option<Duration>,
    /// Whether reading begins the time anew, unless who reads says otherwise.
    pub refresh_on_read: bool,
}

impl Default for ItemTtl {
    fn default() -> Self {
        Self { default: None, refresh_on_read: true }
    }
}

/// What the project says of finding items by their meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemIndex {
    /// What makes vectors of texts: `./file.py:name` or `provider:model`.
    pub embed: String,
    /// How many numbers a vector has.
    pub dims: usize,
    /// The fields whose texts are found, unless who writes says otherwise.
    pub fields: Vec<String>,
}

impl ItemIndex {
    /// A vector that this index made, as it is stored.
    pub fn embedding(&self, vector: Vec<f32>) -> Result<Embedding, WrongDims> {
        if vector.len() != self.dims {
            return Err(WrongDims { found: vector.len(), dims: self.dims });
        }
        Ok(Embedding { model: format!("{}, {}", self.embed, self.dims), vector })
    }
}

/// The index made a vector that is none of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the embedding has {found} numbers, but store.index.dims of langgraph.json says {dims}")]
pub struct WrongDims {
    found: usize,
    dims: usize,
}

/// The meaning of a text. Vectors of different models can't be compared.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// What made it.
    pub model: String,
    /// The vector.
    pub vector: Vec<f32>,
}

/// What is to be embedded.
#[derive(Clone, Debug)]
pub enum ToEmbed {
    /// What somebody looks for.
    Query(String),
    /// The texts of an item.
    Value {
        /// The item's value.
        value: RawJson,
        /// The fields that hold the texts.
        fields: Vec<String>,
    },
}

/// One operation of a batch.
#[derive(Clone, Debug)]
pub enum ItemOperation {
    /// Find one item.
    Get {
        /// Its namespace.
        namespace: Vec<String>,
        /// Its key.
        key: String,
        /// Whether its time to live begins anew.
        refresh: bool,
        /// What its value must be like; others are as good as missing.
        visible: MetadataFilter,
    },
    /// Write or delete one item.
    Put(ItemPut),
    /// Find items below a namespace.
    Search(ItemSearch),
    /// Find namespaces.
    ListNamespaces(NamespaceQuery),
}

/// One item to be written or deleted.
#[derive(Clone, Debug)]
pub struct ItemPut {
    /// Its namespace.
    pub namespace: Vec<String>,
    /// Its key.
    pub key: String,
    /// Its value, or none to delete it.
    pub value: Option<RawJson>,
    /// How long it is kept after it was written or, where reads refresh, read; for ever when nobody said.
    pub ttl: Option<Duration>,
    /// What its texts mean, when it is to be found by that.
    pub embeddings: Vec<Embedding>,
    /// What the value must be like of an item that is there already; others are not touched.
    pub within: MetadataFilter,
}

/// Which items to find.
#[derive(Clone, Debug)]
pub struct ItemSearch {
    /// The first labels of their namespaces.
    pub prefix: Vec<String>,
    /// Conditions on the value's fields: a value to equal, or operators such as `$gt`.
    pub filter: Object,
    /// The nearest to this come first, then those without embeddings; the last changed first without it.
    pub query: Option<Embedding>,
    /// The part of the result that is wanted.
    pub window: Window,
    /// Whether the times to live of what is found begin anew.
    pub refresh: bool,
    /// What the values must be like; others are as good as missing.
    pub visible: MetadataFilter,
}

/// Which namespaces to list.
#[derive(Clone, Debug)]
pub struct NamespaceQuery {
    /// How they begin; `*` stands for any one label.
    pub prefix: Vec<String>,
    /// How they end; `*` stands for any one label.
    pub suffix: Vec<String>,
    /// Cut them to this many labels.
    pub max_depth: Option<usize>,
    /// The part of the result that is wanted.
    pub window: Window,
}

/// The answer to one operation, in kind.
#[derive(Clone, Debug)]
pub enum ItemAnswer {
    /// To a get.
    Item(Option<Item>),
    /// To a put.
    Written,
    /// To a put of an item that is none of those which it may touch: nothing was changed.
    Hidden,
    /// To a search.
    Items(Vec<FoundItem>),
    /// To a listing.
    Namespaces(Vec<Vec<String>>),
}

/// An item that a search found.
#[derive(Clone, Debug)]
pub struct FoundItem {
    /// The item.
    pub item: Item,
    /// The cosine between what was asked for and the nearest of its texts.
    pub score: Option<f64>,
}

/// Stored items.
#[async_trait]
pub trait Items: Send + Sync {
    /// Applies a batch: reads see what was there before, then all writes happen, and of several writes to one item
    /// the last wins. Items whose time is over are not there.
    async fn apply_items(&self, operations: Vec<ItemOperation>, now: Timestamp) -> Result<Vec<ItemAnswer>>;
}
