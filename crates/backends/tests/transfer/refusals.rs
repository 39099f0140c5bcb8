//! What is in use, full, or of another origin is left alone.

use threadyard_backends::{OpenError, Place, PostgresStorage, TransferError, import};
use threadyard_core::{
    assistants::Assistant, ids::AssistantId, json::Object, storage::Storage, webhook_keys::MasterKey,
};

use crate::{
    Database, assert_same,
    filled::{at, fill, object, put_item},
    folder, imported, open, postgres, transfer,
};

async fn refused(from: &Place, to: &Place) -> TransferError {
    import(&transfer(from, to), &mut |_| {}).await.unwrap_err()
}

/// A database that a server has been started on, and nothing else.
async fn start(storage: &dyn Storage, graph: &str) {
    storage.webhook_keys(MasterKey([7; 32]), at(0)).await.unwrap();
    let assistant = Assistant {
        assistant_id: AssistantId::of_graph(graph),
        graph_id: graph.into(),
        config: Object::new(),
        context: Object::new(),
        metadata: object(serde_json::json!({ "created_by": "system" })),
        name: graph.into(),
        created_at: at(0),
        updated_at: at(0),
        version: 1,
        description: None,
    };
    storage.register_assistants(vec![assistant]).await.unwrap();
}

#[tokio::test]
async fn only_an_empty_database_is_filled() {
    let (here, database) = (crate::filled().await, Database::new().await);
    let storage = PostgresStorage::open(&database.config()).await.unwrap();
    start(&storage, "another").await;
    drop(storage);
    assert_same(&imported(&transfer(&folder(&here), &postgres(&database))).await);
    let again = refused(&folder(&here), &postgres(&database)).await;
    assert!(matches!(&again, TransferError::Occupied { nouns, .. } if nouns.contains("threads")), "{again}");

    let there = tempfile::tempdir().unwrap();
    start(&open(there.path()), "another").await;
    put_item(&open(there.path()), &["a"], "k", Vec::new()).await;
    let occupied = refused(&folder(&here), &folder(&there)).await.to_string();
    assert!(occupied.contains("is not empty: it has items;"), "{occupied}");
}

#[tokio::test]
async fn what_a_server_uses_is_left_alone() {
    let (here, database, there) = (crate::filled().await, Database::new().await, tempfile::tempdir().unwrap());
    let held = open(here.path());
    let in_use = refused(&folder(&here), &folder(&there)).await;
    assert!(matches!(in_use, TransferError::Sqlite(OpenError::InUse(_))), "{in_use}");
    drop(held);

    let server = PostgresStorage::open(&database.config()).await.unwrap();
    fill(&server).await;
    for (from, to) in [(postgres(&database), folder(&there)), (folder(&here), postgres(&database))] {
        let in_use = refused(&from, &to).await.to_string();
        assert!(in_use.contains("servers are connected from 127.0.0.1"), "{in_use}");
    }
    drop(server);
    // A server that was killed may have left leases.
    let client = database.client().await;
    let lease = "UPDATE run SET lease_until = extract(epoch FROM now() + interval '1 hour') * 1000000
         WHERE status = 'running'";
    client.batch_execute(lease).await.unwrap();
    drop(client);
    let leased = loop {
        let refused = refused(&postgres(&database), &folder(&there)).await.to_string();
        if !refused.contains("connected") {
            break refused;
        }
    };
    assert!(leased.contains("1 runs and 0 deliveries are leased"), "{leased}");
}

#[tokio::test]
async fn where_nothing_is_nothing_is_made() {
    let (nowhere, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let missing = refused(&Place::Folder(nowhere.path().join("none")), &folder(&there)).await;
    assert!(matches!(missing, TransferError::Missing(_)), "{missing}");
    assert_eq!(std::fs::read_dir(nowhere.path()).unwrap().count(), 0);
}
