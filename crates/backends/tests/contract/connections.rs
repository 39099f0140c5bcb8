//! Connections are counted while they are in use.

use crate::Backend;

#[tokio::test]
async fn nothing_is_in_use_when_nobody_asks() {
    let backend = Backend::new().await;
    backend.thread(1).await;
    let connections = backend.storage.connections();
    assert!(connections.iter().any(|state| state.purpose == "read"));
    for state in connections {
        assert!(state.limit > 0);
        assert_eq!((state.busy, state.waiting), (0, 0), "{}", state.purpose);
    }
}
