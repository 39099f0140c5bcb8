//! The Python of a project: its own virtual environment if it has LangGraph, else one that is made from its
//! dependencies and kept for the next time.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use sha2::{Digest, Sha256};

use super::LaunchError;
use crate::project::Project;

/// An interpreter that can run the project's graphs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// Its program.
    pub program: PathBuf,
    /// Folders of the project for the import path.
    pub imports: Vec<PathBuf>,
}

/// Looks for what the worker can't run without. Importing it would take as long as the start of the worker itself.
const NEEDED: &str = "from importlib.util import find_spec
assert all(map(find_spec, ['langgraph.graph', 'langgraph.checkpoint.base', 'orjson', 'ormsgpack']))";
/// How the lines of pip and uv begin that say how far they are.
const STEPS: [&str; 6] = ["Collecting ", "Building ", "Installing ", "Resolved ", "Prepared ", "Installed "];
/// How much of a failed command's output is shown.
const LAST_LINES: usize = 15;
/// Written last, so that a half-made environment is never taken for a whole one.
const MARKER: &str = "threadyard-complete";

/// Finds or makes the project's interpreter. `progress` hears one line for each long step.
pub fn prepare(project: &Project, cache: &Path, progress: &dyn Fn(&str)) -> Result<Interpreter, LaunchError> {
    let imports = folders(project);
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

/// The folders among the dependencies; the project's own is always one.
fn folders(project: &Project) -> Vec<PathBuf> {
    let named = project.dependencies.iter().map(|dependency| project.folder.join(dependency));
    let mut folders: Vec<_> = named.filter_map(|folder| folder.canonicalize().ok()).filter(|it| it.is_dir()).collect();
    for folder in folders.clone() {
        let sources = folder.join("src");
        if sources.is_dir() {
            folders.push(sources);
        }
    }
    folders.dedup();
    folders
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
    if uv {
        let install = ["pip", "install", "--no-progress", "--python"].map(OsStr::new);
        follow(Path::new("uv"), install.into_iter().chain([python.as_os_str()]).chain(requirements), progress)
    } else {
        let install = ["-m", "pip", "install", "--progress-bar=off", "--disable-pip-version-check"].map(OsStr::new);
        follow(&python, install.into_iter().chain(requirements), progress)
    }
}

/// Runs a long step and passes on the lines that say how far it is.
fn follow<'a>(
    program: &Path,
    arguments: impl IntoIterator<Item = &'a OsStr>,
    progress: &dyn Fn(&str),
) -> Result<(), LaunchError> {
    let mut command = command(program);
    command.args(arguments).stdin(Stdio::null());
    let failed = |source| LaunchError::Program { program: program.into(), source };
    let (lines, output) = std::io::pipe().map_err(failed)?;
    command.stdout(output.try_clone().map_err(failed)?).stderr(output);
    let mut process = command.spawn().map_err(failed)?;
    let shown = format!("{command:?}");
    // The command holds the other end of the pipe, which would never close.
    drop(command);
    let mut last = VecDeque::new();
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        if STEPS.iter().any(|step| line.starts_with(step)) {
            progress(&format!("  {line}"));
        }
        last.push_back(line);
        if last.len() > LAST_LINES {
            last.pop_front();
        }
    }
    if process.wait().map_err(failed)?.success() {
        return Ok(());
    }
    Err(LaunchError::Command { command: shown, output: last.make_contiguous().join("\n") })
}

fn run<'a>(program: &Path, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<(), LaunchError> {
    let mut command = command(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|source| LaunchError::Program { program: program.into(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let lines: Vec<_> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    Err(LaunchError::Command { command: format!("{command:?}"), output: last })
}

fn succeeds(program: &Path, arguments: &[&str]) -> bool {
    let mut command = command(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[expect(clippy::disallowed_methods, reason = "making environments is what this crate starts processes for")]
fn command(program: &Path) -> Command {
    Command::new(program)
}
