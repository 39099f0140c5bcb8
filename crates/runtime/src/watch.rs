//! Notices that the project's code has changed. What git ignores, and our own state, is not looked at.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ignore::WalkBuilder;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Changes that come this close together are one.
const QUIET: Duration = Duration::from_millis(200);
/// What files end with whose contents are code or configuration.
pub(crate) const SOURCES: &[&str] =
    &["py", "json", "toml", "yaml", "yml", "txt", "md", "ts", "tsx", "mts", "cts", "js", "jsx", "mjs", "cjs"];
/// What files end with that bundles are made of.
pub(crate) const COMPONENTS: &[&str] =
    &["tsx", "jsx", "ts", "js", "mts", "mjs", "cts", "cjs", "css", "json", "txt", "md", "mdx"];
/// Folders that hold nothing of the project's own, whether git ignores them or not.
const FOREIGN: [&str; 3] = ["__pycache__", "node_modules", "site-packages"];

pub(crate) struct Watch {
    changes: mpsc::UnboundedReceiver<PathBuf>,
    watcher: RecommendedWatcher,
    /// What files end with that matter.
    endings: &'static [&'static str],
}

impl Watch {
    /// Watches the folders of the project, one by one, so that large ignored ones cost nothing.
    pub(crate) fn start<'a>(
        folders: impl IntoIterator<Item = &'a Path>,
        endings: &'static [&'static str],
    ) -> notify::Result<Self> {
        let (notices, changes) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            if event.kind.is_create() || event.kind.is_modify() || event.kind.is_remove() {
                event.paths.into_iter().for_each(|path| drop(notices.send(path)));
            }
        })?;
        let mut watch = Self { changes, watcher, endings };
        for folder in folders {
            watch.add(folder)?;
        }
        Ok(watch)
    }

    /// Waits for a change, and until no more of them come.
    pub(crate) async fn changed(&mut self) -> Option<()> {
        while !self.matters().await? {}
        while let Ok(path) = tokio::time::timeout(QUIET, self.changes.recv()).await {
            self.look(&path?);
        }
        Some(())
    }

    async fn matters(&mut self) -> Option<bool> {
        let path = self.changes.recv().await?;
        Some(self.look(&path))
    }

    /// Whether a change at this path is one of the code. New folders are watched from now on.
    fn look(&mut self, path: &Path) -> bool {
        if path.is_dir() {
            if let Err(error) = self.add(path) {
                tracing::warn!(%error, folder = %path.display(), "a new folder can't be watched");
            }
            return false;
        }
        path.extension().is_some_and(|extension| self.endings.iter().any(|known| extension == *known))
    }

    fn add(&mut self, folder: &Path) -> notify::Result<()> {
        folders(folder).try_for_each(|folder| self.watcher.watch(&folder, RecursiveMode::NonRecursive))
    }
}

/// A folder and those below it that belong to the project.
fn folders(root: &Path) -> impl Iterator<Item = PathBuf> {
    let own = |entry: &ignore::DirEntry| !FOREIGN.iter().any(|name| entry.file_name() == *name);
    let walk = WalkBuilder::new(root).require_git(false).filter_entry(own).build();
    let folder = |entry: ignore::DirEntry| entry.file_type().is_some_and(|it| it.is_dir()).then(|| entry.into_path());
    walk.filter_map(Result::ok).filter_map(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_mins(2);

    fn write(path: PathBuf) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "x").unwrap();
    }

    #[test]
    fn only_folders_of_the_project_are_watched() {
        let root = tempfile::tempdir().unwrap();
        for file in [
            "agent.py",
            "src/deep/prompts.yaml",
            "data/notes.json",
            ".threadyard/x.json",
            ".venv/lib/x.py",
            "node_modules/a/x.json",
            "src/__pycache__/agent.pyc",
        ] {
            write(root.path().join(file));
        }
        std::fs::write(root.path().join(".gitignore"), "data/\n").unwrap();
        let mut found: Vec<_> =
            folders(root.path()).map(|it| it.strip_prefix(root.path()).unwrap().display().to_string()).collect();
        found.sort_unstable();
        assert_eq!(found, ["", "src", "src/deep"]);
    }

    #[tokio::test]
    async fn changes_are_noticed_in_new_folders_too_and_only_in_sources() {
        let root = tempfile::tempdir().unwrap();
        let mut watch = Watch::start([root.path()], SOURCES).unwrap();
        let noticed = async |watch: &mut Watch| tokio::time::timeout(SOON, watch.changed()).await.unwrap().is_some();
        write(root.path().join("agent.py"));
        assert!(noticed(&mut watch).await);
        std::fs::create_dir(root.path().join("new")).unwrap();
        let copy = root.path().join("agent.py~");
        write(copy.clone());
        // Events come in order: that of the new folder is seen to before this one.
        loop {
            let path = tokio::time::timeout(SOON, watch.changes.recv()).await.unwrap().unwrap();
            let matters = watch.look(&path);
            if path == copy {
                break assert!(!matters);
            }
        }
        write(root.path().join("new/tool.py"));
        assert!(noticed(&mut watch).await);
    }
}
