//! The packages of a JavaScript project that the server brings itself; of all others, their owners install them.

use std::{ffi::OsStr, path::Path};

use super::{LaunchError, commands::follow};

/// Written last, with what was installed.
const MARKER: &str = "node_modules/.threadyard-complete";
/// How the line of npm begins that says what it has done.
const STEP: &str = "added ";

/// Installs what the lock file of a project lists, unless that is there. `progress` hears one line for each long step.
pub fn install_packages(folder: &Path, progress: &dyn Fn(&str)) -> Result<(), LaunchError> {
    let failed = |source| LaunchError::Cache { folder: folder.into(), source };
    let wanted = std::fs::read_to_string(folder.join("package-lock.json")).map_err(failed)?;
    let marker = folder.join(MARKER);
    if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    progress("installing the packages of the example (once; kept for the next start)");
    let options = ["ci", "--no-audit", "--no-fund", "--prefix"].map(OsStr::new);
    let is_step = |line: &str| line.starts_with(STEP);
    follow(Path::new("npm"), options.into_iter().chain([folder.as_os_str()]), is_step, progress)?;
    std::fs::write(marker, wanted).map_err(failed)
}
