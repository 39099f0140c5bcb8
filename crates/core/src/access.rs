//! Access: who calls, what is to be done, and the contract of whoever decides whether it may be.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    json::{Object, RawObject, Value},
    metadata_filter::MetadataFilter,
};

/// Who calls, as authentication says it: an `identity`, and whatever else is known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Object")]
pub struct User(Object);

/// Authentication answered something that names nobody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a user must have an `identity`, which is a text")]
pub struct NoIdentity;

impl TryFrom<Object> for User {
    type Error = NoIdentity;

    fn try_from(mut fields: Object) -> Result<Self, NoIdentity> {
        let Some(Value::String(identity)) = fields.get("identity").cloned() else { return Err(NoIdentity) };
        if !fields.get("permissions").is_some_and(Value::is_array) {
            fields.insert("permissions".into(), Value::Array(Vec::new()));
        }
        fields.entry("is_authenticated").or_insert(Value::Bool(true));
        fields.entry("display_name").or_insert(Value::String(identity));
        Ok(Self(fields))
    }
}

impl User {
    /// What tells this user from others.
    pub fn identity(&self) -> &str {
        self.0.get("identity").and_then(Value::as_str).unwrap_or_default()
    }

    /// What the user may do, in the words of whoever authenticates.
    pub fn permissions(&self) -> &[Value] {
        self.0.get("permissions").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Everything that is known.
    pub fn fields(&self) -> &Object {
        &self.0
    }
}

/// What a request proves its caller with.
#[derive(Clone, Default)]
pub struct Credentials {
    /// The method, such as `POST`.
    pub method: String,
    /// The path.
    pub path: String,
    /// The ids that the route finds in the path.
    pub path_params: Vec<(String, String)>,
    /// What follows the `?`.
    pub query: String,
    /// The headers, in their order; names are small letters.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, for those who ask for it.
    pub body: Option<Bytes>,
    /// From where it came, as far as that is known.
    pub client: Option<SocketAddr>,
    /// Whether it came encrypted.
    pub secure: bool,
}

impl Credentials {
    /// The values of a header, which may come more than once.
    pub fn header(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_slice())
    }
}

/// What may be done to what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of LangGraph")]
pub enum Action {
    ThreadsCreate,
    ThreadsRead,
    ThreadsUpdate,
    ThreadsDelete,
    ThreadsSearch,
    ThreadsCreateRun,
    AssistantsCreate,
    AssistantsRead,
    AssistantsUpdate,
    AssistantsDelete,
    AssistantsSearch,
    CronsCreate,
    CronsRead,
    CronsUpdate,
    CronsDelete,
    CronsSearch,
    StorePut,
    StoreGet,
    StoreSearch,
    StoreDelete,
    StoreListNamespaces,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 21] = [
        Self::ThreadsCreate,
        Self::ThreadsRead,
        Self::ThreadsUpdate,
        Self::ThreadsDelete,
        Self::ThreadsSearch,
        Self::ThreadsCreateRun,
        Self::AssistantsCreate,
        Self::AssistantsRead,
        Self::AssistantsUpdate,
        Self::AssistantsDelete,
        Self::AssistantsSearch,
        Self::CronsCreate,
        Self::CronsRead,
        Self::CronsUpdate,
        Self::CronsDelete,
        Self::CronsSearch,
        Self::StorePut,
        Self::StoreGet,
        Self::StoreSearch,
        Self::StoreDelete,
        Self::StoreListNamespaces,
    ];

    /// The resource and the action, in LangGraph's words.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::ThreadsCreate => ("threads", "create"),
            Self::ThreadsRead => ("threads", "read"),
            Self::ThreadsUpdate => ("threads", "update"),
            Self::ThreadsDelete => ("threads", "delete"),
            Self::ThreadsSearch => ("threads", "search"),
            Self::ThreadsCreateRun => ("threads", "create_run"),
            Self::AssistantsCreate => ("assistants", "create"),
            Self::AssistantsRead => ("assistants", "read"),
            Self::AssistantsUpdate => ("assistants", "update"),
            Self::AssistantsDelete => ("assistants", "delete"),
            Self::AssistantsSearch => ("assistants", "search"),
            Self::CronsCreate => ("crons", "create"),
            Self::CronsRead => ("crons", "read"),
            Self::CronsUpdate => ("crons", "update"),
            Self::CronsDelete => ("crons", "delete"),
            Self::CronsSearch => ("crons", "search"),
            Self::StorePut => ("store", "put"),
            Self::StoreGet => ("store", "get"),
            Self::StoreSearch => ("store", "search"),
            Self::StoreDelete => ("store", "delete"),
            Self::StoreListNamespaces => ("store", "list_namespaces"),
        }
    }
}

/// What is decided when something may be done.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// The parts of what was asked for that are to be others.
    pub edits: RawObject,
    /// What it may be done to.
    pub filter: MetadataFilter,
}

/// Why something may not be done, or why nobody knows whether it may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Whoever decides refused it, with an HTTP status of its choice.
    #[error("{detail}")]
    Refused {
        /// The status.
        status: u16,
        /// Why, for the caller.
        detail: String,
        /// Further headers of the answer, by name.
        headers: Vec<(String, String)>,
    },
    /// Whoever decides can't be asked now.
    #[error("access can't be decided now: {0}")]
    Unavailable(String),
    /// Whoever decides failed. The text is for the log.
    #[error("deciding about access failed: {0}")]
    Failed(String),
}

impl AccessError {
    /// The caller is nobody that is known.
    pub fn unauthenticated(detail: &str) -> Self {
        Self::Refused { status: 401, detail: detail.into(), headers: Vec::new() }
    }

    /// The caller may not do this.
    pub fn forbidden(detail: &str) -> Self {
        Self::Refused { status: 403, detail: detail.into(), headers: Vec::new() }
    }
}

/// Decides who calls, and what callers may do.
#[async_trait]
pub trait Gate: Send + Sync {
    /// Whether authentication looks at the bodies of requests.
    fn reads_bodies(&self) -> bool;
    /// How callers could prove who they are, as `WWW-Authenticate` says that to who did not.
    fn challenges(&self) -> &'static [&'static str];
    /// Who calls.
    async fn authenticate(&self, credentials: Credentials) -> Result<User, AccessError>;
    /// Whether this user may do this. `value` is what the request asks for, in LangGraph's words.
    async fn authorize(&self, user: &User, action: Action, value: RawObject) -> Result<Verdict, AccessError>;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_user_has_an_identity_and_is_completed() {
        let user: User = serde_json::from_value(json!({"identity": "a", "org": 1})).unwrap();
        assert_eq!((user.identity(), user.permissions()), ("a", &[][..]));
        let expected = json!({
            "identity": "a", "org": 1, "permissions": [], "is_authenticated": true, "display_name": "a",
        });
        assert_eq!(json!(user), expected);
        for nobody in [json!({}), json!({"identity": 1}), json!({"identity": null})] {
            assert!(serde_json::from_value::<User>(nobody).is_err());
        }
    }

    #[test]
    fn no_two_actions_have_one_name() {
        let names: std::collections::BTreeSet<_> = Action::ALL.iter().map(|action| action.names()).collect();
        assert_eq!(names.len(), Action::ALL.len());
    }
}
