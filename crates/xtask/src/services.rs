//! PostgreSQL and Redis for what runs on both; `e2e/python/services.py` knows where they are.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use anyhow::{Context, ensure};

use crate::shell::{command, tell};

const SERVICES: &str = "e2e/python/services.py";

/// Servers that the tests may use; those that had to be started end with this value.
pub(crate) struct Services(Child);

impl Services {
    /// Finds them, or starts some.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let mut keeper = command("python3");
        keeper.arg("e2e/python/private_services.py").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = keeper.spawn().context("private_services.py could not be started")?;
        let mut started = String::new();
        BufReader::new(keeper.stdout.take().context("it says nothing")?).read_line(&mut started)?;
        let services = Self(keeper);
        let started: HashMap<_, _> = serde_json::from_str(&started).context("there are no services for the tests")?;
        if !started.is_empty() {
            println!("── services: started for these tests");
        }
        tell(started);
        Ok(services)
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        // The end of its input has it stop what it started.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

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
