//! Threads: making, finding, changing and deleting them.

use serde_json::json;
use threadyard_core::{
    access::Action,
    bus::{Closing, Topic},
    checkpoints::PruneStrategy,
    ids::{AssistantId, ThreadId},
    json::{Object, fields},
    metadata_filter::MetadataFilter,
    page::{Page, Window},
    retention::ThreadTtl,
    runtime::StopReason,
    threads::{CopyThread, CreatedThread, NewThread, Thread, ThreadPatch, ThreadQuery, ThreadStorage},
};

use crate::{Engine, Error, Result, access::thread_value};

/// A thread that somebody asks for.
#[derive(Clone, Debug, Default)]
pub struct ThreadRequest {
    /// Its id; one is made when nobody chose.
    pub thread_id: Option<ThreadId>,
    /// Free annotations.
    pub metadata: Object,
    /// How long it is kept; as the project says when the caller does not.
    pub ttl: Option<ThreadTtl>,
}

impl Engine {
    /// Makes a thread. `keep_existing` accepts that the id is taken and answers the thread that has it.
    pub async fn create_thread(&self, request: ThreadRequest, keep_existing: bool) -> Result<Thread> {
        let thread_id = request.thread_id.unwrap_or_else(|| ThreadId(self.ambient.ordered()));
        let ttl = request.ttl.or(self.settings.thread_ttl);
        let mut metadata = request.metadata;
        let if_exists = if keep_existing { "do_nothing" } else { "raise" };
        let asked = || fields(&json!({ "thread_id": thread_id, "metadata": metadata, "if_exists": if_exists }));
        let mut permit = self.permit(Action::ThreadsCreate, asked).await?;
        permit.edit("metadata", &mut metadata)?;
        let new = NewThread { thread_id, metadata, ttl, now: self.ambient.now() };
        match self.storage.create_thread(new).await? {
            CreatedThread::New(thread) => Ok(thread),
            CreatedThread::Existing(thread) if keep_existing && permit.filter.admits(&thread.metadata) => Ok(thread),
            CreatedThread::Existing(_) => Err(Error::Conflict(format!("thread `{thread_id}` already exists"))),
        }
    }

    /// The thread with this id.
    pub async fn thread(&self, id: ThreadId) -> Result<Thread> {
        let filter = self.permit(Action::ThreadsRead, || thread_value(id)).await?.filter;
        let found = self.storage.thread(id).await?;
        found.filter(|thread| filter.admits(&thread.metadata)).ok_or(Error::NotFound("thread"))
    }

    /// The threads that match.
    pub async fn search_threads(&self, mut query: ThreadQuery, window: Window) -> Result<Page<Thread>> {
        self.permit_search(&mut query, window).await?;
        Ok(self.storage.search_threads(query, window).await?)
    }

    /// How many threads match.
    pub async fn count_threads(&self, mut query: ThreadQuery) -> Result<u64> {
        self.permit_search(&mut query, Window { limit: 0, offset: 0 }).await?;
        Ok(self.storage.count_threads(query).await?)
    }

    /// Changes a thread's row.
    pub async fn patch_thread(&self, id: ThreadId, mut patch: ThreadPatch) -> Result<Thread> {
        let asked = || fields(&json!({ "thread_id": id, "metadata": patch.metadata }));
        let mut permit = self.permit(Action::ThreadsUpdate, asked).await?;
        permit.edit("metadata", &mut patch.metadata)?;
        patch.within = permit.filter;
        self.storage.patch_thread(id, patch, self.ambient.now()).await?.ok_or(Error::NotFound("thread"))
    }

    /// Makes a thread with the metadata and checkpoints of another, but without its runs.
    pub async fn copy_thread(&self, id: ThreadId) -> Result<Thread> {
        let copy = ThreadId(self.ambient.ordered());
        let within = self.permit(Action::ThreadsRead, || thread_value(id)).await?.filter;
        let mut permit = self.permit(Action::ThreadsCreate, || thread_value(copy)).await?;
        let mut metadata = Object::new();
        permit.edit("metadata", &mut metadata)?;
        let copy = CopyThread { source: id, within, target: copy, metadata, now: self.ambient.now() };
        let copied = self.storage.copy_thread(copy).await?;
        // Upstream: a conflict, not something that is not found.
        copied.ok_or_else(|| Error::Conflict(format!("thread `{id}` does not exist, so it can't be copied")))
    }

    /// What the checkpoints of a thread occupy.
    pub async fn thread_storage(&self, id: ThreadId) -> Result<ThreadStorage> {
        self.permit_on_thread(Action::ThreadsRead, id).await?;
        self.storage.thread_storage(id).await?.ok_or(Error::NotFound("thread"))
    }

    /// Deletes threads, or all but their newest checkpoints. Unknown threads are passed over; says how many there were.
    pub async fn prune_threads(&self, ids: Vec<ThreadId>, strategy: PruneStrategy) -> Result<u64> {
        let filter = self.permit(Action::ThreadsDelete, || fields(&json!({ "thread_ids": ids }))).await?.filter;
        let mut pruned = 0;
        for id in ids {
            let done = match strategy {
                PruneStrategy::Delete => self.delete_one_of(id, filter.clone()).await,
                PruneStrategy::KeepLatest => match self.storage.thread(id).await? {
                    Some(thread) if filter.admits(&thread.metadata) => {
                        Ok(self.storage.prune_checkpoints(vec![id.to_string()], strategy).await?)
                    }
                    _ => Err(Error::NotFound("thread")),
                },
            };
            match done {
                Ok(()) => pruned += 1,
                Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pruned)
    }

    /// Deletes the threads that this assistant worked on last.
    pub(crate) async fn delete_threads_of(&self, assistant: AssistantId) -> Result<()> {
        let metadata = Object::from_iter([("assistant_id".to_owned(), assistant.to_string().into())]);
        let asked = || fields(&json!({ "assistant_id": assistant }));
        let filter = self.permit(Action::ThreadsDelete, asked).await?.filter;
        let query = ThreadQuery { metadata, visible: filter.clone(), ..ThreadQuery::default() };
        loop {
            let found = self.storage.search_threads(query.clone(), Window { limit: 1000, offset: 0 }).await?;
            if found.rows.is_empty() {
                return Ok(());
            }
            for thread in found.rows {
                match self.delete_one_of(thread.thread_id, filter.clone()).await {
                    Ok(()) | Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Deletes a thread with all it holds; a run that goes on there is stopped.
    pub async fn delete_thread(&self, id: ThreadId) -> Result<()> {
        let filter = self.permit(Action::ThreadsDelete, || thread_value(id)).await?.filter;
        self.delete_one_of(id, filter).await
    }

    /// Narrows a search down to what the caller may see.
    pub(crate) async fn permit_search(&self, query: &mut ThreadQuery, window: Window) -> Result<()> {
        let asked = || {
            fields(&json!({
                "metadata": query.metadata, "values": query.values, "status": query.status, "ids": query.ids,
                "limit": window.limit, "offset": window.offset,
            }))
        };
        let mut permit = self.permit(Action::ThreadsSearch, asked).await?;
        permit.edit("metadata", &mut query.metadata)?;
        permit.edit("values", &mut query.values)?;
        query.visible = permit.filter.narrowing(&mut query.metadata);
        Ok(())
    }

    async fn delete_one_of(&self, id: ThreadId, within: MetadataFilter) -> Result<()> {
        let open = self.storage.delete_thread(id, within).await?.ok_or(Error::NotFound("thread"))?;
        for run_id in open.running {
            self.tell_to_stop(run_id, StopReason::Rollback);
        }
        for run_id in open.pending {
            self.bus.close(run_id, Closing::default());
        }
        self.wake(Topic::Runs);
        Ok(())
    }
}
