//! Tasks that other agents ask for (A2A): each is a run, and the runs that went on with it.

use threadyard_core::{
    agent_task_list::{TaskPage, TaskQuery},
    agent_tasks::{CANCELED, Interrupt, Left, Task, TaskId, interrupts_of, values},
    cancel::CancelAction,
    ids::{AssistantId, RunId, ThreadId},
    json::{Object, Value, raw_null},
    page::Window,
    runs::{Run, RunError, RunQuery, RunStatus},
    threads::{Thread, ThreadPatch, ThreadQuery, ThreadStatus},
};

use crate::{CheckpointRef, Engine, Error, HistoryQuery, Result};

/// So many runs are read at once.
const READ: u32 = 100;

/// The runs of a task, and what else its thread does.
struct Found {
    first: Run,
    /// The newest of them.
    last: Run,
    /// Whether the thread has a run that is newer still.
    passed: bool,
}

/// A task that was found.
pub struct FoundTask {
    /// The task.
    pub task: Task,
    /// The newest of its runs.
    pub run: Run,
}

impl Engine {
    /// The task with this id, if it is this assistant's.
    pub async fn agent_task(&self, assistant: AssistantId, id: TaskId) -> Result<FoundTask> {
        let found = self.runs_of_task(id).await?;
        if found.first.assistant_id != assistant {
            return Err(Error::NotFound("task"));
        }
        self.task_of(found).await
    }

    /// The tasks of an assistant, the newest first: all, or those of one context.
    pub async fn agent_tasks(
        &self,
        assistant_id: AssistantId,
        context: Option<ThreadId>,
        window: Window,
    ) -> Result<TaskPage> {
        let mut threads = ThreadQuery::default();
        match context {
            None => self.permit_search(&mut threads, window).await?,
            Some(thread) => match self.thread(thread).await {
                Err(Error::NotFound(_)) => return Ok(TaskPage::default()),
                found => drop(found?),
            },
        }
        if !threads.values.is_empty() {
            return Err(Error::Unsupported(
                "listing tasks for a caller who may see threads with certain values".into(),
            ));
        }
        let ThreadQuery { metadata, visible, .. } = threads;
        Ok(self.storage.agent_tasks(TaskQuery { assistant_id, context, metadata, visible }, window).await?)
    }

    /// Stops a task: its run, or the wait for an answer.
    pub async fn cancel_agent_task(&self, assistant: AssistantId, id: TaskId) -> Result<Task> {
        let FoundTask { task, run } = self.agent_task(assistant, id).await?;
        let over = || Error::Conflict("Task is not cancelable in its current state".into());
        if task.state.is_terminal() {
            return Err(over());
        }
        if run.status.is_terminal() {
            let metadata = Object::from_iter([(CANCELED.to_owned(), id.run_id.to_string().into())]);
            self.patch_thread(id.thread_id, ThreadPatch { metadata, ..ThreadPatch::default() }).await?;
            return Ok(task.canceled());
        }
        match self.cancel_run(id.thread_id, run.run_id, CancelAction::Interrupt, true).await {
            Ok(()) => Ok(self.agent_task(assistant, id).await?.task),
            Err(Error::NotFound(_)) => Err(over()),
            Err(error) => Err(error),
        }
    }

    async fn runs_of_task(&self, id: TaskId) -> Result<Found> {
        let first = self.run(id.thread_id, id.run_id).await.map_err(|error| match error {
            Error::NotFound(_) => Error::NotFound("task"),
            other => other,
        })?;
        // Newest first, until the one that began it.
        let newer = self.runs_of_thread(id.thread_id, Some(id.run_id)).await?;
        let last = newer.iter().position(|run| TaskId::of(run) == id);
        let passed = last.map_or(!newer.is_empty(), |place| place > 0);
        let last = last.map_or_else(|| first.clone(), |place| newer[place].clone());
        Ok(Found { first, last, passed })
    }

    /// The runs of a thread, the newest first, as far as those that are newer than `until`.
    async fn runs_of_thread(&self, thread_id: ThreadId, until: Option<RunId>) -> Result<Vec<Run>> {
        let (mut runs, mut offset) = (Vec::new(), 0);
        loop {
            let page = self.list_runs(RunQuery { thread_id, status: None }, Window { limit: READ, offset }).await?;
            offset += READ;
            for run in page.rows {
                if Some(run.run_id) == until {
                    return Ok(runs);
                }
                runs.push(run);
            }
            if !page.more {
                return Ok(runs);
            }
        }
    }

    async fn task_of(&self, found: Found) -> Result<FoundTask> {
        let Found { first, last, passed } = found;
        if !last.status.is_terminal() {
            return Ok(FoundTask { task: Task { at: last.updated_at, ..opened(&first, &last) }, run: last });
        }
        let thread = self.thread(last.thread_id).await?;
        let given_up = thread.metadata.get(CANCELED).and_then(Value::as_str) == Some(&first.run_id.to_string());
        let left = if passed { self.left_then(&last).await? } else { left_now(thread) };
        let error = last.error.as_ref().and_then(|error| serde_json::from_str::<RunError>(error.get()).ok());
        let task = Task::ended(&last, last.status, Left { error, ..left });
        // What its thread went on without can't be answered any more.
        let waits = last.status == RunStatus::Success && !task.state.is_terminal();
        let task = if waits && (given_up || passed) { task.canceled() } else { task };
        Ok(FoundTask { task, run: last })
    }

    /// What a run left on its thread, which other runs have changed since.
    async fn left_then(&self, run: &Run) -> Result<Left> {
        #[derive(Default, serde::Deserialize)]
        struct State {
            #[serde(default)]
            values: Value,
            #[serde(default)]
            next: Vec<String>,
            #[serde(default)]
            interrupts: Vec<Interrupt>,
        }
        let metadata = Object::from_iter([("run_id".to_owned(), run.run_id.to_string().into())]);
        let query =
            HistoryQuery { limit: 1, before: None, metadata: Some(metadata), checkpoint: CheckpointRef::default() };
        let states = self.thread_history(run.thread_id, &query).await?;
        let states: Vec<State> = serde_json::from_str(states.get()).unwrap_or_default();
        let State { values, next, interrupts } = states.into_iter().next().unwrap_or_default();
        Ok(Left { values, interrupts, waits: !next.is_empty(), error: None })
    }
}

/// A task that goes on: what it was asked is in the run that began it.
fn opened(first: &Run, last: &Run) -> Task {
    let mut run = first.clone();
    run.status = last.status;
    Task::open(&run)
}

fn left_now(thread: Thread) -> Left {
    let waits = thread.status == ThreadStatus::Interrupted;
    let interrupts = thread.outcome.map(|outcome| interrupts_of(&outcome.interrupts)).unwrap_or_default();
    let known = thread.values.known().unwrap_or_else(raw_null);
    Left { values: values(&known), interrupts, waits, error: None }
}
