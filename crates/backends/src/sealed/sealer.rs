//! Has handlers encrypt what is on its way to a database.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use threadyard_core::{
    access::User,
    event_streaming::MARKER,
    json::{Object, RawJson, RawObject, raw, raw_from_text},
    runs::{PauseAt, Run, RunKwargs},
    sealing::{CONTEXT_KEY, Data, Piece, SealingContext, SealingHandlers, current},
    storage::{Result, StorageError},
    webhooks::without_secrets,
};

use super::marker::{Kind, Label, PREFIX};

/// What the server itself goes by in metadata stays as it is, whatever handlers make of it.
pub(super) const OF_METADATA: [&str; 10] = [
    "graph_id",
    "assistant_id",
    "run_id",
    "thread_id",
    "a2a_message_id",
    "a2a_task_id",
    "a2a_canceled_task",
    "counters_since_delta_snapshot",
    "traceparent",
    "tracestate",
];
/// The same in what is configurable.
const OF_CONFIGURABLE: [&str; 6] = ["graph_id", "assistant_id", "run_id", "thread_id", "cron_id", MARKER];
/// The same of who calls.
const OF_USER: [&str; 2] = ["identity", "permissions"];

/// Encrypts under one context.
pub(super) struct Sealer {
    handlers: Arc<dyn SealingHandlers>,
    context: SealingContext,
}

impl Sealer {
    /// Encrypts under the context that is in force.
    pub(super) fn new(handlers: Arc<dyn SealingHandlers>) -> Self {
        Self { handlers, context: current() }
    }

    fn piece(&self, model: &str, field: &str, data: Data) -> Piece {
        Piece { model: model.to_owned(), field: field.to_owned(), context: self.context.clone(), data }
    }

    async fn blob(&self, label: &Label, data: Bytes) -> Result<Bytes> {
        match self.handlers.encrypt(self.piece(&label.model, &label.field, Data::Blob(data))).await? {
            Data::Blob(encrypted) => Ok(encrypted),
            Data::Json(_) => Err(StorageError::Sealing("encrypt.blob answered an object".into())),
        }
    }

    fn label(&self, kind: Kind, (model, field): (&str, &str)) -> Label {
        Label::new(kind, model, field, &self.context)
    }

    /// Bytes that nobody looks into.
    pub(super) async fn bytes(&self, of: (&str, &str), data: Bytes) -> Result<Bytes> {
        if data.is_empty() {
            return Ok(data);
        }
        let label = self.label(Kind::Bytes, of);
        label.bytes(&self.blob(&label, data).await?)
    }

    /// JSON that nobody looks into.
    pub(super) async fn json(&self, of: (&str, &str), json: &RawJson) -> Result<RawJson> {
        if matches!(json.get(), "null" | "{}" | "[]") {
            return Ok(json.clone());
        }
        let label = self.label(Kind::Json, of);
        let data = Bytes::copy_from_slice(json.get().as_bytes());
        Ok(raw(&label.text(&self.blob(&label, data).await?)?))
    }

    /// A text that nobody looks into.
    pub(super) async fn text(&self, of: (&str, &str), text: &str) -> Result<String> {
        let label = self.label(Kind::Text, of);
        label.text(&self.blob(&label, Bytes::copy_from_slice(text.as_bytes())).await?)
    }

    /// The members of an object that handlers do not leave as they are, and that the server does not go by.
    pub(super) async fn members(&self, of: (&str, &str), object: RawObject, kept: &[&str]) -> Result<RawObject> {
        if object.is_empty() {
            return Ok(object);
        }
        let piece = self.piece(of.0, of.1, Data::Json(object.clone()));
        let Data::Json(mut changed) = self.handlers.encrypt(piece).await? else {
            return Err(StorageError::Sealing("encrypt.json answered bytes".into()));
        };
        let label = self.label(Kind::Member, of);
        let mut sealed = RawObject::new();
        for (key, value) in object {
            let value = match changed.swap_remove(&key) {
                Some(changed) if !kept.contains(&key.as_str()) => raw(&label.text(changed.get().as_bytes())?),
                _ => self.guarded(of, value).await?,
            };
            sealed.insert(key, value);
        }
        Ok(sealed)
    }

    /// What only looks as if it had been encrypted here would be given to the handlers when it is read, and is encrypted.
    async fn guarded(&self, of: (&str, &str), value: RawJson) -> Result<RawJson> {
        if looks_sealed(&value) { self.json(of, &value).await } else { Ok(value) }
    }

    /// An object whose members are searched, merged or looked at one by one; other JSON as a whole.
    pub(super) async fn value(&self, of: (&str, &str), value: &RawJson) -> Result<RawJson> {
        match serde_json::from_str::<RawObject>(value.get()) {
            Ok(object) => Ok(raw(&self.members(of, object, &[]).await?)),
            Err(_) => self.json(of, value).await,
        }
    }

    /// The same of our own objects.
    pub(super) async fn object(&self, of: (&str, &str), object: &Object, kept: &[&str]) -> Result<Object> {
        if object.is_empty() {
            return Ok(Object::new());
        }
        again(&self.members(of, again(object)?, kept).await?)
    }

    /// Metadata.
    pub(super) async fn metadata(&self, model: &str, metadata: &Object) -> Result<Object> {
        self.object((model, "metadata"), metadata, &OF_METADATA).await
    }

    /// Who calls.
    async fn caller(&self, of: (&str, &str), user: &Object) -> Result<Object> {
        let mut sealed = self.object(of, user, &OF_USER).await?;
        if let Some(Value::Array(permissions)) = user.get("permissions") {
            // It stays a list, whatever is in it.
            let permissions = permissions.iter().map(|it| self.guarded(of, raw(it)));
            sealed.insert("permissions".into(), again(&try_join_all(permissions).await?)?);
        }
        Ok(sealed)
    }

    /// The same, where it is kept by itself.
    pub(super) async fn user(&self, of: (&str, &str), user: Option<User>) -> Result<Option<User>> {
        let Some(user) = user else { return Ok(None) };
        let sealed = User::try_from(self.caller(of, user.fields()).await?);
        sealed.map(Some).map_err(|error| StorageError::Bug(error.to_string()))
    }

    /// A config, level by level, since the server looks at some of what is in it.
    pub(super) async fn config(&self, of: (&str, &str), config: &Object) -> Result<Object> {
        const LEVELS: [&str; 2] = ["configurable", "metadata"];
        const USER: &str = "langgraph_auth_user";
        let is_level = |key: &str, value: &Value| LEVELS.contains(&key) && value.is_object();
        let rest = config.iter().filter(|(key, value)| !is_level(key, value));
        let rest = rest.map(|(key, value)| (key.clone(), value.clone())).collect();
        let mut rest = self.object(of, &rest, &[]).await?;
        let mut sealed = Object::new();
        for (key, value) in config {
            let value = match (key.as_str(), value) {
                ("configurable", Value::Object(configurable)) => {
                    let mut configurable = configurable.clone();
                    let user = configurable.get(USER).and_then(Value::as_object).cloned();
                    if user.is_some() {
                        configurable.insert(USER.into(), Value::Null);
                    }
                    let mut sealed = self.object(of, &configurable, &OF_CONFIGURABLE).await?;
                    if let Some(user) = user {
                        sealed.insert(USER.into(), self.caller(of, &user).await?.into());
                    }
                    sealed.into()
                }
                ("metadata", Value::Object(metadata)) => self.object(of, metadata, &OF_METADATA).await?.into(),
                _ => rest.get_mut(key).map(Value::take).unwrap_or_default(),
            };
            sealed.insert(key.clone(), value);
        }
        Ok(sealed)
    }

    /// What a run is executed with, and the context that what it leaves is encrypted under.
    pub(super) async fn kwargs(&self, kwargs: RunKwargs) -> Result<RunKwargs> {
        const OF: (&str, &str) = ("run", "kwargs");
        let given = [("input", &kwargs.input), ("command", &kwargs.command)];
        let given = given.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)));
        let mut given = self.members(OF, given.collect(), &[]).await?;
        let mut config = self.config(OF, &kwargs.config).await?;
        let configurable = config.entry("configurable").or_insert_with(|| Object::new().into());
        if let Value::Object(configurable) = configurable {
            configurable.shift_remove(CONTEXT_KEY);
            if !self.context.is_empty() {
                configurable.insert(CONTEXT_KEY.into(), (*self.context).clone().into());
            }
        }
        Ok(RunKwargs {
            input: given.swap_remove("input"),
            command: given.swap_remove("command"),
            config,
            context: self.object(OF, &kwargs.context, &[]).await?,
            webhook: self.url(kwargs.webhook).await?,
            feedback_keys: match kwargs.feedback_keys {
                Some(keys) => Some(self.names(OF, keys).await?),
                None => None,
            },
            interrupt_before: self.pause(OF, kwargs.interrupt_before).await?,
            interrupt_after: self.pause(OF, kwargs.interrupt_after).await?,
            ..kwargs
        })
    }

    /// Names are no secrets, but for those that would be taken for what was encrypted here.
    async fn names(&self, of: (&str, &str), names: Vec<String>) -> Result<Vec<String>> {
        try_join_all(names.into_iter().map(|name| self.name(of, name))).await
    }

    pub(super) async fn name(&self, of: (&str, &str), name: String) -> Result<String> {
        if name.contains(PREFIX) { self.text(of, &name).await } else { Ok(name) }
    }

    async fn pause(&self, of: (&str, &str), pause: Option<PauseAt>) -> Result<Option<PauseAt>> {
        Ok(match pause {
            Some(PauseAt::Nodes(names)) => Some(PauseAt::Nodes(self.names(of, names).await?)),
            other => other,
        })
    }

    pub(super) async fn run(&self, run: Run) -> Result<Run> {
        Ok(Run { metadata: self.metadata("run", &run.metadata).await?, kwargs: self.kwargs(run.kwargs).await?, ..run })
    }

    /// A URL keeps what says where it leads; the rest of it is a secret, and goes where databases look for nothing.
    async fn url(&self, url: Option<String>) -> Result<Option<String>> {
        let Some(url) = url else { return Ok(None) };
        if !url.contains(['?', '#', '@']) {
            return Ok(Some(url));
        }
        let sealed = self.text(("run", "webhook"), &url).await?;
        Ok(Some(format!("{}#{sealed}", without_secrets(&url))))
    }

    /// What crons begin their runs with, and under which context.
    pub(super) async fn payload(&self, payload: RawObject) -> Result<RawObject> {
        let mut sealed = self.members(("cron", "payload"), payload, &[]).await?;
        sealed.shift_remove(CONTEXT_KEY);
        if !self.context.is_empty() {
            sealed.insert(CONTEXT_KEY.into(), raw(&*self.context));
        }
        Ok(sealed)
    }
}

/// The same JSON as another of our types.
pub(super) fn again<T: DeserializeOwned>(value: &impl Serialize) -> Result<T> {
    let text = raw(value);
    serde_json::from_str(text.get()).map_err(|error| StorageError::Bug(error.to_string()))
}

/// Whether JSON has a text in it that begins as what was encrypted does, however it is spelled.
fn looks_sealed(value: &RawJson) -> bool {
    let text = value.get();
    if !text.contains('\\') {
        return text.contains(PREFIX);
    }
    // What can't be spelled otherwise is not looked into.
    serde_json::from_str::<Value>(text).map_or(true, |value| value.to_string().contains(PREFIX))
}

/// JSON that handlers answered.
pub(super) fn finished(text: Bytes) -> Result<RawJson> {
    let text = String::from_utf8(text.into()).map_err(|_| unlike())?;
    raw_from_text(text).map_err(|_| unlike())
}

fn unlike() -> StorageError {
    StorageError::Sealing("a decrypt handler answered other data than was encrypted".into())
}
