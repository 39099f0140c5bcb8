//! The runtime of a server that executes nothing: it needs no Python, and says so when it is asked for a graph.

use std::time::Duration;

use async_trait::async_trait;
use threadyard_core::{
    access::{AccessError, Action, Credentials, Gate, User, Verdict},
    items::ToEmbed,
    json::{RawJson, RawObject},
    runtime::{GraphCall, GraphError, GraphInfo, GraphRuntime, RunJob, RunSession, RuntimeError},
    workers::Workers,
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
            language: graph.language(),
            description: graph.description.clone(),
            failure: Some(failure.clone()),
        };
        Self(project.graphs.iter().map(info).collect())
    }
}

/// Lets nobody in: the project's code decides about access, and this server runs none of it.
pub struct ShutGate;

#[async_trait]
impl Gate for ShutGate {
    fn reads_bodies(&self) -> bool {
        false
    }

    fn challenges(&self) -> &'static [&'static str] {
        &[]
    }

    async fn authenticate(&self, _: Credentials) -> Result<User, AccessError> {
        Err(AccessError::Unavailable(WHY.into()))
    }

    async fn authorize(&self, _: &User, _: Action, _: RawObject) -> Result<Verdict, AccessError> {
        Err(AccessError::Unavailable(WHY.into()))
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

    fn workers(&self) -> Workers {
        Workers::default()
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
