//! Threads.

use async_trait::async_trait;
use futures_util::future::try_join;
use threadyard_core::{
    ids::ThreadId,
    json::{RawObject, fields_of, raw, raw_null},
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    storage::{Result, StorageError},
    threads::{
        CopyThread, CreatedThread, DeletedThread, NewThread, SavedState, Thread, ThreadHead, ThreadOutcome,
        ThreadPatch, ThreadQuery, ThreadStorage, ThreadUpdate, ThreadValues, Threads, UpdatedThread,
    },
    time::Timestamp,
};

use super::{SealedStorage, opener::Opener, page, sealer::Sealer};

/// What a state has besides its values, which are kept beside it and need not be there twice.
const REST: &str = "rest";
const VALUES: &str = "values";

#[async_trait]
impl Threads for SealedStorage {
    async fn create_thread(&self, new: NewThread) -> Result<CreatedThread> {
        let metadata = self.sealer().metadata("thread", &new.metadata).await?;
        Ok(match self.inner.create_thread(NewThread { metadata, ..new }).await? {
            CreatedThread::New(thread) => CreatedThread::New(self.opener().thread(thread).await?),
            CreatedThread::Existing(thread) => CreatedThread::Existing(self.opener().thread(thread).await?),
        })
    }

    async fn thread(&self, id: ThreadId) -> Result<Option<Thread>> {
        self.opener().perhaps(self.inner.thread(id).await?).await
    }

    async fn thread_head(&self, id: ThreadId) -> Result<Option<ThreadHead>> {
        match self.inner.thread_head(id).await? {
            Some(head) => self.opener().head(head).await.map(Some),
            None => Ok(None),
        }
    }

    async fn search_threads(&self, query: ThreadQuery, window: Window) -> Result<Page<Thread>> {
        let opener = self.opener();
        page(self.inner.search_threads(query, window).await?, |found| opener.thread(found)).await
    }

    async fn count_threads(&self, query: ThreadQuery) -> Result<u64> {
        self.inner.count_threads(query).await
    }

    async fn patch_thread(&self, id: ThreadId, patch: ThreadPatch, now: Timestamp) -> Result<Option<Thread>> {
        let metadata = self.sealer().metadata("thread", &patch.metadata).await?;
        let patched = self.inner.patch_thread(id, ThreadPatch { metadata, ..patch }, now).await?;
        self.opener().perhaps(patched).await
    }

    async fn copy_thread(&self, copy: CopyThread) -> Result<Option<Thread>> {
        let metadata = self.sealer().metadata("thread", &copy.metadata).await?;
        let copied = self.inner.copy_thread(CopyThread { metadata, ..copy }).await?;
        self.opener().perhaps(copied).await
    }

    async fn thread_storage(&self, id: ThreadId) -> Result<Option<ThreadStorage>> {
        self.inner.thread_storage(id).await
    }

    async fn update_thread(
        &self,
        id: ThreadId,
        within: MetadataFilter,
        update: ThreadUpdate,
        now: Timestamp,
    ) -> Result<UpdatedThread> {
        let update = self.sealer().update(update).await?;
        self.inner.update_thread(id, within, update, now).await
    }

    async fn delete_thread(&self, id: ThreadId, within: MetadataFilter) -> Result<Option<DeletedThread>> {
        self.inner.delete_thread(id, within).await
    }
}

impl Sealer {
    /// What a run or a state update leaves. Its state is written so that the database finds the values in it again.
    pub(super) async fn update(&self, update: ThreadUpdate) -> Result<ThreadUpdate> {
        let values = match &update.values {
            Some(values) => Some(self.value(("thread", VALUES), values).await?),
            None => None,
        };
        let state = match update.state {
            Some(saved) => {
                let mut rest = fields_of(&saved.state)
                    .ok_or_else(|| StorageError::Bug("the state of a thread is no object".into()))?;
                let own = rest.shift_remove(VALUES);
                let own = match (own, &update.values, &values) {
                    (Some(own), Some(known), Some(sealed)) if own.get() == known.get() => Some(sealed.clone()),
                    (Some(own), ..) => Some(self.value(("thread", VALUES), &own).await?),
                    (None, ..) => None,
                };
                let mut state: RawObject = own.into_iter().map(|own| (VALUES.to_owned(), own)).collect();
                state.insert(REST.into(), self.json(("thread", "state"), &raw(&rest)).await?);
                Some(SavedState { state: raw(&state), ..saved })
            }
            None => None,
        };
        let interrupts = self.json(("thread", "interrupts"), &update.outcome.interrupts).await?;
        let error = match update.outcome.error {
            Some(error) => Some(self.json(("thread", "error"), &error).await?),
            None => None,
        };
        Ok(ThreadUpdate { values, state, outcome: ThreadOutcome { interrupts, error }, ..update })
    }
}

impl Opener {
    async fn perhaps(&self, thread: Option<Thread>) -> Result<Option<Thread>> {
        match thread {
            Some(thread) => self.thread(thread).await.map(Some),
            None => Ok(None),
        }
    }

    async fn thread(&self, thread: Thread) -> Result<Thread> {
        let values = async {
            Ok(match thread.values {
                ThreadValues::Known(values) => ThreadValues::Known(self.json(values).await?),
                unknown => unknown,
            })
        };
        let outcome = async {
            let Some(ThreadOutcome { interrupts, error }) = thread.outcome else { return Ok(None) };
            let error = match error {
                Some(error) => Some(self.json(error).await?),
                None => None,
            };
            Ok(Some(ThreadOutcome { interrupts: self.json(interrupts).await?, error }))
        };
        let documents = try_join(self.document(thread.metadata), self.document(thread.config));
        let ((metadata, config), (values, outcome)) = try_join(documents, try_join(values, outcome)).await?;
        Ok(Thread { metadata, config, values, outcome, ..thread })
    }

    async fn head(&self, head: ThreadHead) -> Result<ThreadHead> {
        let state = match head.state {
            Some(saved) => Some(self.state(saved).await?),
            None => None,
        };
        Ok(ThreadHead { metadata: self.document(head.metadata).await?, state, ..head })
    }

    async fn state(&self, saved: SavedState) -> Result<SavedState> {
        let Some(mut fields) = fields_of(&saved.state).filter(is_split) else {
            return Ok(saved);
        };
        let rest = fields.shift_remove(REST).unwrap_or_else(raw_null);
        let mut state = match fields.shift_remove(VALUES) {
            Some(values) => RawObject::from_iter([(VALUES.to_owned(), self.json(values).await?)]),
            None => RawObject::new(),
        };
        state.extend(fields_of(&self.json(rest).await?).unwrap_or_default());
        Ok(SavedState { state: raw(&state), ..saved })
    }
}

/// Whether a state was written here; others were before there were handlers.
fn is_split(state: &RawObject) -> bool {
    state.contains_key(REST) && state.keys().all(|key| [REST, VALUES].contains(&key.as_str()))
}
