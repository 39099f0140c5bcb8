//! Node packages below `target/`, installed once per set of them.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::shell::{command, has, root, step};

/// What graphs in TypeScript need; projects are copied beside the packages to find them.
pub(crate) const GRAPH_PACKAGES: &str = "e2e/node";

/// Installs the packages that a folder lists unless they are there, and returns the folder that has them.
pub(crate) fn packages(folder: &Path, listed: &str) -> anyhow::Result<PathBuf> {
    let lock = root().join(listed).join("package-lock.json");
    let wanted = std::fs::read_to_string(&lock).with_context(|| lock.display().to_string())?;
    let marker = folder.join("complete");
    if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(folder.to_owned());
    }
    if !has("node", &["--eval", "process.exit(Number.parseInt(process.versions.node) < 20 ? 1 : 0)"]) {
        bail!("Node 20 or newer is needed; install it as `node`");
    }
    std::fs::create_dir_all(folder)?;
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(root().join(listed).join(name), folder.join(name))?;
    }
    let mut install = command("npm");
    install.args(["ci", "--silent", "--no-audit", "--no-fund"]).current_dir(folder);
    step("installing Node packages for graphs", &mut install)?;
    std::fs::write(marker, wanted)?;
    Ok(folder.to_owned())
}

/// Copies a project beside the packages, where it finds them.
pub(crate) fn project(packages: &Path, project: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let copy = packages.join(name);
    let _ = std::fs::remove_dir_all(&copy);
    std::fs::create_dir_all(&copy)?;
    for entry in std::fs::read_dir(project).with_context(|| project.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), copy.join(entry.file_name()))?;
        }
    }
    Ok(copy)
}
