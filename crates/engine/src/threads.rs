//! Threads: making, finding, changing and deleting them.

use threadyard_core::{
    bus::Topic,
    ids::{AssistantId, ThreadId},
    json::Object,
    page::{Page, Window},
    runtime::StopReason,
    threads::{CreatedThread, NewThread, Thread, ThreadQuery},
};

use crate::{Engine, Error, Result};

impl Engine {
    /// Makes a thread. `keep_existing` accepts that the id is taken and answers the thread that has it.
    pub async fn create_thread(&self, id: Option<ThreadId>, metadata: Object, keep_existing: bool) -> Result<Thread> {
        let thread_id = id.unwrap_or_else(|| ThreadId(self.ambient.ordered()));
        let new = NewThread { thread_id, metadata, now: self.ambient.now() };
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

    /// Lays metadata over the thread's own.
    pub async fn patch_thread(&self, id: ThreadId, metadata: Object) -> Result<Thread> {
        self.storage.patch_thread(id, metadata, self.ambient.now()).await?.ok_or(Error::NotFound("thread"))
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
        let running = self.storage.delete_thread(id).await?.ok_or(Error::NotFound("thread"))?;
        for run_id in running {
            self.running.stop(run_id, StopReason::Rollback);
        }
        self.bus.wake(Topic::Runs);
        Ok(())
    }
}
