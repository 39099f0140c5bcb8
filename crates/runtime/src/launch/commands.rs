//! The commands of the set-up: run to their end, with what they say.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use super::LaunchError;

/// How much of a failed command's output is shown.
const LAST_LINES: usize = 15;

/// Runs a long step and passes on the lines that say how far it is.
pub(super) fn follow<'a>(
    program: &Path,
    arguments: impl IntoIterator<Item = &'a OsStr>,
    is_step: impl Fn(&str) -> bool,
    progress: &dyn Fn(&str),
) -> Result<(), LaunchError> {
    let mut command = command(program);
    command.args(arguments).stdin(Stdio::null());
    let failed = |source| LaunchError::program(program, source);
    let (lines, output) = std::io::pipe().map_err(failed)?;
    command.stdout(output.try_clone().map_err(failed)?).stderr(output);
    let mut process = command.spawn().map_err(failed)?;
    let shown = format!("{command:?}");
    // The command holds the other end of the pipe, which would never close.
    drop(command);
    let mut last = VecDeque::new();
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        if is_step(&line) {
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

/// Runs a command; what it says on its standard output.
pub(super) fn run<'a>(program: &Path, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<String, LaunchError> {
    let mut command = command(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|source| LaunchError::program(program, source))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &said;
    let lines: Vec<_> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    Err(LaunchError::Command { command: format!("{command:?}"), output: last })
}

pub(super) fn succeeds(program: &Path, arguments: &[&str]) -> bool {
    let mut command = command(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[expect(clippy::disallowed_methods, reason = "making environments is what this crate starts processes for")]
fn command(program: &Path) -> Command {
    Command::new(program)
}
