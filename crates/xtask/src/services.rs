//! PostgreSQL and Redis for what runs on both; `e2e/python/services.py` knows where they are.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};

use crate::shell::command;

const SERVICES: &str = "e2e/python/services.py";

/// A database with nothing in it, which goes with this value.
pub(crate) struct Shared {
    /// What a server is told that is to use it.
    pub(crate) environment: HashMap<String, String>,
    python: PathBuf,
}

impl Shared {
    pub(crate) fn make(python: &Path) -> anyhow::Result<Self> {
        let made = command(python).args([SERVICES, "make"]).output().context("services.py could not be started")?;
        ensure!(made.status.success(), "no database: {}", String::from_utf8_lossy(&made.stderr));
        Ok(Self { environment: serde_json::from_slice(&made.stdout)?, python: python.into() })
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let uri = self.environment.get("DATABASE_URI").map(String::as_str).unwrap_or_default();
        let name = uri.split('?').next().and_then(|uri| uri.rsplit('/').next()).unwrap_or_default();
        let dropped = command(&self.python).args([SERVICES, "drop", name]).status();
        if !dropped.is_ok_and(|status| status.success()) {
            eprintln!("the database `{name}` is left behind");
        }
    }
}
