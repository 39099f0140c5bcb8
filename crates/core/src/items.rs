//! Items: the long-term memory that graphs reach through LangGraph's store.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    json::{Object, RawJson},
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
    },
    /// Write or delete one item.
    Put {
        /// Its namespace.
        namespace: Vec<String>,
        /// Its key.
        key: String,
        /// Its value, or none to delete it.
        value: Option<RawJson>,
        /// How long it is kept after it was written or, where reads refresh, read; for ever when nobody said.
        ttl: Option<Duration>,
    },
    /// Find items below a namespace.
    Search {
        /// The first labels of their namespaces.
        prefix: Vec<String>,
        /// Conditions on the value's fields: a value to equal, or operators such as `$gt`.
        filter: Object,
        /// The part of the result that is wanted.
        window: Window,
        /// Whether the times to live of what is found begin anew.
        refresh: bool,
    },
    /// Find namespaces.
    ListNamespaces(NamespaceQuery),
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
    /// To a search.
    Items(Vec<Item>),
    /// To a listing.
    Namespaces(Vec<Vec<String>>),
}

/// Stored items.
#[async_trait]
pub trait Items: Send + Sync {
    /// Applies a batch: reads see what was there before, then all writes happen, and of several writes to one item
    /// the last wins. Items whose time is over are not there.
    async fn apply_items(&self, operations: Vec<ItemOperation>, now: Timestamp) -> Result<Vec<ItemAnswer>>;
}
