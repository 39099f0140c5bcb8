//! The graphs of a run as a tree: what is known of each from the lifecycles that the run told.

use serde::{Deserialize, Serialize};
use threadyard_core::{
    access::Action,
    event_streaming::{EventName, Lifecycle},
    ids::{RunId, ThreadId},
    page::Window,
    runs::{Run, RunQuery, RunStatus},
    stream::StreamEvent,
};

use super::ordinary::standing;
use crate::{Engine, Error, Result};

/// A graph of a run, with those that it called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GraphTree {
    namespace: Vec<String>,
    status: Lifecycle,
    graph_name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<GraphTree>,
}

#[derive(Deserialize)]
struct Told {
    params: Params,
}

#[derive(Deserialize)]
struct Params {
    namespace: Vec<String>,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    event: Lifecycle,
    graph_name: Option<String>,
}

impl GraphTree {
    fn note(&mut self, Params { namespace, data }: Params) {
        let graph = self.graph(&namespace);
        graph.status = data.event;
        graph.graph_name = data.graph_name.unwrap_or_default();
    }

    fn graph(&mut self, namespace: &[String]) -> &mut Self {
        if self.namespace.len() >= namespace.len() {
            return self;
        }
        let known = self.children.iter().position(|child| namespace.starts_with(&child.namespace));
        let at = known.unwrap_or_else(|| {
            let (namespace, graph_name) = (namespace.to_vec(), String::new());
            self.children.push(Self { namespace, status: Lifecycle::Started, graph_name, children: Vec::new() });
            self.children.len() - 1
        });
        self.children[at].graph(namespace)
    }
}

impl Engine {
    /// The graphs of a run; without an id, of the one that goes on, or else the newest.
    pub async fn graph_tree(&self, thread_id: ThreadId, run_id: Option<RunId>) -> Result<GraphTree> {
        self.permit_on_thread(Action::ThreadsRead, thread_id).await?;
        let run = match run_id {
            Some(run_id) => self.storage.run(thread_id, run_id).await?,
            None => self.current_run(thread_id).await?,
        };
        let run = run.ok_or(Error::NotFound("run"))?;
        let thread = self.storage.thread(thread_id).await?;
        let (status, graph_name) = (standing(&run, thread.as_ref()), run.graph_id.clone());
        let mut tree = GraphTree { namespace: Vec::new(), status, graph_name, children: Vec::new() };
        if run.kwargs.event_streaming() {
            self.note_lifecycles(&run, &mut tree).await?;
        }
        Ok(tree)
    }

    async fn current_run(&self, thread_id: ThreadId) -> Result<Option<Run>> {
        for status in [Some(RunStatus::Running), None] {
            let query = RunQuery { thread_id, status };
            let found = self.storage.search_runs(query, Window { limit: 1, offset: 0 }).await?;
            if let Some(run) = found.rows.into_iter().next() {
                return Ok(Some(run));
            }
        }
        Ok(None)
    }

    async fn note_lifecycles(&self, run: &Run, tree: &mut GraphTree) -> Result<()> {
        let mut after = 0;
        loop {
            let page = self.storage.kept_events(run.run_id, after).await?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = *last;
            let is_lifecycle = |event: &&StreamEvent| EventName::of(&event.name).method == "lifecycle";
            for event in page.iter().map(|(_, event)| event).filter(is_lifecycle) {
                let told = serde_json::from_slice::<Told>(&event.data);
                let told =
                    told.map_err(|error| Error::Internal(format!("a kept lifecycle makes no sense: {error}")))?;
                tree.note(told.params);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn graphs_are_found_below_the_graphs_that_called_them() {
        let (status, graph_name) = (Lifecycle::Running, "agent".to_owned());
        let mut tree = GraphTree { namespace: Vec::new(), status, graph_name, children: Vec::new() };
        let told = [
            (json!([]), json!({ "event": "running", "graph_name": "agent" })),
            (json!(["a:1"]), json!({ "event": "started", "graph_name": "a", "namespace": ["a:1"] })),
            (json!(["a:1", "b:2"]), json!({ "event": "started", "graph_name": "b" })),
            (json!(["a:3"]), json!({ "event": "started", "graph_name": "a" })),
            (json!(["a:1", "b:2"]), json!({ "event": "failed", "graph_name": "b", "error": "x" })),
        ];
        for (namespace, data) in told {
            let told: Told =
                serde_json::from_value(json!({ "params": { "namespace": namespace, "data": data } })).unwrap();
            tree.note(told.params);
        }
        let inner = json!({ "namespace": ["a:1", "b:2"], "status": "failed", "graph_name": "b" });
        let first = json!({ "namespace": ["a:1"], "status": "started", "graph_name": "a", "children": [inner] });
        let second = json!({ "namespace": ["a:3"], "status": "started", "graph_name": "a" });
        let whole = json!({ "namespace": [], "status": "running", "graph_name": "agent", "children": [first, second] });
        assert_eq!(serde_json::to_value(&tree).unwrap(), whole);
    }
}
