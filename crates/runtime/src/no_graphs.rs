//! The runtime of a server that executes nothing: it needs no Python, and says so when it is asked for a graph.

use std::time::Duration;

use async_trait::async_trait;
use threadyard_core::{
    items::ToEmbed,
    json::RawJson,
    runtime::{GraphCall, GraphError, GraphInfo, GraphRuntime, RunJob, RunSession, RuntimeError},
};

use crate::Project;

const WHY: &str = "this server executes no graphs; ask one with the role `all`, `api` or `worker`";

/// Knows the graphs of a project by name.
pub struct NoGraphs(Vec<GraphInfo>);

impl NoGraphs {
    /// The graphs of this project, none of which can be used here.
    pub fn of(project: &Project) -> Self {
        let failure = GraphError { error: "NoGraphsHere".into(), message: WHY.into(), traceback: None };
        let info = |graph: &crate::project::Graph| GraphInfo {
            id: graph.id.clone(),
            description: graph.description.clone(),
            failure: Some(failure.clone()),
        };
        Self(project.graphs.iter().map(info).collect())
    }
}

#[async_trait]
impl GraphRuntime for NoGraphs {
    fn graphs(&self) -> Vec<GraphInfo> {
        self.0.clone()
    }

    fn revision(&self) -> String {
        String::new()
    }

    fn slots(&self) -> u32 {
        0
    }

    async fn start(&self, _: RunJob) -> Result<Box<dyn RunSession>, RuntimeError> {
        Err(RuntimeError::Unavailable(WHY.into()))
    }

    async fn call(&self, _: GraphCall) -> Result<RawJson, RuntimeError> {
        Err(RuntimeError::Unavailable(WHY.into()))
    }

    async fn embed(&self, _: ToEmbed) -> Result<Vec<Vec<f32>>, RuntimeError> {
        Err(RuntimeError::Unavailable(WHY.into()))
    }

    async fn shutdown(&self, _: Duration) {}
}
