//! Tasks of other agents in PostgreSQL.

use async_trait::async_trait;
use threadyard_core::{
    agent_task_list::{AgentTasks, TaskPage, TaskQuery},
    agent_tasks::TaskId,
    ids::{RunId, ThreadId},
    page::Window,
    storage::Result,
};
use tokio_postgres::Row;

use super::{
    PostgresStorage,
    failures::Done,
    rows::{object, uuid},
    scans::scan,
    sql::Sql,
};

#[async_trait]
impl AgentTasks for PostgresStorage {
    async fn agent_tasks(&self, query: TaskQuery, window: Window) -> Result<TaskPage> {
        let mut sql = Sql::new(
            "SELECT run.id, run.thread_id, run.metadata, thread.metadata AS thread_metadata
             FROM run JOIN thread ON thread.k = run.thread",
        );
        // What may begin a task, as far as the index can tell.
        sql.with(
            "WHERE strpos(run.metadata, '\"a2a_message_id\":') > 0 AND run.assistant_id = ?",
            query.assistant_id.0,
        );
        if let Some(context) = query.context {
            sql.with("AND run.thread_id = ?", context.0);
        }
        sql.add("ORDER BY run.created_at DESC, run.k DESC");
        let mut page = TaskPage::default();
        scan(&mut self.client().await?, &sql, |row| {
            if query.takes(&object("run", row, "metadata")?, &object("run", row, "thread_metadata")?) {
                page.add(task(row)?, window);
            }
            Ok(false)
        })
        .await?;
        Ok(page)
    }
}

fn task(row: &Row) -> Done<TaskId> {
    Ok(TaskId { thread_id: ThreadId(uuid(row, "thread_id")?), run_id: RunId(uuid(row, "id")?) })
}
