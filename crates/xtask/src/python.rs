//! Python environments below `target/`, made once per set of requirements.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::shell::{command, has, root, step};

/// Makes the environment unless it is there, and returns its interpreter.
pub(crate) fn environment(folder: &Path, requirements: &str) -> anyhow::Result<PathBuf> {
    let python = folder.join("bin/python");
    let wanted = std::fs::read_to_string(root().join(requirements))?;
    let marker = folder.join("complete");
    if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if !has("python3", &["-c", "import sys; assert sys.version_info >= (3, 11)"]) {
        bail!("Python 3.11 or newer is needed; install it as `python3`");
    }
    step("making a Python environment", command("python3").args(["-m", "venv", "--clear"]).arg(folder))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", requirements];
    step("installing Python packages", command(&python).args(install))?;
    std::fs::write(marker, wanted)?;
    Ok(python)
}
