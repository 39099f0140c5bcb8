//! Who sends a request, and the engine as they may use it. Handlers get no other: the state of the routes gives none away.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use threadyard_core::access::{Credentials, Gate, User};
use threadyard_engine::{Engine, Error};

use super::{
    access::Operator,
    custom_app::Peer,
    error::{Answer, ApiError},
    rate::{Allowance, Buckets},
    request_traces,
};

/// What anybody may ask.
pub const PUBLIC: &[&str] = &[
    "/",
    "/ok",
    "/info",
    "/metrics",
    "/docs",
    "/openapi.json",
    "/webhooks/public-key",
    // Upstream: pages can't prove who they are as they load scripts and styles.
    "/ui/{graph}/{file}",
];
/// The largest body that is read before its sender is known.
const MOST_SHOWN: usize = 1 << 20;
/// Below this, operators look after deliveries.
pub(super) const OPERATORS: &str = "/webhooks/";

/// The state of the routes.
#[derive(Clone)]
pub(super) struct Served {
    engine: Engine,
    is_guarded: bool,
}

impl Served {
    pub(super) fn new(engine: Engine, gate: Option<&Arc<dyn Gate>>) -> Self {
        Self { engine, is_guarded: gate.is_some() }
    }
}

/// The engine on behalf of whoever sends the request.
pub(super) struct Caller(pub(super) Engine);

impl FromRequestParts<Served> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Served) -> Result<Self, ApiError> {
        let engine = match parts.extensions.get::<OnBehalf>() {
            Some(OnBehalf(engine)) => engine.clone(),
            None if state.is_guarded => state.engine.as_nobody(),
            None => state.engine.clone(),
        };
        if !engine.traces().are_on() {
            return Ok(Self(engine));
        }
        // The access log has put the span of the request there.
        Ok(Self(engine.within(request_traces::read(&parts.headers))))
    }
}

/// What a request was found to be entitled to.
#[derive(Clone)]
pub(super) struct OnBehalf(pub(super) Engine);

/// A caller whose connection may go on for longer than what proved who it is holds.
pub(super) struct Staying {
    pub(super) engine: Engine,
    proof: Option<Proof>,
    allowance: Option<Allowance>,
}

/// What proves who opened a connection, and to whom.
#[derive(Clone)]
struct Proof(Arc<dyn Gate>, Credentials);

impl FromRequestParts<Served> for Staying {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &Served) -> Result<Self, ApiError> {
        let Caller(engine) = Caller::from_request_parts(parts, state).await?;
        Ok(Self { engine, proof: parts.extensions.get().cloned(), allowance: parts.extensions.get().cloned() })
    }
}

impl Staying {
    /// Counts what is asked on the connection as if it had come by itself.
    pub(super) fn count(&self) -> Result<(), Error> {
        self.allowance.as_ref().map_or(Ok(()), Allowance::take)
    }

    /// Asks again who the caller is, if anybody asks that.
    pub(super) async fn prove(&mut self) -> Result<(), Error> {
        if let Some(Proof(gate, credentials)) = &self.proof {
            let user = gate.authenticate(credentials.clone()).await?;
            self.engine = self.engine.as_caller(user, gate.clone());
        }
        Ok(())
    }
}

/// Who stands at the entrance.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) engine: Engine,
    pub(super) gate: Arc<dyn Gate>,
    /// The largest body of a request.
    pub(super) max_body: usize,
    /// What limits how often one caller may ask.
    pub(super) buckets: Option<Buckets>,
}

/// Finds out who sends a request before anything else is done about it.
pub(super) async fn authenticate(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let is_upgrade = request.headers().contains_key(header::SEC_WEBSOCKET_KEY);
    let answer = match admitted(&guard, request).await {
        Ok(request) => next.run(request).await,
        Err(refused) => turned_away(refused, is_upgrade),
    };
    challenged(answer, &guard.gate)
}

/// Tells who did not prove who they are how they could, in the words of HTTP.
pub(super) fn challenged(mut answer: Response, gate: &Arc<dyn Gate>) -> Response {
    if answer.status() == StatusCode::UNAUTHORIZED && !answer.headers().contains_key(header::WWW_AUTHENTICATE) {
        for challenge in gate.challenges() {
            answer.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
    }
    answer
}

/// The answer to who is not let in.
pub(super) fn turned_away(refused: ApiError, is_upgrade: bool) -> Response {
    let mut answer = refused.into_response();
    // Upstream: whoever opens a web socket is told the same in every case.
    if is_upgrade && answer.status() == StatusCode::UNAUTHORIZED {
        *answer.status_mut() = StatusCode::FORBIDDEN;
    }
    answer
}

async fn admitted(guard: &Guard, request: Request) -> Result<Request, ApiError> {
    let (mut parts, mut body) = request.into_parts();
    let route = parts.extensions.get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let engine = match route.as_deref() {
        Some(path) if PUBLIC.contains(&path) => guard.engine.as_nobody(),
        Some(path) if path.starts_with(OPERATORS) => {
            Operator::from_request_parts(&mut parts, &()).await?;
            guard.engine.clone()
        }
        _ => {
            let (user, same) = identified(&guard.gate, &mut parts, body, guard.max_body).await?;
            body = same;
            let user = user?;
            if let Some(buckets) = &guard.buckets {
                let allowance = buckets.of_user(user.identity());
                allowance.take()?;
                parts.extensions.insert(allowance);
            }
            if parts.headers.contains_key(header::SEC_WEBSOCKET_KEY) {
                let body = guard.gate.reads_bodies().then(Bytes::new);
                let same = Credentials { body, ..credentials(&mut parts).await };
                parts.extensions.insert(Proof(guard.gate.clone(), same));
            }
            guard.engine.as_caller(user, guard.gate.clone())
        }
    };
    parts.extensions.insert(OnBehalf(engine));
    Ok(Request::from_parts(parts, body))
}

/// Who sends a request, by the handler of the project, or why nobody does; with the body, which that may have read.
pub(super) async fn identified(
    gate: &Arc<dyn Gate>,
    parts: &mut Parts,
    mut body: Body,
    max_body: usize,
) -> Answer<(Answer<User>, Body)> {
    let mut credentials = credentials(parts).await;
    if gate.reads_bodies() {
        let whole = shown(body, max_body.min(MOST_SHOWN)).await?;
        credentials.body = Some(whole.clone());
        body = whole.into();
    }
    Ok((gate.authenticate(credentials).await.map_err(|error| Error::from(error).into()), body))
}

/// The whole body, as long as it is not too much of somebody who may be anybody.
async fn shown(body: Body, most: usize) -> Answer<Bytes> {
    let mut whole = BytesMut::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| Error::Invalid(format!("the body can't be read: {error}")))?;
        if whole.len() + piece.len() > most {
            return Err(Error::TooLarge(format!("authentication is shown bodies of {most} bytes at most")).into());
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole.freeze())
}

async fn credentials(parts: &mut Parts) -> Credentials {
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map(|params| params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect());
    let peer = parts.extensions.get::<Peer>();
    Credentials {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        path_params: params.unwrap_or_default(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: headers(&parts.headers),
        body: None,
        client: peer.map(|peer| peer.address),
        secure: peer.is_some_and(|peer| peer.secure),
    }
}

fn headers(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect()
}
