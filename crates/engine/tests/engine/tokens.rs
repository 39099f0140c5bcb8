//! Tokens of an identity provider: which are believed, and where its keys come from.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ed25519_dalek::SigningKey;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use threadyard_core::{
    access::{AccessError, Credentials, Gate, User},
    testkit::{ManualClock, ambient},
    tokens::{TokenAlgorithm, TokenRules},
};
use threadyard_engine::{BuiltinAuth, BuiltinAuthRules};

use crate::storage;

/// A moment of the clock that stands still.
const NOW: i64 = 1_767_323_045;

/// An identity provider with its keys.
#[derive(Clone, Default)]
struct Issuer(Arc<Shown>);

#[derive(Default)]
struct Shown {
    keys: Mutex<Vec<Value>>,
    asked: AtomicUsize,
    is_gone: AtomicBool,
    url: Mutex<String>,
    /// What its configuration says besides what it should.
    says: Mutex<Vec<(&'static str, String)>>,
}

/// The private half of the `n`th key.
fn private(n: u8) -> EncodingKey {
    // RFC 8410: what stands before the thirty-two bytes of an Ed25519 key.
    let mut der = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    der.extend([n; 32]);
    EncodingKey::from_ed_der(&der)
}

/// The public half.
fn public(n: u8) -> Value {
    let x = SigningKey::from_bytes(&[n; 32]).verifying_key().to_bytes();
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": format!("k{n}"), "use": "sig", "x": BASE64_URL_SAFE_NO_PAD.encode(x) })
}

impl Issuer {
    #[expect(clippy::disallowed_methods, reason = "the issuer is the test's own, and ends with it")]
    async fn start(keys: &[u8]) -> Self {
        let issuer = Self::default();
        issuer.show(keys);
        let jwks = async |State(issuer): State<Self>| {
            issuer.0.asked.fetch_add(1, SeqCst);
            if issuer.0.is_gone.load(SeqCst) {
                return StatusCode::BAD_GATEWAY.into_response();
            }
            Json(json!({ "keys": *issuer.0.keys.lock().unwrap() })).into_response()
        };
        let configuration = async |State(issuer): State<Self>| {
            let url = issuer.url();
            let mut says = json!({ "issuer": url, "jwks_uri": format!("{url}/keys") });
            for (name, value) in &*issuer.0.says.lock().unwrap() {
                says[name] = value.clone().into();
            }
            Json(says)
        };
        let routes = Router::new()
            .route("/keys", get(jwks))
            .route("/.well-known/openid-configuration", get(configuration))
            .with_state(issuer.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        *issuer.0.url.lock().unwrap() = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        issuer
    }

    fn show(&self, keys: &[u8]) {
        *self.0.keys.lock().unwrap() = keys.iter().map(|n| public(*n)).collect();
    }

    fn url(&self) -> String {
        self.0.url.lock().unwrap().clone()
    }

    fn asked(&self) -> usize {
        self.0.asked.load(SeqCst)
    }

    fn claims(&self) -> Value {
        json!({ "iss": self.url(), "aud": "threadyard", "sub": "ann", "exp": NOW + 60, "email": "ann@example.com" })
    }

    fn token(&self, n: u8) -> String {
        signed(n, &self.claims())
    }

    fn gate(&self, change: impl FnOnce(&mut TokenRules)) -> (BuiltinAuth, Arc<ManualClock>) {
        let (ambient, clock) = ambient();
        let mut rules = TokenRules {
            issuer: self.url(),
            audience: vec!["other".into(), "threadyard".into()],
            jwks_url: None,
            algorithms: vec![TokenAlgorithm::EdDSA, TokenAlgorithm::RS256],
            leeway: Duration::from_secs(30),
            scopes_claim: None,
            scopes: vec!["user".into()],
        };
        change(&mut rules);
        let rules = BuiltinAuthRules { keys: true, tokens: Some(rules) };
        (BuiltinAuth::new(rules, storage().0, &ambient).unwrap(), clock)
    }
}

fn signed(n: u8, claims: &Value) -> String {
    let header = Header { kid: Some(format!("k{n}")), ..Header::new(Algorithm::EdDSA) };
    encode(&header, claims, &private(n)).unwrap()
}

async fn bring(gate: &BuiltinAuth, token: &str) -> Result<User, AccessError> {
    let headers = vec![("authorization".to_owned(), format!("Bearer {token}").into_bytes())];
    let (method, path) = ("GET".into(), "/threads".into());
    gate.authenticate(Credentials { method, path, headers, ..Credentials::default() }).await
}

async fn refusal(gate: &BuiltinAuth, token: &str) -> String {
    match bring(gate, token).await.unwrap_err() {
        AccessError::Refused { status: 401, detail, .. } => detail,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_token_names_its_user() {
    let issuer = Issuer::start(&[1]).await;
    let (gate, _) = issuer.gate(|_| {});
    let user = bring(&gate, &issuer.token(1)).await.unwrap();
    assert_eq!((user.identity(), user.permissions()), ("ann", &[json!("user")][..]));
    assert_eq!(user.fields()["display_name"], "ann@example.com");
    assert_eq!(user.fields()["claims"]["aud"], "threadyard");
}

#[tokio::test]
async fn scopes_are_those_of_the_claim_that_is_meant() {
    let issuer = Issuer::start(&[1]).await;
    for (claim, said, expected) in [
        ("scope", json!("openid threads:read"), json!(["openid", "threads:read"])),
        ("roles", json!(["reader", 7]), json!(["reader"])),
        ("roles", json!(null), json!([])),
    ] {
        let (gate, _) = issuer.gate(|rules| rules.scopes_claim = Some(claim.into()));
        let mut claims = issuer.claims();
        claims[claim] = said;
        let user = bring(&gate, &signed(1, &claims)).await.unwrap();
        assert_eq!(json!(user.permissions()), expected);
    }
}

#[tokio::test]
async fn tokens_that_are_not_for_us_are_refused() {
    let issuer = Issuer::start(&[1]).await;
    let (gate, _) = issuer.gate(|_| {});
    for (claim, said, why) in [
        ("iss", json!("https://evil.example"), "of another issuer"),
        ("iss", json!(null), "no"),
        ("aud", json!("somebody"), "meant for somebody else"),
        ("aud", json!(["a", "b"]), "meant for somebody else"),
        ("aud", json!(null), "no"),
        ("exp", json!(NOW - 30), "has expired"),
        ("exp", json!("soon"), "no"),
        ("exp", json!(null), "no"),
        ("nbf", json!(NOW + 31), "not valid yet"),
        ("sub", json!("*"), "names nobody"),
        ("sub", json!(""), "names nobody"),
        ("sub", json!(null), "no"),
    ] {
        let mut claims = issuer.claims();
        claims[claim] = said.clone();
        let refused = refusal(&gate, &signed(1, &claims)).await;
        assert!(refused.starts_with("Unauthorized: ") && refused.contains(why), "{claim} {said}: {refused}");
    }
    for (claim, said) in [("exp", json!(NOW - 29)), ("nbf", json!(NOW + 30)), ("aud", json!(["a", "threadyard"]))] {
        let mut claims = issuer.claims();
        claims[claim] = said.clone();
        assert!(bring(&gate, &signed(1, &claims)).await.is_ok(), "{claim} {said}");
    }
}

#[tokio::test]
async fn signatures_are_the_issuers_and_of_an_allowed_kind() {
    let issuer = Issuer::start(&[1]).await;
    let (gate, _) = issuer.gate(|_| {});
    let token = issuer.token(1);
    let (message, _) = token.rsplit_once('.').unwrap();
    let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = part(issuer.claims());
    let none = format!("{}.{claims}.", part(json!({ "alg": "none", "kid": "k1" })));
    // Whoever takes a public key for a secret lets everybody in.
    let secret = public(1)["x"].as_str().unwrap().to_owned();
    let secret = BASE64_URL_SAFE_NO_PAD.decode(secret).unwrap();
    let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::HS256) };
    let hmac = encode(&header, &issuer.claims(), &EncodingKey::from_secret(&secret).unwrap()).unwrap();
    let forged = {
        let header = Header { kid: Some("k1".into()), ..Header::new(Algorithm::EdDSA) };
        encode(&header, &issuer.claims(), &private(2)).unwrap()
    };
    let other_kind = format!("{}.{claims}.AAAA", part(json!({ "alg": "RS256", "kid": "k1" })));
    for (token, why) in [
        (none, "neither an API key nor a JWT"),
        (hmac, "not allowed"),
        (forged, "signature of the token is wrong"),
        (format!("{message}.AAAA"), "signature of the token is wrong"),
        (other_kind, "unknown key"),
        ("not.a.token".into(), "neither an API key nor a JWT"),
        ("nothing".into(), "neither an API key nor a JWT"),
    ] {
        let refused = refusal(&gate, &token).await;
        assert!(refused.contains(why), "{token}: {refused}");
    }
    let (strict, _) = issuer.gate(|rules| rules.algorithms = vec![TokenAlgorithm::RS256]);
    assert!(refusal(&strict, &token).await.contains("not allowed"));
}

#[tokio::test]
async fn keys_that_encrypt_sign_nothing() {
    let issuer = Issuer::start(&[1, 2]).await;
    issuer.0.keys.lock().unwrap()[0]["use"] = "enc".into();
    let (gate, _) = issuer.gate(|_| {});
    assert!(refusal(&gate, &issuer.token(1)).await.contains("unknown key"));
    bring(&gate, &issuer.token(2)).await.unwrap();
    // It is not taken for the only key, either, where a token names none.
    let unnamed = encode(&Header::new(Algorithm::EdDSA), &issuer.claims(), &private(2)).unwrap();
    bring(&gate, &unnamed).await.unwrap();
}

#[tokio::test]
async fn keys_come_from_where_the_issuer_says_and_nobody_listens_in() {
    let issuer = Issuer::start(&[1]).await;
    let anybody = issuer.url().replace("127.0.0.1", "0.0.0.0");
    for says in [("issuer", format!("{}/other", issuer.url())), ("jwks_uri", format!("{anybody}/keys"))] {
        let (gate, clock) = issuer.gate(|_| {});
        *issuer.0.says.lock().unwrap() = vec![says.clone()];
        assert!(matches!(bring(&gate, &issuer.token(1)).await, Err(AccessError::Unavailable(_))), "{says:?}");
        assert_eq!(issuer.asked(), 0, "{says:?}");
        issuer.0.says.lock().unwrap().clear();
        clock.advance(Duration::from_secs(10));
        bring(&gate, &issuer.token(1)).await.unwrap();
        issuer.0.asked.store(0, SeqCst);
    }
}

#[tokio::test]
async fn keys_are_kept_and_fetched_anew_when_they_change() {
    let issuer = Issuer::start(&[1]).await;
    let (gate, clock) = issuer.gate(|_| {});
    for _ in 0..5 {
        bring(&gate, &issuer.token(1)).await.unwrap();
    }
    assert_eq!(issuer.asked(), 1);
    // A key that nobody knows is asked for, but not with every token that names one.
    for _ in 0..5 {
        refusal(&gate, &issuer.token(2)).await;
    }
    assert_eq!(issuer.asked(), 1);
    issuer.show(&[2]);
    clock.advance(Duration::from_secs(10));
    bring(&gate, &issuer.token(2)).await.unwrap();
    assert!(refusal(&gate, &issuer.token(1)).await.contains("unknown key"), "the issuer has taken it back");
    assert_eq!(issuer.asked(), 2);
}

#[tokio::test]
async fn keys_go_on_for_a_while_when_the_issuer_is_gone() {
    let issuer = Issuer::start(&[1]).await;
    let (gate, clock) = issuer.gate(|rules| {
        rules.leeway = Duration::from_secs(10_000);
        rules.jwks_url = Some(format!("{}/keys", issuer.url()).parse().unwrap());
    });
    issuer.0.is_gone.store(true, SeqCst);
    assert!(matches!(bring(&gate, &issuer.token(1)).await, Err(AccessError::Unavailable(_))));
    issuer.0.is_gone.store(false, SeqCst);
    clock.advance(Duration::from_secs(10));
    bring(&gate, &issuer.token(1)).await.unwrap();
    issuer.0.is_gone.store(true, SeqCst);
    clock.advance(Duration::from_mins(59));
    bring(&gate, &issuer.token(1)).await.unwrap();
    clock.advance(Duration::from_mins(1));
    assert!(matches!(bring(&gate, &issuer.token(1)).await, Err(AccessError::Unavailable(_))));
}
