//! Checkpoints, whose values are encrypted by handlers for blobs, and their metadata by those for JSON.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{try_join, try_join_all};
use threadyard_core::{
    checkpoints::{
        Blob, CheckpointQuery, CheckpointTuple, Checkpoints, Committed, PruneStrategy, PutCheckpoint, PutWrites, Write,
        Writer,
    },
    json::{RawJson, RawObject, raw},
    storage::{Result, StorageError},
};

use super::{
    SealedStorage,
    lanes::Put,
    opener::Opener,
    sealer::{OF_METADATA, Sealer, finished},
};

/// What of a checkpoint says which values belong to it, and when they changed; the rest is what graphs have said.
const STRUCTURE: [&str; 6] = ["v", "id", "ts", "channel_versions", "versions_seen", "updated_channels"];
const BLOBS: (&str, &str) = ("checkpoint", "blob");
const WRITES: (&str, &str) = ("checkpoint", "writes");

#[async_trait]
impl Checkpoints for SealedStorage {
    fn put_checkpoint(&self, writer: Writer, put: PutCheckpoint) -> Committed {
        let (sealer, thread) = (self.sealer(), put.thread.clone());
        self.lanes.put(writer, &thread, async move { sealer.checkpoint(put).await.map(Put::Checkpoint) })
    }

    fn put_writes(&self, writer: Writer, put: PutWrites) -> Committed {
        let (sealer, thread) = (self.sealer(), put.thread.clone());
        self.lanes.put(writer, &thread, async move { sealer.writes(put).await.map(Put::Writes) })
    }

    async fn checkpoint(&self, thread: &str, ns: &str, id: Option<&str>) -> Result<Option<CheckpointTuple>> {
        match self.inner.checkpoint(thread, ns, id).await? {
            Some(found) => self.opener().tuple(found).await.map(Some),
            None => Ok(None),
        }
    }

    async fn list_checkpoints(&self, query: CheckpointQuery) -> Result<Vec<CheckpointTuple>> {
        let opener = self.opener();
        try_join_all(self.inner.list_checkpoints(query).await?.into_iter().map(|found| opener.tuple(found))).await
    }

    async fn delete_checkpoints(&self, thread: &str) -> Result<()> {
        self.inner.delete_checkpoints(thread).await
    }

    async fn delete_run_checkpoints(&self, runs: Vec<String>) -> Result<()> {
        self.inner.delete_run_checkpoints(runs).await
    }

    async fn copy_checkpoints(&self, source: &str, target: &str) -> Result<()> {
        self.inner.copy_checkpoints(source, target).await
    }

    async fn prune_checkpoints(&self, threads: Vec<String>, strategy: PruneStrategy) -> Result<()> {
        self.inner.prune_checkpoints(threads, strategy).await
    }
}

impl Sealer {
    async fn checkpoint(&self, put: PutCheckpoint) -> Result<PutCheckpoint> {
        let metadata = async {
            let members = self.members(("checkpoint", "metadata"), object(&put.metadata)?, &OF_METADATA).await?;
            Ok(bytes(&raw(&members)))
        };
        let blobs = try_join_all(put.blobs.into_iter().map(|blob| async move {
            Ok::<_, StorageError>(Blob { data: self.bytes(BLOBS, blob.data).await?, ..blob })
        }));
        let ((checkpoint, metadata), blobs) =
            try_join(try_join(self.values(object(&put.checkpoint)?), metadata), blobs).await?;
        Ok(PutCheckpoint { checkpoint, metadata, blobs, ..put })
    }

    /// The checkpoint with the values that it holds itself.
    async fn values(&self, checkpoint: RawObject) -> Result<Bytes> {
        let mut sealed = RawObject::new();
        for (key, part) in checkpoint {
            let is_structure = STRUCTURE.contains(&key.as_str());
            let part = if is_structure { part } else { self.json(("checkpoint", &key), &part).await? };
            sealed.insert(key, part);
        }
        Ok(bytes(&raw(&sealed)))
    }

    async fn writes(&self, put: PutWrites) -> Result<PutWrites> {
        let writes = put.writes.into_iter().map(|write| async move {
            Ok::<_, StorageError>(Write { data: self.bytes(WRITES, write.data).await?, ..write })
        });
        Ok(PutWrites { writes: try_join_all(writes).await?, ..put })
    }
}

impl Opener {
    pub(super) async fn tuple(&self, found: CheckpointTuple) -> Result<CheckpointTuple> {
        let blobs = try_join_all(
            found
                .blobs
                .into_iter()
                .map(|blob| async move { Ok::<_, StorageError>(Blob { data: self.bytes(blob.data).await?, ..blob }) }),
        );
        let writes =
            try_join_all(found.writes.into_iter().map(|write| async move {
                Ok::<_, StorageError>(Write { data: self.bytes(write.data).await?, ..write })
            }));
        let documents = try_join(self.text(found.checkpoint), self.text(found.metadata));
        let ((checkpoint, metadata), (blobs, writes)) = try_join(documents, try_join(blobs, writes)).await?;
        Ok(CheckpointTuple { checkpoint, metadata, blobs, writes, ..found })
    }

    /// JSON that is carried as bytes, or was erased.
    pub(super) async fn text(&self, json: Bytes) -> Result<Bytes> {
        if json.is_empty() {
            return Ok(json);
        }
        Ok(bytes(&self.json(finished(json)?).await?))
    }
}

fn object(json: &[u8]) -> Result<RawObject> {
    serde_json::from_slice(json).map_err(|error| StorageError::Bug(error.to_string()))
}

fn bytes(json: &RawJson) -> Bytes {
    Bytes::copy_from_slice(json.get().as_bytes())
}
