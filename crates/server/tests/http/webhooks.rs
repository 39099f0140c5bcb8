//! What only operators may do about webhooks.

use axum::http::StatusCode;
use serde_json::json;
use threadyard::api::OperatorAccess;

use crate::{Api, json};

const SECRET: &str = "/webhooks/secret?origin=https%3A%2F%2Fexample.com%2Fhook%3Ftoken%3Dsecret";

async fn status(api: &Api, headers: &[(&str, &str)]) -> StatusCode {
    api.send_with("GET", SECRET, headers, "").await.status()
}

#[tokio::test]
async fn secrets_are_for_operators() {
    let nobody = Api::start_for(OperatorAccess::Nobody).await;
    assert_eq!(status(&nobody, &[]).await, StatusCode::FORBIDDEN);
    assert_eq!(status(&nobody, &[("authorization", "Bearer ")]).await, StatusCode::FORBIDDEN);
    let rotation = nobody.send("POST", "/webhooks/secret/rotate", "{}").await;
    assert_eq!(rotation.status(), StatusCode::FORBIDDEN);
    assert_eq!(nobody.send("GET", "/webhooks/public-key", "").await.status(), StatusCode::OK);

    let guarded = Api::start_for(OperatorAccess::Token("t0ken".into())).await;
    for wrong in ["Bearer", "Bearer t0ke", "Bearer t0ken2", "t0ken", "Basic t0ken"] {
        assert_eq!(status(&guarded, &[("authorization", wrong)]).await, StatusCode::FORBIDDEN, "{wrong}");
    }
    assert_eq!(status(&guarded, &[("authorization", "Bearer t0ken")]).await, StatusCode::OK);
}

#[tokio::test]
async fn a_receiver_has_a_secret_of_its_own_and_rotation_gives_another() {
    let api = Api::start().await;
    let (_, first) = json(api.send("GET", SECRET, "").await).await;
    assert_eq!(first["origin"], "https://example.com");
    assert!(first["key"].as_str().unwrap().starts_with("whsec_"));
    let (_, other) = json(api.send("GET", "/webhooks/secret?origin=https://example.org", "").await).await;
    assert_ne!(first["key"], other["key"]);
    let (status, rotated) = json(api.send("POST", "/webhooks/secret/rotate", "{}").await).await;
    assert_eq!(status, StatusCode::OK, "{rotated}");
    let (_, second) = json(api.send("GET", SECRET, "").await).await;
    assert_ne!(first["key"], second["key"]);
    let expected = json!([{ "key": first["key"], "expires_at": rotated["previous_expire_at"] }]);
    assert_eq!(second["previous"], expected);
    json(api.send("POST", "/webhooks/secret/rotate", r#"{"grace_seconds": 0}"#).await).await;
    let (_, third) = json(api.send("GET", SECRET, "").await).await;
    assert_eq!(third["previous"], json!([]));
    for (path, body) in [
        ("/webhooks/secret?origin=x", None),
        ("/webhooks/secret", None),
        ("/webhooks/secret/rotate", Some(r#"{"grace_seconds": -1}"#)),
    ] {
        let answer = api.send(if body.is_some() { "POST" } else { "GET" }, path, body.unwrap_or_default()).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{path}");
    }
}
