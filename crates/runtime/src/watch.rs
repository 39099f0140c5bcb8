//! Notices that the project's code has changed. What git ignores, and our own state, is not looked at.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// Changes that come this close together are one.
const QUIET: Duration = Duration::from_millis(200);

pub(crate) struct Watch {
    changes: mpsc::UnboundedReceiver<()>,
    _watcher: RecommendedWatcher,
}

impl Watch {
    pub(crate) fn start(folder: &Path) -> notify::Result<Self> {
        let (notices, changes) = mpsc::unbounded_channel();
        let mut rules = GitignoreBuilder::new(folder);
        rules.add(folder.join(".gitignore"));
        let rules = rules.build().unwrap_or_else(|_| Gitignore::empty());
        let root = folder.to_owned();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let Ok(event) = event else { return };
            let written = event.kind.is_create() || event.kind.is_modify() || event.kind.is_remove();
            if written && event.paths.iter().any(|path| matters(&root, path, &rules)) {
                let _ = notices.send(());
            }
        })?;
        watcher.watch(folder, RecursiveMode::Recursive)?;
        Ok(Self { changes, _watcher: watcher })
    }

    /// Waits for a change, and until no more of them come.
    pub(crate) async fn changed(&mut self) -> Option<()> {
        self.changes.recv().await?;
        while tokio::time::timeout(QUIET, self.changes.recv()).await.is_ok_and(|change| change.is_some()) {}
        Some(())
    }
}

fn matters(root: &Path, path: &Path, rules: &Gitignore) -> bool {
    let Ok(below) = path.strip_prefix(root) else { return false };
    let hidden = |part: &std::ffi::OsStr| {
        let name = part.to_string_lossy();
        name.starts_with('.') || matches!(&*name, "__pycache__" | "node_modules")
    };
    let source = path.extension().is_some_and(|extension| {
        ["py", "json", "toml", "yaml", "yml", "txt", "md"].iter().any(|known| extension == *known)
    });
    source && !below.iter().any(hidden) && !rules.matched_path_or_any_parents(PathBuf::from(below), false).is_ignore()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sources_that_git_sees_matter() {
        let root = Path::new("/p");
        let mut rules = GitignoreBuilder::new(root);
        rules.add_line(None, "data/").unwrap();
        let rules = rules.build().unwrap();
        for (path, expected) in [
            ("/p/agent.py", true),
            ("/p/src/deep/prompts.yaml", true),
            ("/p/.env", false),
            ("/p/.threadyard/threadyard.db", false),
            ("/p/.venv/lib/x.py", false),
            ("/p/__pycache__/agent.cpython-311.pyc", false),
            ("/p/data/notes.json", false),
            ("/p/agent.py~", false),
        ] {
            assert_eq!(matters(root, Path::new(path), &rules), expected, "{path}");
        }
    }
}
