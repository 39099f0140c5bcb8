//! The environment of the user's code: the server's own, and what the project adds to it.

use std::{collections::BTreeMap, path::PathBuf};

use crate::project::{Env, Project};

/// The variables that the project adds. What the operator has set already wins.
pub(crate) fn additions(project: &Project) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let named = named(&project.env)?;
    Ok(named.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect())
}

/// The value of a variable that the operator has set.
pub(crate) fn operators(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

/// The value of a variable: the operator's, or else the project's.
pub(crate) fn variable(env: &Env, name: &str) -> Option<String> {
    match std::env::var_os(name) {
        Some(value) => value.into_string().ok(),
        None => named(env).ok()?.remove(name),
    }
}

fn named(env: &Env) -> Result<BTreeMap<String, String>, EnvironmentError> {
    match env {
        Env::Map(map) => Ok(map.clone()),
        Env::File(file) => {
            let broken = |why: String| EnvironmentError { file: file.clone(), why };
            let lines = dotenvy::from_path_iter(file).map_err(|error| broken(error.to_string()))?;
            lines.collect::<Result<_, _>>().map_err(|error| broken(error.to_string()))
        }
    }
}

/// The file with the variables can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the environment file `{file}` can't be read: {why}")]
pub(crate) struct EnvironmentError {
    file: PathBuf,
    why: String,
}
