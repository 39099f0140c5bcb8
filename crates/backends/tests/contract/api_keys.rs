//! API keys: found by their ids, one of a name at a time, and taken back without being forgotten.

use threadyard_core::{
    api_keys::{ApiKey, KeyDigest},
    time::Timestamp,
};

use crate::{Backend, at};

fn key(id: &str, name: &str, made: i64, expires_at: Option<Timestamp>) -> ApiKey {
    ApiKey {
        id: id.into(),
        name: name.into(),
        identity: format!("{name}@example.com"),
        scopes: vec!["threads:*".into(), "store:get".into()],
        created_at: at(made),
        expires_at,
        revoked_at: None,
        last_used_at: None,
    }
}

#[tokio::test]
async fn a_key_is_found_by_its_id_with_its_digest() {
    let backend = Backend::new().await;
    let ann = key("ty_a", "ann", 0, Some(at(100)));
    assert!(backend.storage.create_api_key(ann.clone(), KeyDigest([7; 32])).await.unwrap());
    let backend = backend.reopen().await;
    assert_eq!(backend.storage.api_key("ty_a").await.unwrap(), Some((ann, KeyDigest([7; 32]))));
    assert_eq!(backend.storage.api_key("ty_b").await.unwrap(), None);
}

#[tokio::test]
async fn one_key_of_a_name_is_valid_at_a_time() {
    let backend = Backend::new().await;
    let make = async |key| backend.storage.create_api_key(key, KeyDigest([0; 32])).await.unwrap();
    assert!(make(key("ty_a", "ann", 0, Some(at(10)))).await);
    assert!(!make(key("ty_b", "ann", 9, None)).await);
    assert!(make(key("ty_b", "bob", 9, None)).await);
    assert!(make(key("ty_c", "ann", 10, None)).await, "the other has expired");
    assert!(backend.storage.revoke_api_key("ty_c", at(11)).await.unwrap());
    assert!(make(key("ty_d", "ann", 12, None)).await, "the other was taken back");
    let ids: Vec<_> = backend.storage.api_keys().await.unwrap().into_iter().map(|key| key.id).collect();
    assert_eq!(ids, ["ty_d", "ty_c", "ty_b", "ty_a"]);
}

#[tokio::test]
async fn a_key_that_was_taken_back_stays_known() {
    let backend = Backend::new().await;
    backend.storage.create_api_key(key("ty_a", "ann", 0, Some(at(100))), KeyDigest([0; 32])).await.unwrap();
    assert!(!backend.storage.revoke_api_key("ty_b", at(1)).await.unwrap());
    assert!(backend.storage.revoke_api_key("ty_a", at(2)).await.unwrap());
    assert!(backend.storage.revoke_api_key("ty_a", at(3)).await.unwrap());
    let (kept, _) = backend.storage.api_key("ty_a").await.unwrap().unwrap();
    assert_eq!(kept.revoked_at, Some(at(2)), "the first time counts");
}

#[tokio::test]
async fn use_is_noted_once_in_a_while() {
    let backend = Backend::new().await;
    backend.storage.create_api_key(key("ty_a", "ann", 0, None), KeyDigest([0; 32])).await.unwrap();
    let used = async || backend.storage.api_key("ty_a").await.unwrap().unwrap().0.last_used_at;
    assert_eq!(used().await, None);
    for (now, noted_after, expected) in [(5, 0, 5), (6, 4, 5), (7, 5, 7)] {
        backend.storage.note_use_of_api_key("ty_a", at(now), at(noted_after)).await.unwrap();
        assert_eq!(used().await, Some(at(expected)));
    }
    backend.storage.note_use_of_api_key("ty_gone", at(8), at(8)).await.unwrap();
}

#[test]
fn validity_ends_with_its_time_or_when_it_is_taken_back() {
    let mut ann = key("ty_a", "ann", 0, Some(at(10)));
    assert!(ann.is_valid(at(9)) && !ann.is_valid(at(10)));
    ann.revoked_at = Some(at(3));
    assert!(!ann.is_valid(at(4)));
    assert_eq!(format!("{:?}", KeyDigest([1; 32])), "KeyDigest(…)");
}
