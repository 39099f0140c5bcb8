//! Kept events.

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use threadyard_core::{
    events::Events,
    ids::{RunId, ThreadId},
    runs::{Lease, Run},
    storage::{Result, StorageError},
    stream::StreamEvent,
};

use super::{SealedStorage, marker, opener::Opener};

const DATA: (&str, &str) = ("run", "events");

#[async_trait]
impl Events for SealedStorage {
    async fn keep_events(&self, lease: Lease, first: u64, events: Vec<StreamEvent>) -> Result<()> {
        let sealer = self.sealer();
        let events = events.into_iter().map(|event| async {
            Ok::<_, StorageError>(StreamEvent { data: sealer.bytes(DATA, event.data).await?, ..event })
        });
        self.inner.keep_events(lease, first, try_join_all(events).await?).await
    }

    async fn kept_events(&self, run_id: RunId, after: u64) -> Result<Vec<(u64, StreamEvent)>> {
        let (opener, kept) = (self.opener(), self.inner.kept_events(run_id, after).await?);
        let readings = kept.into_iter().map(async |(place, event)| (place, opener.event(event).await));
        let (mut events, mut refused) = (Vec::new(), None);
        for (place, opened) in join_all(readings).await {
            let event = opened.or_else(|error| match error {
                StorageError::Sealing(why) => {
                    refused = Some(why);
                    Ok(StreamEvent::lost())
                }
                error => Err(error),
            })?;
            events.push((place, event));
        }
        if let Some(why) = refused {
            tracing::error!(%run_id, why, "events of a run can't be decrypted");
        }
        Ok(events)
    }

    async fn unopened_events(&self, run_id: RunId, after: u64) -> Result<Vec<(u64, StreamEvent)>> {
        self.inner.unopened_events(run_id, after).await
    }

    async fn begin_block(&self, thread_id: ThreadId) -> Result<u64> {
        self.inner.begin_block(thread_id).await
    }

    async fn tape_end(&self, thread_id: ThreadId) -> Result<u64> {
        self.inner.tape_end(thread_id).await
    }

    async fn told_runs(&self, thread_id: ThreadId, after: u64) -> Result<Vec<Run>> {
        let opener = self.opener();
        let readings = self.inner.told_runs(thread_id, after).await?.into_iter().map(async |run| {
            let sealed = run.clone();
            opener.run(run).await.or_else(|error| match error {
                StorageError::Sealing(why) => {
                    tracing::error!(run_id = %sealed.run_id, why, "a run can't be decrypted; what it said may be readable");
                    Ok(sealed)
                }
                error => Err(error),
            })
        });
        try_join_all(readings).await
    }
}

impl Opener {
    /// The last event of a run is made by the database, of an error that is encrypted.
    async fn event(&self, event: StreamEvent) -> Result<StreamEvent> {
        let is_whole = marker::of_bytes(&event.data)?.is_some();
        let data = if is_whole { self.bytes(event.data).await? } else { self.text(event.data).await? };
        Ok(StreamEvent { data, ..event })
    }
}
