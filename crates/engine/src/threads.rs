//! Threads: making, finding, changing and deleting them.

use threadyard_core::{
    bus::{Closing, Topic},
    checkpoints::PruneStrategy,
    ids::{AssistantId, ThreadId},
    json::Object,
    page::{Page, Window},
    retention::ThreadTtl,
    runtime::StopReason,
    threads::{CreatedThread, NewThread, Thread, ThreadPatch, ThreadQuery, ThreadStorage},
};

use crate::{Engine, Error, Result};

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
        let new = NewThread { thread_id, metadata: request.metadata, ttl, now: self.ambient.now() };
        match self.storage.create_thread(new).await? {
            CreatedThread::New(thread) => Ok(thread),
            CreatedThread::Existing(thread) if keep_existing => Ok(thread),
            CreatedThread::Existing(_) => Err(Error::Conflict(format!("thread `{thread_id}` already exists"))),
        }
    }

    /// The thread with this id.
    pub async fn thread(&self, id: ThreadId) -> Result<Thread> {
        self.storage.thread(id).await?.ok_or(Error::NotFound("thread"))
    }

    /// The threads that match.
    pub async fn search_threads(&self, query: ThreadQuery, window: Window) -> Result<Page<Thread>> {
        Ok(self.storage.search_threads(query, window).await?)
    }

    /// How many threads match.
    pub async fn count_threads(&self, query: ThreadQuery) -> Result<u64> {
        Ok(self.storage.count_threads(query).await?)
    }

    /// Changes a thread's row.
    pub async fn patch_thread(&self, id: ThreadId, patch: ThreadPatch) -> Result<Thread> {
        self.storage.patch_thread(id, patch, self.ambient.now()).await?.ok_or(Error::NotFound("thread"))
    }

    /// Makes a thread with the metadata and checkpoints of another, but without its runs.
    pub async fn copy_thread(&self, id: ThreadId) -> Result<Thread> {
        let copy = ThreadId(self.ambient.ordered());
        let copied = self.storage.copy_thread(id, copy, self.ambient.now()).await?;
        // Upstream: a conflict, not something that is not found.
        copied.ok_or_else(|| Error::Conflict(format!("thread `{id}` does not exist, so it can't be copied")))
    }

    /// What the checkpoints of a thread occupy.
    pub async fn thread_storage(&self, id: ThreadId) -> Result<ThreadStorage> {
        self.storage.thread_storage(id).await?.ok_or(Error::NotFound("thread"))
    }

    /// Deletes threads, or all but their newest checkpoints. Unknown threads are passed over; says how many there were.
    pub async fn prune_threads(&self, ids: Vec<ThreadId>, strategy: PruneStrategy) -> Result<u64> {
        let mut pruned = 0;
        for id in ids {
            let done = match strategy {
                PruneStrategy::Delete => self.delete_thread(id).await,
                PruneStrategy::KeepLatest => match self.thread(id).await {
                    Ok(_) => Ok(self.storage.prune_checkpoints(vec![id.to_string()], strategy).await?),
                    Err(error) => Err(error),
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
        let query = ThreadQuery { metadata, ..ThreadQuery::default() };
        loop {
            let found = self.search_threads(query.clone(), Window { limit: 1000, offset: 0 }).await?;
            if found.rows.is_empty() {
                return Ok(());
            }
            for thread in found.rows {
                match self.delete_thread(thread.thread_id).await {
                    Ok(()) | Err(Error::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
    }

    /// Deletes a thread with all it holds; a run that goes on there is stopped.
    pub async fn delete_thread(&self, id: ThreadId) -> Result<()> {
        let open = self.storage.delete_thread(id).await?.ok_or(Error::NotFound("thread"))?;
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
