//! What a run is told of the request that created it: its id, and the headers that `http.configurable_headers` names.

use std::sync::Arc;

use axum::{
    Extension,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, request::Parts},
};
use serde::de::DeserializeOwned;
use threadyard_core::{ambient::Ambient, json::Object};
use threadyard_engine::RunFields;
use threadyard_runtime::HeaderPatterns;

use super::{error::ApiError, extract::Body};

/// By what a request is found in logs and in the config of its runs.
#[derive(Clone)]
pub(super) struct RequestId(pub(super) Arc<str>);

/// A longer id is none.
const LONGEST: usize = 256;

impl RequestId {
    /// The one that the client or a proxy chose, or a new one.
    pub(super) fn of(headers: &HeaderMap, ambient: &Ambient) -> Self {
        let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
        match given.filter(|id| !id.is_empty() && id.len() <= LONGEST) {
            Some(given) => Self(given.into()),
            None => Self(ambient.random().to_string().into()),
        }
    }
}

/// Which headers of a request its runs see.
#[derive(Clone)]
pub(super) struct ConfigurableHeaders(pub(super) Arc<HeaderPatterns>);

/// What the runs of a request see of it, as keys of `config.configurable`.
#[derive(Clone, Debug, Default)]
pub(super) struct Configurable(pub(super) Object);

impl<S: Send + Sync> FromRequestParts<S> for Configurable {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let mut configurable = Object::new();
        if let Ok(Extension(ConfigurableHeaders(patterns))) = Extension::from_request_parts(parts, state).await
            && !patterns.is_empty()
        {
            let meant = parts.headers.iter().filter(|(name, _)| patterns.include(name.as_str()));
            let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            configurable.extend(meant.map(|(name, value)| (name.to_string(), text(value.as_bytes()).into())));
        }
        if let Ok(Extension(RequestId(id))) = Extension::from_request_parts(parts, state).await {
            configurable.insert("langgraph_request_id".into(), (*id).into());
        }
        Ok(Self(configurable))
    }
}

/// The body that creates a run, or several.
pub(super) struct NewRuns<T>(pub(super) T);

/// What runs are created from.
pub(super) trait Configure {
    fn configure(&mut self, configurable: &Object);
}

impl Configure for RunFields {
    fn configure(&mut self, configurable: &Object) {
        self.add_configurable(configurable);
    }
}

impl Configure for Vec<RunFields> {
    fn configure(&mut self, configurable: &Object) {
        for fields in self {
            fields.add_configurable(configurable);
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Configure> FromRequest<S> for NewRuns<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (mut parts, body) = request.into_parts();
        let Configurable(configurable) = Configurable::from_request_parts(&mut parts, state).await?;
        let Body(mut fields) = Body::<T>::from_request(Request::from_parts(parts, body), state).await?;
        fields.configure(&configurable);
        Ok(Self(fields))
    }
}
