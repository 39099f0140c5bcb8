//! How the interpreter of a project is found or made.

pub mod python;

use std::path::PathBuf;

/// Why no interpreter could be had.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A command of the set-up failed.
    #[error("`{command}` failed:\n{output}")]
    Command {
        /// The command.
        command: String,
        /// Its last lines.
        output: String,
    },
    /// A program is not installed.
    #[error("`{program}` could not be started: {source}; install Python 3.11 or newer")]
    Program {
        /// The program.
        program: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The interpreter is too old for the worker.
    #[error("`python3` is older than 3.11; install Python 3.11 or newer")]
    OldPython,
    /// A folder of the cache can't be used.
    #[error("the cache folder `{folder}` can't be used: {source}")]
    Cache {
        /// The folder.
        folder: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
}
