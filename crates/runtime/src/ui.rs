//! Bundles of the project's components (`ui`), for pages that show what graphs say with them. A Node process makes them in a
//! folder that only it and the server know, and is gone before they are served: from memory, by their names alone.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use sha2::{Digest, Sha256};
use threadyard_core::runtime::{Language, RuntimeError};
use tokio_util::sync::CancellationToken;

use crate::{
    embedded, environment,
    launch::ui::Bundler,
    project::{Project, UiOptions},
    watch::Watch,
};

/// Where the bundler says what could not be bundled.
const FAILURES: &str = "failures.json";
/// Where it puts the files of a bundle.
const PUBLIC: &str = "public";
/// How much of what it says is shown when it fails as a whole.
const LAST_LINES: usize = 15;
/// How long the bundler may take.
const WITHIN: Duration = Duration::from_mins(5);

/// The bundles of a project, as they were made last.
pub struct UiBundles {
    maker: Maker,
    current: RwLock<BTreeMap<String, Arc<UiBundle>>>,
}

/// The files of a bundle, in the order of their names.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct UiBundle {
    /// The files.
    pub files: Vec<UiFile>,
}

/// A file of a bundle.
#[derive(Debug, PartialEq, Eq)]
pub struct UiFile {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub contents: Bytes,
    /// Tells its contents from others.
    pub digest: String,
}

/// What makes bundles.
struct Maker {
    bundler: Bundler,
    script: PathBuf,
    project: PathBuf,
    env: BTreeMap<String, String>,
    ui: UiOptions,
}

/// What became of each bundle.
type Made = BTreeMap<String, Result<UiBundle, String>>;

/// Why nothing was bundled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    /// The folder can't be used.
    #[error("the folder of the bundles can't be used: {0}")]
    Folder(#[from] io::Error),
    /// The bundler does not end.
    #[error("the bundler does not end; it was given {} s", WITHIN.as_secs())]
    Slow,
    /// The bundler ended early.
    #[error("the bundler failed ({0}): {1}")]
    Bundler(std::process::ExitStatus, String),
}

impl UiBundles {
    /// Makes the bundles. Where they are made again on change, what is broken prevents only itself.
    pub(crate) async fn start(
        project: &Project,
        (bundler, cache): (Bundler, &Path),
        may_be_broken: bool,
    ) -> Result<Arc<Self>, RuntimeError> {
        let unavailable = |why: &dyn std::fmt::Display| RuntimeError::Unavailable(format!("ui: {why}"));
        let env = environment::additions(project).map_err(|error| unavailable(&error))?;
        let package = embedded::extract(Language::Node, cache).map_err(|error| unavailable(&error))?;
        let ui = project.ui.clone().unwrap_or_default();
        let maker = Maker { bundler, script: package.join("bundle.mjs"), project: project.folder.clone(), env, ui };
        let made = match maker.make().await {
            Err(error) if may_be_broken => {
                tracing::error!(%error, "`ui` can't be bundled, and is not served until something changes");
                Made::new()
            }
            made => made.map_err(|error| unavailable(&error))?,
        };
        let broken = made.iter().find_map(|(name, made)| Some((name, made.as_ref().err()?)));
        if let Some((name, why)) = broken.filter(|_| !may_be_broken) {
            return Err(RuntimeError::Unavailable(format!("`ui.{name}` can't be bundled: {why}")));
        }
        let this = Self { maker, current: RwLock::default() };
        this.take(made, true);
        Ok(Arc::new(this))
    }

    /// A bundle, unless there is none of that name or it could never be made.
    pub fn bundle(&self, name: &str) -> Option<Arc<UiBundle>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Makes the bundles anew whenever something changes.
    pub(crate) async fn follow(self: Arc<Self>, mut watch: Watch, stopping: CancellationToken) {
        let following = async {
            while watch.changed().await.is_some() {
                match self.maker.make().await {
                    Ok(made) => self.take(made, false),
                    Err(error) => {
                        tracing::error!(%error, "`ui` can't be bundled; going on with what was bundled before");
                    }
                }
            }
        };
        stopping.run_until_cancelled(following).await;
    }

    /// Serves what was made from now on. What is broken stays as it was.
    fn take(&self, made: Made, is_first: bool) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        for (name, made) in made {
            let known = current.get(&name);
            match made {
                Err(why) if known.is_some() => {
                    tracing::error!("`ui.{name}` can't be bundled; going on with what was bundled before\n{why}");
                }
                Err(why) => tracing::error!("`ui.{name}` can't be bundled, and is not served\n{why}"),
                Ok(bundle) if known.is_some_and(|known| **known == bundle) => {}
                Ok(bundle) => {
                    if !is_first {
                        tracing::info!("`ui.{name}` has changed and is served from now on");
                    }
                    current.insert(name, Arc::new(bundle));
                }
            }
        }
    }
}

impl Maker {
    async fn make(&self) -> Result<Made, BundleError> {
        let output = tempfile::tempdir()?;
        let names = self.ui.bundles.keys();
        let task = json!({
            "bundler": self.bundler.package,
            "project": self.project,
            "output": output.path(),
            "bundles": self.ui.bundles.iter().collect::<Vec<_>>(),
            "shared": self.ui.shared,
        });
        let mut command = self.bundler.command(&self.script, &task.to_string(), &self.project, &self.env);
        let done = tokio::time::timeout(WITHIN, command.kill_on_drop(true).output()).await;
        let done = done.map_err(|_| BundleError::Slow)??;
        let said = String::from_utf8_lossy(&done.stderr);
        let failures = tokio::fs::read(output.path().join(FAILURES)).await.unwrap_or_default();
        let Ok(failures) = serde_json::from_slice::<Vec<Option<String>>>(&failures) else {
            let lines: Vec<_> = said.trim().lines().collect();
            let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
            return Err(BundleError::Bundler(done.status, last));
        };
        if !said.trim().is_empty() {
            tracing::debug!("the bundler says: {}", said.trim());
        }
        let mut made = Made::new();
        for ((place, name), failure) in names.enumerate().zip(failures) {
            let bundle = match failure {
                Some(why) => Err(why),
                None => read(&output.path().join(place.to_string()).join(PUBLIC).join(name))
                    .map_err(|error| format!("what the bundler made can't be read: {error}")),
            };
            made.insert(name.clone(), bundle);
        }
        Ok(made)
    }
}

/// The plain files of a folder. A link could lead elsewhere, and is none.
fn read(folder: &Path) -> io::Result<UiBundle> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
            let contents = Bytes::from(std::fs::read(entry.path())?);
            let digest = embedded::hex(&Sha256::digest(&contents));
            files.push(UiFile { name, contents, digest });
        }
    }
    files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(UiBundle { files })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a process goes on that was given this path.
    #[cfg(target_os = "linux")]
    fn goes_on(path: &Path) -> bool {
        let path = path.as_os_str().as_encoded_bytes();
        let processes = std::fs::read_dir("/proc").unwrap();
        let mut said = processes.filter_map(|it| std::fs::read(it.ok()?.path().join("cmdline")).ok());
        said.any(|said| said.windows(path.len()).any(|part| part == path))
    }

    // The clock goes on by itself where nothing else does: nobody waits for minutes.
    #[cfg(target_os = "linux")]
    #[tokio::test(start_paused = true)]
    async fn a_bundler_that_hangs_is_ended() {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("hang.sh");
        std::fs::write(&script, "for n in $(seq 200); do sleep 1; done").unwrap();
        let (env, ui) = (BTreeMap::new(), UiOptions::default());
        let bundler = Bundler { program: "/bin/sh".into(), package: folder.path().into() };
        let maker = Maker { bundler, script: script.clone(), project: folder.path().into(), env, ui };
        let begun = tokio::time::Instant::now();
        assert!(matches!(maker.make().await, Err(BundleError::Slow)));
        assert!(begun.elapsed() >= WITHIN);
        let ended = std::time::Instant::now();
        while goes_on(&script) {
            assert!(ended.elapsed() < Duration::from_mins(1), "it goes on");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn only_plain_files_are_read_in_the_order_of_their_names() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("bundle");
        std::fs::create_dir_all(folder.join("below")).unwrap();
        std::fs::write(root.path().join("secret"), "x").unwrap();
        std::os::unix::fs::symlink(root.path().join("secret"), folder.join("link.js")).unwrap();
        std::fs::write(folder.join("b.js"), "script").unwrap();
        std::fs::write(folder.join("a.css"), "styles").unwrap();
        let files = read(&folder).unwrap().files;
        assert_eq!(files.iter().map(|file| file.name.as_str()).collect::<Vec<_>>(), ["a.css", "b.js"]);
        assert_eq!(files[1].contents, "script");
        assert_ne!(files[0].digest, files[1].digest);
        assert!(read(&root.path().join("gone")).is_err());
    }
}
