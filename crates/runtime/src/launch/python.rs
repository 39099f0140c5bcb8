//! The Python of a project: its own virtual environment if it has LangGraph, else one that is made from its
//! dependencies and kept for the next time.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use super::{
    LaunchError,
    commands::{follow, run, succeeds},
};
use crate::project::Project;

/// An interpreter that can run the project's graphs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// Its program.
    pub(crate) program: PathBuf,
    /// Folders of the project for the import path.
    pub(crate) imports: Vec<PathBuf>,
}

/// Looks for what the worker can't run without. Importing it would take as long as the start of the worker itself.
const NEEDED: &str = "from importlib.util import find_spec
assert all(map(find_spec, ['langgraph.graph', 'langgraph.checkpoint.base', 'orjson', 'ormsgpack']))";
/// How the lines of pip and uv begin that say how far they are.
const STEPS: [&str; 6] = ["Collecting ", "Building ", "Installing ", "Resolved ", "Prepared ", "Installed "];
/// Written last, so that a half-made environment is never taken for a whole one.
const MARKER: &str = "threadyard-complete";

/// Finds or makes the project's interpreter. `progress` hears one line for each long step.
pub(super) fn prepare(project: &Project, cache: &Path, progress: &dyn Fn(&str)) -> Result<Interpreter, LaunchError> {
    let imports = project.folders();
    for own in own_environments(project) {
        let program = own.join("bin/python");
        if program.is_file() && succeeds(&program, &["-c", NEEDED]) {
            progress(&format!("using the Python environment {}", own.display()));
            return Ok(Interpreter { program, imports });
        }
    }
    let requirements = requirements(project);
    let folder = cache.join("envs").join(key(&requirements));
    let failed = |source| LaunchError::Cache { folder: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    // Two servers that start at once make it once.
    let lock = File::create(folder.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let program = folder.join("venv/bin/python");
    if !folder.join(MARKER).is_file() {
        make(&folder, &requirements, progress)?;
        std::fs::write(folder.join(MARKER), requirements.join("\n")).map_err(failed)?;
    }
    Ok(Interpreter { program, imports })
}

fn own_environments(project: &Project) -> Vec<PathBuf> {
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    active.into_iter().chain([project.folder.join(".venv")]).collect()
}

/// What pip is to install.
fn requirements(project: &Project) -> Vec<String> {
    let mut requirements = vec!["langgraph>=1.0".to_owned()];
    if cfg!(unix) {
        requirements.push("uvloop".into());
    }
    for dependency in &project.dependencies {
        if !dependency.starts_with('.') && !dependency.starts_with('/') {
            requirements.push(dependency.clone());
            continue;
        }
        let folder = project.folder.join(dependency);
        if folder.join("requirements.txt").is_file() {
            requirements.push(format!("--requirement={}", folder.join("requirements.txt").display()));
        }
        if folder.join("pyproject.toml").is_file() || folder.join("setup.py").is_file() {
            requirements.push(format!("--editable={}", folder.display()));
        }
    }
    requirements
}

/// Names an environment by what is in it.
fn key(requirements: &[String]) -> String {
    let mut digest = Sha256::new();
    for requirement in requirements {
        digest.update(requirement.as_bytes());
        digest.update([0]);
        let local = ["--requirement=", "--editable="].iter().find_map(|option| requirement.strip_prefix(option));
        let Some(path) = local else { continue };
        for file in [PathBuf::from(path), Path::new(path).join("pyproject.toml"), Path::new(path).join("setup.py")] {
            digest.update(std::fs::read(file).unwrap_or_default());
        }
    }
    crate::embedded::hex(&digest.finalize())
}

fn make(folder: &Path, requirements: &[String], progress: &dyn Fn(&str)) -> Result<(), LaunchError> {
    let venv = folder.join("venv");
    let python = venv.join("bin/python");
    let uv = succeeds(Path::new("uv"), &["--version"]);
    progress("making a Python environment for the project (once; kept for the next start)");
    if uv {
        let create = ["venv", "--clear", "--python", ">=3.11"].map(OsStr::new);
        run(Path::new("uv"), create.into_iter().chain([venv.as_os_str()]))?;
    } else {
        let recent = "import sys; sys.exit(sys.version_info < (3, 11))";
        if succeeds(Path::new("python3"), &["--version"]) && !succeeds(Path::new("python3"), &["-c", recent]) {
            return Err(LaunchError::OldPython);
        }
        run(Path::new("python3"), [OsStr::new("-m"), OsStr::new("venv"), OsStr::new("--clear"), venv.as_os_str()])?;
    }
    progress(&format!("installing {} (this can take a minute)", requirements.join(", ")));
    let requirements = requirements.iter().map(OsStr::new);
    let is_step = |line: &str| STEPS.iter().any(|step| line.starts_with(step));
    if uv {
        let install = ["pip", "install", "--no-progress", "--python"].map(OsStr::new);
        follow(Path::new("uv"), install.into_iter().chain([python.as_os_str()]).chain(requirements), is_step, progress)
    } else {
        let install = ["-m", "pip", "install", "--progress-bar=off", "--disable-pip-version-check"].map(OsStr::new);
        follow(&python, install.into_iter().chain(requirements), is_step, progress)
    }
}
