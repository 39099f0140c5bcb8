//! Store items: the long-term memory that clients and graphs share.

use std::time::Duration;

use serde_json::json;
use threadyard_core::{
    access::Action,
    items::{Embedding, FoundItem, Item, ItemAnswer, ItemOperation, ItemPut, ItemSearch, NamespaceQuery, ToEmbed},
    json::{Object, RawJson, RawObject, Value, fields, raw},
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

impl Indexing {
    /// As clients write it.
    fn as_written(&self) -> Value {
        match self {
            Self::AsConfigured => Value::Null,
            Self::Fields(fields) => json!(fields),
            Self::Never => Value::Bool(false),
        }
    }
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
    pub async fn put_item(&self, mut put: PutItem) -> Result<()> {
        let asked = || {
            let mut asked = place(&put.namespace, &put.key);
            asked.insert("value".into(), put.value.clone());
            asked.insert("index".into(), raw(&put.indexing.as_written()));
            asked.insert("ttl".into(), raw(&put.ttl.map(|ttl| ttl.as_secs_f64() / 60.0)));
            asked
        };
        let mut permit = self.permit(Action::StorePut, asked).await?;
        permit.edit("namespace", &mut put.namespace)?;
        permit.edit("key", &mut put.key)?;
        permit.edit("value", &mut put.value)?;
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
        self.write(ItemPut { namespace, key, value: Some(value), ttl, embeddings, within: permit.filter }).await
    }

    /// The item under this key.
    pub async fn item(
        &self,
        mut namespace: Vec<String>,
        mut key: String,
        refresh: Option<bool>,
    ) -> Result<Option<Item>> {
        let asked = || {
            let mut asked = place(&namespace, &key);
            asked.insert("refresh_ttl".into(), raw(&refresh));
            asked
        };
        let mut permit = self.permit(Action::StoreGet, asked).await?;
        permit.edit("namespace", &mut namespace)?;
        permit.edit("key", &mut key)?;
        check_labels(&namespace)?;
        let get = ItemOperation::Get { namespace, key, refresh: self.refreshes(refresh), visible: permit.filter };
        match self.apply(get).await? {
            ItemAnswer::Item(item) => Ok(item),
            other => Err(mismatch(&other)),
        }
    }

    /// Deletes an item, if there is one.
    pub async fn delete_item(&self, mut namespace: Vec<String>, mut key: String) -> Result<()> {
        let mut permit = self.permit(Action::StoreDelete, || place(&namespace, &key)).await?;
        permit.edit("namespace", &mut namespace)?;
        permit.edit("key", &mut key)?;
        check_labels(&namespace)?;
        let (ttl, embeddings, within) = (None, Vec::new(), permit.filter);
        self.write(ItemPut { namespace, key, value: None, ttl, embeddings, within }).await
    }

    async fn write(&self, put: ItemPut) -> Result<()> {
        match self.apply(ItemOperation::Put(put)).await? {
            ItemAnswer::Written => Ok(()),
            ItemAnswer::Hidden => Err(Error::NotFound("item")),
            other => Err(mismatch(&other)),
        }
    }

    /// The items that match: the nearest to the query first, or else the last changed.
    pub async fn search_items(&self, mut query: ItemQuery) -> Result<Vec<FoundItem>> {
        let asked = || {
            fields(&json!({
                "namespace": query.prefix, "filter": Some(&query.filter).filter(|filter| !filter.is_empty()),
                "limit": query.window.limit, "offset": query.window.offset, "query": query.query,
                "refresh_ttl": query.refresh,
            }))
        };
        let mut permit = self.permit(Action::StoreSearch, asked).await?;
        let (mut prefix, mut filter) = (Some(query.prefix), Some(query.filter));
        permit.edit("namespace", &mut prefix)?;
        permit.edit("filter", &mut filter)?;
        permit.edit("query", &mut query.query)?;
        (query.prefix, query.filter) = (prefix.unwrap_or_default(), filter.unwrap_or_default());
        check_labels(&query.prefix)?;
        let refresh = self.refreshes(query.refresh);
        let ItemQuery { prefix, filter, query, window, .. } = query;
        let query = match query.filter(|query| !query.is_empty()) {
            Some(query) => self.embed(ToEmbed::Query(query)).await?.pop(),
            None => None,
        };
        let search = ItemSearch { prefix, filter, query, window, refresh, visible: permit.filter };
        match self.apply(ItemOperation::Search(search)).await? {
            ItemAnswer::Items(items) => Ok(items),
            other => Err(mismatch(&other)),
        }
    }

    /// The namespaces that match.
    pub async fn list_namespaces(&self, mut query: NamespaceQuery) -> Result<Vec<Vec<String>>> {
        let some = |labels: &Vec<String>| Some(labels.clone()).filter(|labels| !labels.is_empty());
        let (mut prefix, mut suffix) = (some(&query.prefix), some(&query.suffix));
        let asked = || {
            fields(&json!({
                "namespace": prefix, "suffix": suffix, "max_depth": query.max_depth, "limit": query.window.limit,
                "offset": query.window.offset,
            }))
        };
        let mut permit = self.permit(Action::StoreListNamespaces, asked).await?;
        permit.edit("namespace", &mut prefix)?;
        permit.edit("suffix", &mut suffix)?;
        permit.edit("max_depth", &mut query.max_depth)?;
        (query.prefix, query.suffix) = (prefix.unwrap_or_default(), suffix.unwrap_or_default());
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

/// Where an item is, in the words of handlers.
fn place(namespace: &[String], key: &str) -> RawObject {
    fields(&json!({ "namespace": namespace, "key": key }))
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
