//! Serves what a worker asks of the host: checkpoints and store items, written under the right of the run that asks.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use threadyard_core::{
    ambient::Ambient,
    checkpoints::{CheckpointQuery, Committed, PruneStrategy, PutCheckpoint, PutWrites, Writer},
    items::ItemIndex,
    json::Object,
    sealing::{scoped, within},
    storage::{Storage, StorageError},
};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::{
    connection::Connection,
    custom_app::PassedOn,
    frame::{Frame, FrameError},
    items::{StoreAnswer, StoreBatch},
    protocol::{CpPut, CpWrites, Tuple, kind, read},
};

/// The bit that tells ids of a worker's requests.
const REQUEST: u64 = 1 << 63;

/// What callbacks work with.
#[derive(Clone)]
pub(crate) struct Callbacks {
    pub(crate) storage: Arc<dyn Storage>,
    /// How items are found by their meaning, if they are.
    pub(crate) index: Option<ItemIndex>,
    pub(crate) ambient: Ambient,
    pub(crate) tasks: TaskTracker,
    /// Hears of requests that the user's application passes on.
    pub(crate) passed_on: mpsc::UnboundedSender<PassedOn>,
}

impl Callbacks {
    /// Serves one frame. A request that makes no sense, which user code may well have caused, is answered with an error.
    pub(crate) fn serve(&self, connection: &Arc<Connection>, frame: &Frame) -> Result<(), FrameError> {
        match self.begin(connection, frame) {
            Err(FrameError::Body(why)) if frame.id & REQUEST != 0 => {
                refuse(connection, frame.id, "ValueError", &why);
                Ok(())
            }
            begun => begun,
        }
    }

    /// Begins to serve a frame. Puts take their place in the order of writes before this returns.
    fn begin(&self, connection: &Arc<Connection>, frame: &Frame) -> Result<(), FrameError> {
        match frame.kind {
            kind::CP_PUT => {
                let put: CpPut = read(&frame.body)?;
                let slot = put.slot.unwrap_or(frame.id);
                let put: PutCheckpoint = put.into();
                self.put(connection, frame.id, slot, |writer| self.storage.put_checkpoint(writer, put));
            }
            kind::CP_WRITES => {
                let put: CpWrites = read(&frame.body)?;
                let slot = put.slot.unwrap_or(frame.id);
                let put: PutWrites = put.into();
                self.put(connection, frame.id, slot, |writer| self.storage.put_writes(writer, put));
            }
            kind::CP_CALL => {
                let call: CpCall = read(&frame.body)?;
                let commits = connection.with_run(call.slot, |slot| std::mem::take(&mut slot.commits));
                let (this, connection, id) = (self.clone(), connection.clone(), frame.id);
                self.tasks.spawn(async move {
                    let slot = call.slot;
                    let result = match all(commits.unwrap_or_default()).await {
                        Ok(()) => match this.checkpoint_call(call).await {
                            Err(error @ (StorageError::Unavailable(_) | StorageError::Sealing(_))) => {
                                Err(fail(&connection, slot, error))
                            }
                            answered => answered,
                        },
                        // Nobody waits for a put that is sent one way: only the run as a whole can hear of it.
                        Err(error) => Err(fail(&connection, slot, error)),
                    };
                    reply(&connection, id, result);
                });
            }
            _ => {
                let batch: StoreBatch = read(&frame.body)?;
                let sealing = connection.sealing(batch.slot);
                let operations = batch.understood(self.index.as_ref())?;
                let (this, connection, id) = (self.clone(), connection.clone(), frame.id);
                self.tasks.spawn(async move {
                    let applied = this.storage.apply_items(operations, this.ambient.now());
                    let answers = within(sealing, applied).await;
                    let result =
                        answers.map(|answers| pack(&answers.into_iter().map(StoreAnswer::from).collect::<Vec<_>>()));
                    reply(&connection, id, result);
                });
            }
        }
        Ok(())
    }

    fn put(&self, connection: &Arc<Connection>, id: u64, slot: u64, put: impl FnOnce(Writer) -> Committed) {
        // A run that is over, or was taken away, writes no more.
        let Some(writer) = connection.writer(slot) else {
            if id != slot {
                reply(connection, id, Err(StorageError::LeaseLost));
            }
            return;
        };
        let committed = scoped(&connection.sealing(slot), || put(writer));
        if id == slot {
            connection.with_run(slot, |run| run.commits.push(committed));
            return;
        }
        let connection = connection.clone();
        self.tasks.spawn(async move {
            let result = committed.await.map_err(|error| fail(&connection, slot, error));
            reply(&connection, id, result.map(|()| pack(&())));
        });
    }

    async fn checkpoint_call(&self, call: CpCall) -> Result<Bytes, StorageError> {
        let missing = |key: &str| StorageError::Bug(format!("the checkpoint call `{}` lacks `{key}`", call.op));
        let thread = || call.thread.as_deref().ok_or_else(|| missing("thread"));
        match call.op.as_str() {
            "get" => {
                let ns = call.ns.as_deref().unwrap_or_default();
                let found = self.storage.checkpoint(thread()?, ns, call.id.as_deref()).await?;
                Ok(pack(&found.map(Tuple::from)))
            }
            "list" => {
                let filter = match &call.filter {
                    Some(filter) => {
                        serde_json::from_slice(filter).map_err(|error| StorageError::Bug(error.to_string()))?
                    }
                    None => Object::new(),
                };
                let query = CheckpointQuery {
                    thread: call.thread,
                    ns: call.ns,
                    filter,
                    before: call.before,
                    limit: call.limit,
                };
                let found = self.storage.list_checkpoints(query).await?;
                Ok(pack(&found.into_iter().map(Tuple::from).collect::<Vec<_>>()))
            }
            "delete_thread" => self.storage.delete_checkpoints(thread()?).await.map(|()| pack(&())),
            "delete_for_runs" => {
                self.storage.delete_run_checkpoints(call.runs.unwrap_or_default()).await.map(|()| pack(&()))
            }
            "copy_thread" => {
                let source = call.source.as_deref().ok_or_else(|| missing("source"))?;
                let target = call.target.as_deref().ok_or_else(|| missing("target"))?;
                self.storage.copy_checkpoints(source, target).await.map(|()| pack(&()))
            }
            "prune" => {
                let strategy = match call.strategy.as_deref() {
                    Some("delete") => PruneStrategy::Delete,
                    _ => PruneStrategy::KeepLatest,
                };
                self.storage.prune_checkpoints(call.threads.unwrap_or_default(), strategy).await.map(|()| pack(&()))
            }
            other => Err(StorageError::Bug(format!("unknown checkpoint call `{other}`"))),
        }
    }
}

/// Ends the attempt or the call, which has lost what it wrote or could not read what it needs.
fn fail(connection: &Connection, slot: u64, error: StorageError) -> StorageError {
    connection.storage_failed(slot, &error);
    error
}

async fn all(commits: Vec<Committed>) -> Result<(), StorageError> {
    for commit in commits {
        commit.await?;
    }
    Ok(())
}

fn pack(value: &impl Serialize) -> Bytes {
    rmp_serde::to_vec_named(value).expect("own answers always render as msgpack").into()
}

fn reply(connection: &Connection, id: u64, result: Result<Bytes, StorageError>) {
    match result {
        Ok(result) => send_reply(connection, id, 0, &result),
        Err(error) => refuse(connection, id, "StorageError", &error.to_string()),
    }
}

fn refuse(connection: &Connection, id: u64, class: &str, message: &str) {
    let error = serde_json::json!({ "error": class, "message": message });
    send_reply(connection, id, 1, error.to_string().as_bytes());
}

fn send_reply(connection: &Connection, id: u64, status: u8, result: &[u8]) {
    let mut body = BytesMut::with_capacity(1 + result.len());
    body.put_u8(status);
    body.put_slice(result);
    connection.send(Frame { kind: kind::REPLY, id, body: body.freeze() });
}

#[derive(Deserialize)]
struct CpCall {
    op: String,
    slot: u64,
    #[serde(default)]
    thread: Option<String>,
    #[serde(default)]
    ns: Option<String>,
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    filter: Option<Bytes>,
    #[serde(default)]
    before: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    runs: Option<Vec<String>>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    threads: Option<Vec<String>>,
    #[serde(default)]
    strategy: Option<String>,
}
