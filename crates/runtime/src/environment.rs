//! The environment of the user's code: the server's own, and what the project adds to it.

use std::{collections::BTreeMap, path::PathBuf};

use crate::project::{Env, Project};

/// The variables that the project adds. What the operator has set already wins.
pub(crate) fn additions(project: &Project) -> Result<BTreeMap<String, String>, EnvironmentError> {
    let named = match &project.env {
        Env::Map(map) => map.clone(),
        Env::File(file) => {
            let broken = |why: String| EnvironmentError { file: file.clone(), why };
            let lines = dotenvy::from_path_iter(file).map_err(|error| broken(error.to_string()))?;
            lines.collect::<Result<_, _>>().map_err(|error| broken(error.to_string()))?
        }
    };
    Ok(named.into_iter().filter(|(name, _)| std::env::var_os(name).is_none()).collect())
}

/// The file with the variables can't be read.
#[derive(Debug, thiserror::Error)]
#[error("the environment file `{file}` can't be read: {why}")]
pub(crate) struct EnvironmentError {
    file: PathBuf,
    why: String,
}
