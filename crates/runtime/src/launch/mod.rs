//! What runs the code of a project, language by language, and how it is found or made.

mod commands;
pub(crate) mod node;
mod packages;
pub(crate) mod python;
pub(crate) mod ui;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use threadyard_core::runtime::Language;
use tokio::process::Command;

pub use self::packages::install_packages;
use crate::project::Project;

/// What runs the code of a project: only what its languages need.
#[derive(Clone, Debug, Default)]
pub struct Interpreters {
    /// Runs Python.
    pub(crate) python: Option<python::Interpreter>,
    /// Runs TypeScript and JavaScript.
    pub(crate) node: Option<node::Node>,
    /// Bundles components.
    pub(crate) bundler: Option<ui::Bundler>,
}

/// Finds or makes what the project's languages need. `progress` hears one line for each long step.
pub fn prepare(project: &Project, cache: &Path, progress: &dyn Fn(&str)) -> Result<Interpreters, LaunchError> {
    let mut interpreters = Interpreters::default();
    for language in project.languages() {
        match language {
            Language::Python => interpreters.python = Some(python::prepare(project, cache, progress)?),
            Language::Node => interpreters.node = Some(node::prepare(project, cache, progress)?),
        }
    }
    if let Some(ui) = &project.ui {
        interpreters.bundler = Some(ui::prepare(project, ui, cache, progress)?);
    }
    Ok(interpreters)
}

/// What the server proves itself with, or encrypts what it stores with.
const SECRETS: [&str; 4] =
    ["LANGGRAPH_AES_FALLBACK_KEYS", "LANGGRAPH_AES_KEY", "LG_WEBHOOK_SIGNING_SECRET", "THREADYARD_OPERATOR_TOKEN"];

/// What every process of a project is started with.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) program: Program,
    /// The folder of the worker package.
    pub(crate) package: PathBuf,
    /// The project's folder, where its code runs.
    pub(crate) folder: PathBuf,
    /// Variables beyond the server's own.
    pub(crate) env: BTreeMap<String, String>,
}

/// What runs a worker.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    Python(python::Interpreter),
    Node(node::Node),
}

impl Launch {
    /// A worker that is started by itself.
    pub(crate) fn worker(&self) -> Command {
        match &self.program {
            Program::Python(_) => self.module("threadyard_worker"),
            Program::Node(node) => {
                let mut command = self.command(&node.program);
                command
                    .args(node.options())
                    .arg(self.package.join("main.mjs"))
                    .env("THREADYARD_TSX", node.tsx_manifest());
                command.envs(node.tsconfig.iter().map(|tsconfig| (node::TSCONFIG_PATH, tsconfig)));
                command
            }
        }
    }

    /// The process that forks workers; only Python has one.
    pub(crate) fn zygote(&self) -> Option<Command> {
        matches!(self.program, Program::Python(_)).then(|| self.module("threadyard_worker.zygote"))
    }

    /// A Python process that runs a module of the worker package.
    fn module(&self, module: &str) -> Command {
        let Program::Python(interpreter) = &self.program else { unreachable!("only Python has modules") };
        let mut command = self.command(&interpreter.program);
        command.args(["-m", module]).env("PYTHONPATH", &self.package).env("PYTHONUNBUFFERED", "1");
        command
    }

    fn command(&self, program: &Path) -> Command {
        process(program, &self.folder, &self.env)
    }
}

/// A process that runs code of the project.
#[expect(clippy::disallowed_methods, reason = "workers are what this crate starts processes for")]
fn process(program: &Path, folder: &Path, env: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).envs(env);
    // They are not for the project's code.
    for secret in SECRETS {
        command.env_remove(secret);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // A Ctrl-C in the terminal is for the server, which then drains its workers.
    command.process_group(0);
    command
}

/// Why no interpreter could be had.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A command of the set-up failed.
    #[error("`{command}` failed:\n{output}")]
    Command {
        /// The command.
        command: String,
        /// Its last lines.
        output: String,
    },
    /// A program is not installed.
    #[error("`{program}` could not be started: {source}; install {wanted}")]
    Program {
        /// The program.
        program: PathBuf,
        /// What to install.
        wanted: &'static str,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The interpreter is too old for the worker.
    #[error("`python3` is older than 3.11; install Python 3.11 or newer")]
    OldPython,
    /// Node is too old for the worker, or for what the project asks for.
    #[error("`node` is version {found}; install Node {wanted} or newer{}", if *.asked { ", as `node_version` asks for" } else { "" })]
    OldNode {
        /// What is installed.
        found: String,
        /// What is needed.
        wanted: u32,
        /// Whether the project asks for it.
        asked: bool,
    },
    /// The packages of a JavaScript project are not installed.
    #[error("`@langchain/langgraph` is not installed for {folder}; run `{command}` there")]
    NoLangGraph {
        /// The project's folder.
        folder: PathBuf,
        /// The command of its package manager.
        command: &'static str,
    },
    /// TypeScript could not be made loadable.
    #[error(
        "`tsx`, which loads TypeScript, could not be installed; run `npm install --save-dev tsx` in {folder}: {why}"
    )]
    NoTsx {
        /// The project's folder.
        folder: PathBuf,
        /// What the package manager says.
        why: Box<LaunchError>,
    },
    /// What bundles components could not be had.
    #[error(
        "`@langchain/langgraph-ui`, which bundles what `ui` names, could not be installed; \
         run `npm install --save-dev @langchain/langgraph-ui` in {folder}: {why}"
    )]
    NoBundler {
        /// The project's folder.
        folder: PathBuf,
        /// What the package manager says.
        why: Box<LaunchError>,
    },
    /// A folder of the cache can't be used.
    #[error("the cache folder `{folder}` can't be used: {source}")]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
}

impl LaunchError {
    fn program(program: &Path, source: std::io::Error) -> Self {
        let is_node = ["node", "npm"].iter().any(|name| program.ends_with(name));
        let wanted = if is_node { "Node 20 or newer" } else { "Python 3.11 or newer" };
        Self::Program { program: program.into(), wanted, source }
    }
}
