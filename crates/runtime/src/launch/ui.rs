//! What bundles the project's components: its own `@langchain/langgraph-ui` if it has one, else one that is installed into
//! the cache and kept for the next time. It needs Node, and neither graphs in TypeScript nor their packages.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::{
    LaunchError,
    node::{self, Kept},
    process,
};
use crate::project::{Project, UiOptions};

/// What is installed where the project has no bundler of its own.
const LANGGRAPH_UI: Kept =
    Kept { package: "@langchain/langgraph-ui", version: "1.5.1", purpose: "bundles what `ui` names" };

/// What bundles components.
#[derive(Clone, Debug)]
pub(crate) struct Bundler {
    /// Node.
    pub(crate) program: PathBuf,
    /// The folder of the package that bundles.
    pub(crate) package: PathBuf,
}

impl Bundler {
    /// A process that runs a script for the bundler, with one argument.
    pub(crate) fn command(
        &self,
        script: &Path,
        argument: &str,
        folder: &Path,
        env: &BTreeMap<String, String>,
    ) -> Command {
        let mut command = process(&self.program, folder, env);
        command.arg(script).arg(argument);
        command
    }
}

/// Finds Node and makes components bundleable. `progress` hears one line for each long step.
pub(super) fn prepare(
    project: &Project,
    ui: &UiOptions,
    cache: &Path,
    progress: &dyn Fn(&str),
) -> Result<Bundler, LaunchError> {
    let (program, _) = node::found(project)?;
    let files = ui.bundles.values().filter_map(|file| project.folder.join(file).parent().map(Path::to_owned));
    let mut folders = [project.folder.clone()].into_iter().chain(files);
    let package = match folders.find_map(|folder| node::installed(LANGGRAPH_UI.package, &folder)) {
        Some(own) => own,
        None => node::kept(LANGGRAPH_UI, cache, progress)
            .map_err(|why| LaunchError::NoBundler { folder: project.folder.clone(), why: Box::new(why) })?,
    };
    Ok(Bundler { program, package })
}
