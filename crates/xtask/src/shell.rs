//! Running the programs that chores are made of.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Instant,
};

use anyhow::{Context, bail};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap_or_else(|_| PathBuf::from("."))
}

/// A program to run at the root of the repository.
#[expect(clippy::disallowed_methods, reason = "chores are made of other programs")]
pub(crate) fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    command.envs(TOLD.get().into_iter().flatten());
    command
}

/// Environment variables for every program from now on.
static TOLD: OnceLock<HashMap<String, String>> = OnceLock::new();

/// Has every program know these environment variables.
pub(crate) fn tell(variables: HashMap<String, String>) {
    TOLD.get_or_init(|| variables);
}

/// Runs a step, says how long it took, and fails with the command that failed.
pub(crate) fn step(what: &str, command: &mut Command) -> anyhow::Result<()> {
    println!("── {what}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("`{command:?}` could not be started"))?;
    if !status.success() {
        bail!("{what}: `{command:?}` ended with {status}");
    }
    println!("   {:.0} s", started.elapsed().as_secs_f32());
    Ok(())
}

/// Whether a program answers to `--version`.
pub(crate) fn has(program: &str, arguments: &[&str]) -> bool {
    let mut command = command(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
