//! Use cases on behalf of a caller: whether they may happen, what becomes of what was asked for, and to what they may
//! happen. What the server does by itself, such as beginning the runs of crons, is on nobody's behalf and asks nobody.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::json;
use threadyard_core::{
    access::{AccessError, Action, Gate, User},
    ids::ThreadId,
    json::{Object, RawObject, Value, fields},
    metadata_filter::MetadataFilter,
};

use crate::{Engine, Error, Result};

/// On whose behalf an engine acts.
#[derive(Clone)]
pub(crate) enum Access {
    /// Its own, or there is no authentication.
    Unrestricted,
    /// A caller's.
    Of(Arc<Caller>),
    /// That of somebody unknown, who may do nothing that is asked about.
    Nobody,
}

/// Somebody who is known, and who decides what they may do.
pub(crate) struct Caller {
    user: User,
    gate: Arc<dyn Gate>,
}

/// What was decided about one use case.
#[derive(Default)]
pub(crate) struct Permit {
    edits: RawObject,
    /// What it may be done to.
    pub(crate) filter: MetadataFilter,
}

impl Permit {
    /// Puts what was decided in the place of what was asked for.
    pub(crate) fn edit<T: DeserializeOwned>(&mut self, key: &str, part: &mut T) -> Result<()> {
        if let Some(edited) = self.edits.swap_remove(key) {
            *part = serde_json::from_str(edited.get())
                .map_err(|error| Error::Internal(format!("an auth handler changed `{key}` to nonsense: {error}")))?;
        }
        Ok(())
    }
}

impl Engine {
    /// The same, on behalf of a caller.
    #[must_use]
    pub fn as_caller(&self, user: User, gate: Arc<dyn Gate>) -> Self {
        self.with_access(Access::Of(Arc::new(Caller { user, gate })))
    }

    /// The same, on behalf of somebody unknown.
    #[must_use]
    pub fn as_nobody(&self) -> Self {
        self.with_access(Access::Nobody)
    }

    /// The same, on the server's own behalf.
    #[must_use]
    pub(crate) fn by_itself(&self) -> Self {
        self.with_access(Access::Unrestricted)
    }

    /// On whose behalf it acts.
    pub fn user(&self) -> Option<&User> {
        match self.access() {
            Access::Of(caller) => Some(&caller.user),
            Access::Unrestricted | Access::Nobody => None,
        }
    }

    /// Whether it acts on somebody's behalf.
    pub(crate) fn is_restricted(&self) -> bool {
        !matches!(self.access(), Access::Unrestricted)
    }

    /// Asks whether this may be done. `value` is what is asked for, and only made when there is somebody to ask.
    pub(crate) async fn permit(&self, action: Action, value: impl FnOnce() -> RawObject) -> Result<Permit> {
        match self.access() {
            Access::Unrestricted => Ok(Permit::default()),
            Access::Nobody => Err(AccessError::unauthenticated("Unauthorized").into()),
            Access::Of(caller) => {
                let verdict = caller.gate.authorize(&caller.user, action, value()).await?;
                Ok(Permit { edits: verdict.edits, filter: verdict.filter })
            }
        }
    }

    /// Asks about a thread that must be there, and that the caller must be allowed to touch like this.
    pub(crate) async fn permit_on_thread(&self, action: Action, id: ThreadId) -> Result<MetadataFilter> {
        let filter = self.permit(action, || thread_value(id)).await?.filter;
        if self.is_restricted() {
            let thread = self.storage.thread(id).await?;
            thread.filter(|thread| filter.admits(&thread.metadata)).ok_or(Error::NotFound("thread"))?;
        }
        Ok(filter)
    }

    /// Only operators may, who are not callers like others.
    pub(crate) fn operators_only(&self) -> Result<()> {
        if self.is_restricted() {
            return Err(Error::Forbidden(
                "this is for operators only; send THREADYARD_OPERATOR_TOKEN as a bearer token".into(),
            ));
        }
        Ok(())
    }

    /// Writes the caller into the configurable keys of a config.
    pub(crate) fn name_caller(&self, configurable: &mut Object) {
        if let Some(user) = self.user() {
            name_user(configurable, user);
        }
    }
}

/// What is asked for when it is about a whole thread.
pub(crate) fn thread_value(id: ThreadId) -> RawObject {
    fields(&json!({ "thread_id": id }))
}

/// Writes a user into the configurable keys of a config, where LangGraph looks for them.
pub(crate) fn name_user(configurable: &mut Object, user: &User) {
    configurable.insert("langgraph_auth_user".into(), Value::Object(user.fields().clone()));
    configurable.insert("langgraph_auth_user_id".into(), user.identity().into());
    configurable.insert("langgraph_auth_permissions".into(), user.permissions().into());
    configurable.insert("user_id".into(), user.identity().into());
}

/// The same where nobody had to say who they are: graph code finds the keys, and no client can set them.
pub(crate) fn name_nobody(configurable: &mut Object) {
    configurable.insert("langgraph_auth_user".into(), Value::Null);
    configurable.insert("langgraph_auth_user_id".into(), "".into());
    configurable.insert("langgraph_auth_permissions".into(), json!([]));
    configurable.insert("user_id".into(), "".into());
}
