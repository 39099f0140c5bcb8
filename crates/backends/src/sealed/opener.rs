//! Has handlers decrypt what comes from a database, wherever in a document it stands.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use indexmap::IndexMap;
use serde::{Serialize, de::DeserializeOwned};
use threadyard_core::{
    json::{RawJson, RawObject, raw, raw_from_text},
    sealing::{Data, Piece, SealingHandlers},
    storage::{Result, StorageError},
};

use super::{
    marker::{self, Kind, Label, PREFIX},
    sealer::finished,
};

/// Decrypts.
#[derive(Clone)]
pub(super) struct Opener(pub(super) Arc<dyn SealingHandlers>);

/// A document, as far as it is known before handlers have answered.
enum Node {
    Plain(RawJson),
    /// What a question is answered with.
    Whole(usize),
    /// A member of what it is answered with.
    Member(usize, String),
    Object(IndexMap<String, Self>),
    List(Vec<Self>),
}

/// What handlers are asked about one document.
#[derive(Default)]
struct Questions(Vec<(Label, Data)>);

impl Opener {
    /// JSON.
    pub(super) async fn json(&self, json: RawJson) -> Result<RawJson> {
        if !json.get().contains(PREFIX) {
            return Ok(json);
        }
        let mut questions = Questions::default();
        let document = questions.of(json)?;
        let asked = questions.0.into_iter().map(|(label, data)| self.ask(label, data));
        let answers = try_join_all(asked).await?;
        render(document, &answers)
    }

    /// One of our own documents.
    pub(super) async fn document<T: Serialize + DeserializeOwned>(&self, document: T) -> Result<T> {
        let text = raw(&document);
        if !text.get().contains(PREFIX) {
            return Ok(document);
        }
        let opened = self.json(text).await?;
        serde_json::from_str(opened.get()).map_err(|_| {
            StorageError::Sealing("a decrypt handler answered data of another shape than was encrypted".into())
        })
    }

    /// Bytes.
    pub(super) async fn bytes(&self, bytes: Bytes) -> Result<Bytes> {
        match marker::of_bytes(&bytes)? {
            None => Ok(bytes),
            Some((label, encrypted)) => self.blob(label, encrypted).await,
        }
    }

    /// A URL whose secrets are encrypted.
    pub(super) async fn url(&self, url: String) -> Result<String> {
        let opened = self.json(raw(&url)).await?;
        serde_json::from_str(opened.get()).map_err(|error| StorageError::Bug(error.to_string()))
    }

    async fn blob(&self, label: Label, encrypted: Bytes) -> Result<Bytes> {
        match self.ask(label, Data::Blob(encrypted)).await? {
            Data::Blob(data) => Ok(data),
            Data::Json(_) => Err(StorageError::Sealing("decrypt.blob answered an object".into())),
        }
    }

    async fn ask(&self, label: Label, data: Data) -> Result<Data> {
        let kind = label.kind;
        let piece = Piece { context: label.context(), model: label.model, field: label.field, data };
        match (self.0.decrypt(piece).await?, kind) {
            // A text becomes the JSON that stands for it.
            (Data::Blob(text), Kind::Text) => Ok(Data::Blob(quoted(text)?)),
            (answer, _) => Ok(answer),
        }
    }
}

impl Questions {
    fn add(&mut self, label: Label, data: Data) -> usize {
        self.0.push((label, data));
        self.0.len() - 1
    }

    fn of(&mut self, json: RawJson) -> Result<Node> {
        let text = json.get();
        if !text.contains(PREFIX) {
            return Ok(Node::Plain(json));
        }
        let unreadable = |error: serde_json::Error| StorageError::Bug(error.to_string());
        match text.as_bytes().first() {
            Some(b'{') => self.object(serde_json::from_str(text).map_err(unreadable)?),
            Some(b'[') => {
                let list: Vec<RawJson> = serde_json::from_str(text).map_err(unreadable)?;
                Ok(Node::List(list.into_iter().map(|it| self.of(it)).collect::<Result<_>>()?))
            }
            _ => {
                let text: String = serde_json::from_str(text).map_err(unreadable)?;
                // In a URL it stands behind the part that says where the URL leads.
                let sealed = text.rsplit_once('#').map_or(text.as_str(), |(_, sealed)| sealed);
                match marker::of_text(sealed)? {
                    Some((label, encrypted)) if label.kind != Kind::Member => {
                        Ok(Node::Whole(self.add(label, Data::Blob(encrypted))))
                    }
                    _ => Ok(Node::Plain(json)),
                }
            }
        }
    }

    /// The members of an object that were encrypted in one way are decrypted together, beside those that were left alone.
    fn object(&mut self, object: RawObject) -> Result<Node> {
        let mut groups: Vec<(Label, RawObject)> = Vec::new();
        let mut plain = RawObject::new();
        let mut nodes = IndexMap::new();
        for (key, value) in object {
            match member(&value)? {
                Some((label, encrypted)) => {
                    let encrypted = finished(encrypted)?;
                    let group = groups.iter().position(|(known, _)| *known == label);
                    let group = group.unwrap_or_else(|| {
                        groups.push((label, RawObject::new()));
                        groups.len() - 1
                    });
                    groups[group].1.insert(key.clone(), encrypted);
                    nodes.insert(key.clone(), Node::Member(self.0.len() + group, key));
                }
                None if value.get().contains(PREFIX) => {
                    nodes.insert(key, Node::Plain(value));
                }
                None => {
                    plain.insert(key.clone(), value.clone());
                    nodes.insert(key, Node::Plain(value));
                }
            }
        }
        for (label, mut members) in groups {
            members.extend(plain.clone());
            self.add(label, Data::Json(members));
        }
        // What is further down is asked about behind that.
        for node in nodes.values_mut() {
            if let Node::Plain(json) = node {
                *node = self.of(json.clone())?;
            }
        }
        Ok(Node::Object(nodes))
    }
}

/// A member of an object that a handler for JSON encrypted.
fn member(value: &RawJson) -> Result<Option<(Label, Bytes)>> {
    if !value.get().starts_with('"') || !value.get()[1..].starts_with(PREFIX) {
        return Ok(None);
    }
    let text: String = serde_json::from_str(value.get()).map_err(|error| StorageError::Bug(error.to_string()))?;
    Ok(marker::of_text(&text)?.filter(|(label, _)| label.kind == Kind::Member))
}

fn render(node: Node, answers: &[Data]) -> Result<RawJson> {
    let lost = || StorageError::Sealing("decrypt.json left out a member of what was encrypted".into());
    Ok(match node {
        Node::Plain(json) => json,
        Node::Whole(question) => match &answers[question] {
            Data::Blob(json) => finished(json.clone())?,
            Data::Json(_) => return Err(StorageError::Sealing("decrypt.blob answered an object".into())),
        },
        Node::Member(question, key) => match &answers[question] {
            Data::Json(members) => members.get(&key).cloned().ok_or_else(lost)?,
            Data::Blob(_) => return Err(StorageError::Sealing("decrypt.json answered bytes".into())),
        },
        Node::Object(members) => {
            let rendered = members.into_iter().map(|(key, node)| Ok((key, render(node, answers)?)));
            raw(&rendered.collect::<Result<RawObject>>()?)
        }
        Node::List(nodes) => {
            let rendered = nodes.into_iter().map(|node| render(node, answers));
            raw(&rendered.collect::<Result<Vec<_>>>()?)
        }
    })
}

fn quoted(text: Bytes) -> Result<Bytes> {
    let text = String::from_utf8(text.into())
        .map_err(|_| StorageError::Sealing("decrypt.blob answered what is no text".into()))?;
    let quoted = raw_from_text(raw(&text).get().to_owned()).map_err(|error| StorageError::Bug(error.to_string()))?;
    Ok(Bytes::copy_from_slice(quoted.get().as_bytes()))
}
