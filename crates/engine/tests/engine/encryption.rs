//! Runs whose words the project's own handlers can't decrypt any more.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use threadyard_backends::{LocalBusConfig, SealedStorage};
use threadyard_core::{
    access::User,
    json::Object,
    runs::RunStatus,
    sealing::{Data, Piece, SealingHandlers},
    storage::{Result, StorageError},
};

use crate::{RunRequest, Stage, request, storage};

/// Handlers that turn bytes, until they have lost what turns those of runs back.
#[derive(Default)]
struct Handlers {
    lost: AtomicBool,
}

fn turned(bytes: &[u8]) -> Data {
    Data::Blob(bytes.iter().map(|byte| byte ^ 0x5A).collect::<Vec<_>>().into())
}

#[async_trait]
impl SealingHandlers for Handlers {
    async fn encrypt(&self, piece: Piece) -> Result<Data> {
        Ok(match piece.data {
            Data::Blob(bytes) => turned(&bytes),
            // What is answered passes for changed, and is written as such.
            Data::Json(members) => Data::Json(members),
        })
    }

    async fn decrypt(&self, piece: Piece) -> Result<Data> {
        if self.lost.load(Ordering::Relaxed) && piece.field == "kwargs" {
            return Err(StorageError::Sealing("decrypt.json raised KeyError".into()));
        }
        Ok(match piece.data {
            Data::Blob(bytes) => turned(&bytes),
            Data::Json(members) => Data::Json(members),
        })
    }

    async fn context(&self, _: Option<&User>, said: Object) -> Result<Object> {
        Ok(said)
    }
}

async fn set() -> (Stage, Arc<Handlers>) {
    let ((inner, folder), handlers) = (storage(), Arc::new(Handlers::default()));
    let sealed = Arc::new(SealedStorage::new(inner, handlers.clone()));
    (Stage::set_on(sealed, folder, LocalBusConfig::default(), |_| {}).await, handlers)
}

#[tokio::test]
async fn who_waits_for_a_run_that_cannot_be_decrypted_is_told() {
    let (stage, handlers) = set().await;
    let (at_once, later) = (stage.thread().await, stage.thread().await);
    let delayed = stage.run_on(later, RunRequest { after: Duration::from_secs(5), ..request() }).await;
    handlers.lost.store(true, Ordering::Relaxed);
    let made = stage.run_on(at_once, request()).await;
    stage.advance(Duration::from_secs(6));
    let runs = [made.run.clone(), delayed.run.clone()];
    for started in [made, delayed] {
        assert_eq!(stage.result(started).await["__error__"]["error"], "EncryptionError");
    }
    handlers.lost.store(false, Ordering::Relaxed);
    for run in runs {
        assert_eq!(stage.status(&run).await, RunStatus::Error);
    }
}
