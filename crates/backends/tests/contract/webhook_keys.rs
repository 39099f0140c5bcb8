//! Keys of webhooks: the first is made once, and rotation leaves the old ones for a while.

use threadyard_core::webhook_keys::MasterKey;

use crate::{Backend, at};

const A: MasterKey = MasterKey([1; 32]);
const B: MasterKey = MasterKey([2; 32]);
const C: MasterKey = MasterKey([3; 32]);

#[tokio::test]
async fn the_first_key_is_made_once() {
    let backend = Backend::new().await;
    let first = backend.storage.webhook_keys(A, at(0)).await.unwrap();
    assert_eq!(first.iter().map(|key| (key.version, &key.master)).collect::<Vec<_>>(), [(1, &A)]);
    let backend = backend.reopen().await;
    assert_eq!(backend.storage.webhook_keys(B, at(1)).await.unwrap(), first);
}

#[tokio::test]
async fn old_keys_sign_until_their_grace_is_over() {
    let backend = Backend::new().await;
    let storage = &backend.storage;
    storage.webhook_keys(A, at(0)).await.unwrap();
    let second = storage.rotate_webhook_key(B, at(10), at(100)).await.unwrap();
    assert_eq!((second.version, second.expires_at), (2, None));
    let masters = async |seconds| {
        let keys = storage.webhook_keys(C, at(seconds)).await.unwrap();
        keys.into_iter().map(|key| key.master).collect::<Vec<_>>()
    };
    assert_eq!(masters(99).await, [B, A]);
    assert_eq!(masters(100).await, [B]);
    // A second rotation does not lengthen what is running out already.
    storage.rotate_webhook_key(C, at(50), at(500)).await.unwrap();
    assert_eq!(masters(99).await, [C, B, A]);
    assert_eq!(masters(100).await, [C, B]);
    storage.rotate_webhook_key(A, at(200), at(200)).await.unwrap();
    assert_eq!(masters(200).await, [A], "no grace means at once");
}

#[test]
fn a_master_key_is_not_shown() {
    assert_eq!(format!("{A:?}"), "MasterKey(…)");
}
