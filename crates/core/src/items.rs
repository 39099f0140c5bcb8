//! Items: the long-term memory that graphs reach through LangGraph's store.

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

/// One operation of a batch.
#[derive(Clone, Debug)]
pub enum ItemOperation {
    /// Find one item.
    Get {
        /// Its namespace.
        namespace: Vec<String>,
        /// Its key.
        key: String,
    },
    /// Write or delete one item.
    Put {
        /// Its namespace.
        namespace: Vec<String>,
        /// Its key.
        key: String,
        /// Its value, or none to delete it.
        value: Option<RawJson>,
    },
    /// Find items below a namespace.
    Search {
        /// The first labels of their namespaces.
        prefix: Vec<String>,
        /// Conditions on the value's fields: a value to equal, or operators such as `$gt`.
        filter: Object,
        /// The part of the result that is wanted.
        window: Window,
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
    /// the last wins.
    async fn apply_items(&self, operations: Vec<ItemOperation>, now: Timestamp) -> Result<Vec<ItemAnswer>>;
}
