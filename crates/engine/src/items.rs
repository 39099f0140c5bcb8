//! Store items: the long-term memory that clients and graphs share.

use std::time::Duration;

use threadyard_core::{
    items::{Embedding, FoundItem, Item, ItemAnswer, ItemOperation, ItemPut, ItemSearch, NamespaceQuery, ToEmbed},
    json::{Object, RawJson},
    page::Window,
};

use crate::{Engine, Error, Result};

/// An item to be written.
#[derive(Clone, Debug)]
pub struct PutItem {
    /// The labels of its namespace.
    pub namespace: Vec<String>,
    /// Its key within the namespace.
    pub key: String,
    /// A JSON object.
    pub value: RawJson,
    /// How long it is kept; as the project says when the caller does not.
    pub ttl: Option<Duration>,
    /// How it is found by its meaning, where the project has an index.
    pub indexing: Indexing,
}

/// The fields of an item whose texts are embedded.
#[derive(Clone, Debug, Default)]
pub enum Indexing {
    /// Those that the project names.
    #[default]
    AsConfigured,
    /// These.
    Fields(Vec<String>),
    /// None: it is not found by its meaning.
    Never,
}

/// Which items to find.
#[derive(Clone, Debug)]
pub struct ItemQuery {
    /// The first labels of their namespaces.
    pub prefix: Vec<String>,
    /// Conditions on the fields of their values.
    pub filter: Object,
    /// What they are to mean, where the project has an index.
    pub query: Option<String>,
    /// The part of the result that is wanted.
    pub window: Window,
    /// Whether their times to live begin anew; as the project says when the caller does not.
    pub refresh: Option<bool>,
}

impl Engine {
    /// Writes an item, in the place of an earlier one.
    pub async fn put_item(&self, put: PutItem) -> Result<()> {
        check_labels(&put.namespace)?;
        match put.namespace.first().map(String::as_str) {
            None => return Err(Error::Refused("namespace: must have at least one label".into())),
            Some("langgraph") => {
                return Err(Error::Refused("namespace: the root label `langgraph` is reserved".into()));
            }
            Some(_) => {}
        }
        let ttl = put.ttl.or(self.settings.item_ttl.default);
        let embeddings = self.embeddings_of(&put.value, put.indexing).await?;
        let PutItem { namespace, key, value, .. } = put;
        let put = ItemPut { namespace, key, value: Some(value), ttl, embeddings };
        self.apply(ItemOperation::Put(put)).await.map(|_| ())
    }

    /// The item under this key.
    pub async fn item(&self, namespace: Vec<String>, key: String, refresh: Option<bool>) -> Result<Option<Item>> {
        check_labels(&namespace)?;
        let refresh = self.refreshes(refresh);
        match self.apply(ItemOperation::Get { namespace, key, refresh }).await? {
            ItemAnswer::Item(item) => Ok(item),
            other => Err(mismatch(&other)),
        }
    }

    /// Deletes an item, if there is one.
    pub async fn delete_item(&self, namespace: Vec<String>, key: String) -> Result<()> {
        check_labels(&namespace)?;
        let put = ItemPut { namespace, key, value: None, ttl: None, embeddings: Vec::new() };
        self.apply(ItemOperation::Put(put)).await.map(|_| ())
    }

    /// The items that match: the nearest to the query first, or else the last changed.
    pub async fn search_items(&self, query: ItemQuery) -> Result<Vec<FoundItem>> {
        check_labels(&query.prefix)?;
        let refresh = self.refreshes(query.refresh);
        let ItemQuery { prefix, filter, query, window, .. } = query;
        let query = match query.filter(|query| !query.is_empty()) {
            Some(query) => self.embed(ToEmbed::Query(query)).await?.pop(),
            None => None,
        };
        match self.apply(ItemOperation::Search(ItemSearch { prefix, filter, query, window, refresh })).await? {
            ItemAnswer::Items(items) => Ok(items),
            other => Err(mismatch(&other)),
        }
    }

    /// The namespaces that match.
    pub async fn list_namespaces(&self, query: NamespaceQuery) -> Result<Vec<Vec<String>>> {
        check_labels(&query.prefix)?;
        check_labels(&query.suffix)?;
        match self.apply(ItemOperation::ListNamespaces(query)).await? {
            ItemAnswer::Namespaces(namespaces) => Ok(namespaces),
            other => Err(mismatch(&other)),
        }
    }

    fn refreshes(&self, refresh: Option<bool>) -> bool {
        refresh.unwrap_or(self.settings.item_ttl.refresh_on_read)
    }

    async fn embeddings_of(&self, value: &RawJson, indexing: Indexing) -> Result<Vec<Embedding>> {
        let Some(index) = &self.settings.item_index else { return Ok(Vec::new()) };
        let fields = match indexing {
            Indexing::AsConfigured => index.fields.clone(),
            Indexing::Fields(fields) => fields,
            Indexing::Never => return Ok(Vec::new()),
        };
        self.embed(ToEmbed::Value { value: value.clone(), fields }).await
    }

    /// What texts mean, for the index; nothing where there is none.
    async fn embed(&self, texts: ToEmbed) -> Result<Vec<Embedding>> {
        let Some(index) = &self.settings.item_index else { return Ok(Vec::new()) };
        let failed = |error: &dyn std::fmt::Display| Error::Unavailable(format!("embedding failed: {error}"));
        let vectors = self.runtime.embed(texts).await.map_err(|error| failed(&error))?;
        vectors
            .into_iter()
            .map(|vector| index.embedding(vector))
            .collect::<Result<_, _>>()
            .map_err(|error| failed(&error))
    }

    async fn apply(&self, operation: ItemOperation) -> Result<ItemAnswer> {
        let mut answers = self.storage.apply_items(vec![operation], self.ambient.now()).await?;
        answers.pop().ok_or_else(|| Error::Internal("storage did not answer a store operation".into()))
    }
}

fn check_labels(namespace: &[String]) -> Result<()> {
    match namespace.iter().find(|label| label.is_empty() || label.contains('.')) {
        None => Ok(()),
        Some(label) => Err(Error::BadLabel(label.clone())),
    }
}

fn mismatch(answer: &ItemAnswer) -> Error {
    Error::Internal(format!("storage answered another store operation: {answer:?}"))
}
