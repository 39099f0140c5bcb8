//! The Node of a project, and the loader of TypeScript: the project's own if it has one, else one that is installed into
//! the cache and kept for the next time.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
};

use threadyard_core::runtime::Language;

use super::{
    LaunchError,
    commands::{follow, run},
};
use crate::{environment, project::Project};

/// What runs the project's TypeScript and JavaScript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its program.
    pub(crate) program: PathBuf,
    /// The folder of the package `tsx`.
    pub(crate) tsx: PathBuf,
    /// The `tsconfig.json` of the code, where the project's folder has none.
    pub(crate) tsconfig: Option<PathBuf>,
    /// How many MiB the objects of workers may take, unless `NODE_OPTIONS` says so.
    pub(crate) memory_mib: Option<u64>,
}

/// The oldest version of Node that the worker runs on.
const OLDEST: u32 = 20;
/// What is installed where the project has no loader of its own.
const TSX: Kept = Kept { package: "tsx", version: "4.23.15", purpose: "loads TypeScript" };
/// How the lines of npm begin that say how far it is.
const STEPS: [&str; 1] = ["added "];
/// The commands that install a project's packages, by the file that tells who does.
const INSTALLERS: [(&str, &str); 5] = [
    (".pnp.cjs", "yarn config set nodeLinker node-modules && yarn install"),
    ("pnpm-lock.yaml", "pnpm install"),
    ("yarn.lock", "yarn install"),
    ("bun.lock", "bun install"),
    ("package-lock.json", "npm ci"),
];
/// Written last, so that half of an installation is never taken for a whole one.
const MARKER: &str = "threadyard-complete";
/// What part of the machine's memory all workers of a server may fill, which leaves room for everything else.
const SHARE: u64 = 2;
const MEMORY_OPTION: &str = "--max-old-space-size";
const TSCONFIG: &str = "tsconfig.json";
/// The variable that tells the loader of one that it would not find by itself.
pub(crate) const TSCONFIG_PATH: &str = "TSX_TSCONFIG_PATH";

/// A package that is kept in the cache for projects that have none of their own.
#[derive(Clone, Copy)]
pub(super) struct Kept {
    pub(super) package: &'static str,
    pub(super) version: &'static str,
    /// What it does.
    pub(super) purpose: &'static str,
}

impl Node {
    /// The options of a worker's process.
    pub(crate) fn options(&self) -> Vec<String> {
        self.memory_mib.map(|mib| format!("{MEMORY_OPTION}={mib}")).into_iter().collect()
    }

    /// A file from which `tsx` can be required.
    pub(crate) fn tsx_manifest(&self) -> PathBuf {
        self.tsx.join("package.json")
    }

    /// Shares the memory among workers. What Node takes by itself would be the same for one and for many.
    pub(crate) fn among(mut self, workers: u32) -> Self {
        self.memory_mib = self.memory_mib.map(|mib| (mib / u64::from(workers.max(1))).clamp(256, 4096));
        self
    }
}

/// Finds Node and makes TypeScript loadable. `progress` hears one line for each long step.
pub(super) fn prepare(project: &Project, cache: &Path, progress: &dyn Fn(&str)) -> Result<Node, LaunchError> {
    let (program, version) = found(project)?;
    let folders = folders(project);
    // One graph without it leaves the others alone.
    if let Some(folder) = folders.first()
        && !folders.iter().any(|folder| installed("@langchain/langgraph", folder).is_some())
    {
        return Err(LaunchError::NoLangGraph { folder: folder.clone(), command: installer(folder) });
    }
    let loader = |folder: &PathBuf| installed("tsx", folder).filter(|tsx| tsx.join("dist/esm/api").is_dir());
    let tsx = match [&project.folder].into_iter().chain(&folders).find_map(loader) {
        Some(own) => own,
        None => kept(TSX, cache, progress)
            .map_err(|why| LaunchError::NoTsx { folder: project.folder.clone(), why: Box::new(why) })?,
    };
    progress(&format!("using Node {version}"));
    let options = environment::variable(&project.env, "NODE_OPTIONS").unwrap_or_default();
    let said = limits_memory(&options);
    let told = environment::variable(&project.env, TSCONFIG_PATH).is_some();
    let tsconfig = tsconfig(&project.folder, &folders).filter(|_| !told);
    Ok(Node { program, tsx, tsconfig, memory_mib: memory_mib().filter(|_| !said).map(|mib| mib / SHARE) })
}

/// Whether the options of Node say how much memory there is. Words in them may be joined either way.
fn limits_memory(options: &str) -> bool {
    options.replace('_', "-").contains(MEMORY_OPTION)
}

/// Node and its version, if that is what the project needs.
pub(super) fn found(project: &Project) -> Result<(PathBuf, String), LaunchError> {
    let program = PathBuf::from("node");
    let version = run(&program, [OsStr::new("--version")])?;
    check(version.trim(), project.node_version)?;
    Ok((program, version.trim().trim_start_matches('v').to_owned()))
}

/// The folders of the project's graphs, which have packages of their own in a workspace.
fn folders(project: &Project) -> Vec<PathBuf> {
    let graphs = project.graphs.iter().filter(|graph| graph.language() == Language::Node);
    let file = |path: &str| project.folder.join(path.rsplit_once(':').map_or(path, |(source, _)| source));
    let folder = |path: &str| file(path).parent().map(|folder| folder.canonicalize().unwrap_or(folder.into()));
    graphs.filter_map(|graph| folder(&graph.path)).collect()
}

/// What the loader would not find by itself: it goes by the project's folder and those around it.
fn tsconfig(project: &Path, folders: &[PathBuf]) -> Option<PathBuf> {
    let of = |folder: &Path| folder.ancestors().map(|it| it.join(TSCONFIG)).find(|file| file.is_file());
    if of(project).is_some() { None } else { folders.iter().find_map(|folder| of(folder)) }
}

fn check(version: &str, asked: Option<u32>) -> Result<(), LaunchError> {
    let found = version.trim_start_matches('v');
    let major: u32 = found.split('.').next().and_then(|major| major.parse().ok()).unwrap_or_default();
    let wanted = asked.unwrap_or(OLDEST).max(OLDEST);
    if major >= wanted {
        return Ok(());
    }
    Err(LaunchError::OldNode { found: found.to_owned(), wanted, asked: asked.is_some_and(|asked| asked > OLDEST) })
}

/// A package as code in a folder would find it.
pub(super) fn installed(package: &str, folder: &Path) -> Option<PathBuf> {
    let found = folder.ancestors().map(|folder| folder.join("node_modules").join(package));
    found.into_iter().find(|folder| folder.join("package.json").is_file()).and_then(|folder| folder.canonicalize().ok())
}

/// The command that installs the packages of a project.
fn installer(folder: &Path) -> &'static str {
    let of =
        |folder: &Path| INSTALLERS.iter().find(|(lock, _)| folder.join(lock).is_file()).map(|(_, command)| *command);
    folder.ancestors().find_map(of).unwrap_or("npm install")
}

/// The folder of a package in the cache, installed there if need be.
pub(super) fn kept(kept: Kept, cache: &Path, progress: &dyn Fn(&str)) -> Result<PathBuf, LaunchError> {
    let Kept { package, version, purpose } = kept;
    let listed = format!("{package}@{version}");
    let folder = cache.join("node").join(&listed);
    let failed = |source| LaunchError::Cache { folder: folder.clone(), source };
    std::fs::create_dir_all(&folder).map_err(failed)?;
    // Two servers that start at once install it once.
    let lock = File::create(folder.join("lock")).map_err(failed)?;
    lock.lock().map_err(failed)?;
    if !folder.join(MARKER).is_file() {
        progress(&format!("installing {listed}, which {purpose} (once; kept for the next start)"));
        let options = ["install", "--no-audit", "--no-fund", "--no-package-lock", "--prefix"].map(OsStr::new);
        let arguments = options.into_iter().chain([folder.as_os_str(), OsStr::new(&listed)]);
        let is_step = |line: &str| STEPS.iter().any(|step| line.starts_with(step));
        follow(Path::new("npm"), arguments, is_step, progress)?;
        std::fs::write(folder.join(MARKER), listed).map_err(failed)?;
    }
    Ok(folder.join("node_modules").join(package))
}

/// The memory of the machine, or of the container that this is.
fn memory_mib() -> Option<u64> {
    let limit =
        std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let machine = std::fs::read_to_string("/proc/meminfo").ok()?;
    let total: u64 = machine.lines().next()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(limit.map_or(total >> 10, |limit| (limit >> 20).min(total >> 10)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_has_to_be_as_new_as_the_worker_and_the_project_need() {
        assert!(check("v20.20.2", None).is_ok());
        assert!(check("v22.1.0", Some(22)).is_ok());
        let old = check("v18.3.0", None).unwrap_err().to_string();
        assert_eq!(old, "`node` is version 18.3.0; install Node 20 or newer");
        let asked = check("v20.1.0", Some(22)).unwrap_err().to_string();
        assert!(asked.ends_with("install Node 22 or newer, as `node_version` asks for"), "{asked}");
    }

    #[test]
    fn packages_are_looked_for_where_node_would() {
        let root = tempfile::tempdir().unwrap();
        let package = root.path().join("node_modules/tsx");
        std::fs::create_dir_all(&package).unwrap();
        std::fs::create_dir_all(root.path().join("apps/agent")).unwrap();
        assert_eq!(installed("tsx", &root.path().join("apps/agent")), None);
        std::fs::write(package.join("package.json"), "{}").unwrap();
        assert_eq!(installed("tsx", &root.path().join("apps/agent")), package.canonicalize().ok());
    }

    #[test]
    fn a_workspace_has_the_tsconfig_of_its_code() {
        let root = tempfile::tempdir().unwrap();
        let (root, app) = (root.path(), root.path().join("apps/agent/src"));
        std::fs::create_dir_all(&app).unwrap();
        let folders = [app.clone()];
        assert_eq!(tsconfig(root, &folders), None);
        let own = root.join("apps/agent").join(TSCONFIG);
        std::fs::write(&own, "{}").unwrap();
        assert_eq!(tsconfig(root, &folders), Some(own));
        std::fs::write(root.join(TSCONFIG), "{}").unwrap();
        assert_eq!(tsconfig(root, &folders), None, "the loader finds it by itself");
    }

    #[test]
    fn the_package_manager_is_told_by_its_lock_file() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("apps/agent");
        std::fs::create_dir_all(&below).unwrap();
        assert_eq!(installer(&below), "npm install");
        std::fs::write(root.path().join("pnpm-lock.yaml"), "").unwrap();
        assert_eq!(installer(&below), "pnpm install");
    }

    #[test]
    fn who_says_how_much_memory_there_is_is_believed() {
        for options in ["--max-old-space-size=512", "--no-warnings --max_old_space_size=512"] {
            assert!(limits_memory(options), "{options}");
        }
        assert!(!limits_memory("--max-semi-space-size=64"));
    }

    #[test]
    fn workers_share_the_memory() {
        let of = |memory_mib, workers| {
            let node = Node { program: "node".into(), tsx: "/tsx".into(), tsconfig: None, memory_mib };
            node.among(workers).memory_mib
        };
        assert_eq!(
            [of(Some(8_000), 1), of(Some(8_000), 4), of(Some(8_000), 100)],
            [Some(4_096), Some(2_000), Some(256)]
        );
        assert_eq!(of(None, 1), None);
        assert!(memory_mib().is_none_or(|mib| mib > 64));
    }
}
