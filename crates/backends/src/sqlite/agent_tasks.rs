//! Tasks of other agents in SQLite.

use async_trait::async_trait;
use rusqlite::{Row, params};
use threadyard_core::{
    agent_task_list::{AgentTasks, TaskPage, TaskQuery},
    agent_tasks::TaskId,
    ids::{RunId, ThreadId},
    page::Window,
    storage::Result,
};

use super::{
    Done, SqliteStorage,
    rows::{key, object, uuid},
};

/// What may begin a task, as far as the index can tell.
pub(super) const LISTED: &str = "SELECT run.id, run.thread_id, run.metadata, thread.metadata AS thread_metadata
    FROM run JOIN thread ON thread.k = run.thread
    WHERE run.assistant_id = ?1 AND instr(run.metadata, '\"a2a_message_id\":') > 0
        AND (?2 IS NULL OR run.thread_id = ?2)
    ORDER BY run.created_at DESC, run.k DESC";

#[async_trait]
impl AgentTasks for SqliteStorage {
    async fn agent_tasks(&self, query: TaskQuery, window: Window) -> Result<TaskPage> {
        self.readers
            .read(move |connection| {
                let mut statement = connection.prepare_cached(LISTED)?;
                let mut rows = statement.query(params![key(query.assistant_id), query.context.map(key)])?;
                let mut page = TaskPage::default();
                while let Some(row) = rows.next()? {
                    if query.takes(&object("run", row, "metadata")?, &object("run", row, "thread_metadata")?) {
                        page.add(task(row)?, window);
                    }
                }
                Ok(page)
            })
            .await
    }
}

fn task(row: &Row<'_>) -> Done<TaskId> {
    Ok(TaskId { thread_id: ThreadId(uuid(row, "thread_id")?), run_id: RunId(uuid(row, "id")?) })
}
