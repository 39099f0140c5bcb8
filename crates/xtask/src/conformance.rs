//! Compares the binary with recorded answers of the official server, when the recordings lie beside the repository. The
//! scenarios that pass are listed in `e2e/conformance.txt`; the list only grows.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::{
    services,
    shell::{command, root},
};

const RATCHET: &str = "e2e/conformance.txt";

/// Where the server keeps its state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// In a file of its own, as in development.
    Own,
    /// In PostgreSQL, with Redis beside it, as in production.
    Shared,
}

pub(crate) fn run(python: &Path, binary: &Path, environment: &Path, state: State) -> anyhow::Result<()> {
    let recordings = root().join("../shared/conformance");
    if !recordings.join("golden.json").is_file() {
        println!("── conformance: no recordings beside the repository; the end-to-end tests stand for themselves");
        return Ok(());
    }
    println!("── conformance{}", if state == State::Shared { ", on PostgreSQL and Redis" } else { "" });
    let work = root().join("target/test-env/conformance");
    let _ = std::fs::remove_dir_all(&work);
    std::fs::create_dir_all(&work)?;
    for name in ["graphs.py", "langgraph.json", "pyproject.toml"] {
        std::fs::copy(recordings.join("project").join(name), work.join(name))?;
    }
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let shared = (state == State::Shared).then(|| services::Shared::make(python)).transpose()?;
    let server = Server::start(binary, environment, &work, port, shared.as_ref())?;
    let report = work.join("report.json");
    let mut compare = command(python);
    compare.arg(recordings.join("conform.py")).args([
        "--base",
        &format!("http://127.0.0.1:{port}"),
        "--slow",
        "--retries",
        "2",
    ]);
    compare.arg("--against").arg(recordings.join("golden.json")).arg("--json").arg(&report);
    // The program fails as long as any scenario does; the ratchet decides.
    compare.stdout(Stdio::null()).status().context("conform.py could not be started")?;
    drop(server);
    judge(&report, python, &recordings)
}

fn judge(report: &Path, python: &Path, recordings: &Path) -> anyhow::Result<()> {
    let report: Value = serde_json::from_str(&std::fs::read_to_string(report).context("conform.py left no report")?)?;
    let failed: BTreeSet<_> =
        report["failures"].as_object().context("no failures")?.keys().map(String::as_str).collect();
    let listed = command(python).arg(recordings.join("conform.py")).args(["--slow", "--list"]).output()?;
    let listed = String::from_utf8(listed.stdout)?;
    let known = listed.lines().filter_map(|line| line.split_whitespace().nth(1)).filter(|name| name.contains('.'));
    let passed: BTreeSet<_> = known.filter(|name| !failed.contains(name)).collect();
    println!("   {} scenarios pass, {} fail", passed.len(), failed.len());
    hold(RATCHET, &passed)
}

/// Whether everything in a list of what has passed before still passes.
pub(crate) fn hold(file: &str, passed: &BTreeSet<&str>) -> anyhow::Result<()> {
    let held = std::fs::read_to_string(root().join(file)).with_context(|| format!("`{file}` is missing"))?;
    let held: BTreeSet<_> = held.lines().collect();
    let lost: Vec<_> = held.difference(passed).copied().collect();
    ensure!(lost.is_empty(), "these passed before, as {file} says: {}", lost.join(", "));
    let new: Vec<_> = passed.difference(&held).copied().collect();
    if !new.is_empty() {
        println!("   new, to be added to {file}: {}", new.join(", "));
    }
    Ok(())
}

struct Server(Child);

impl Server {
    fn start(
        binary: &Path,
        environment: &Path,
        work: &Path,
        port: u16,
        shared: Option<&services::Shared>,
    ) -> anyhow::Result<Self> {
        let mut server = command(binary);
        match shared {
            None => server.args(["dev", "--no-reload"]),
            Some(shared) => server.args(["serve", "--host", "127.0.0.1"]).envs(&shared.environment),
        };
        server.args(["--port", &port.to_string(), "--config"]).arg(work.join("langgraph.json"));
        server.env("VIRTUAL_ENV", environment).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self(server.spawn()?);
        let deadline = Instant::now() + Duration::from_mins(1);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > deadline {
                bail!("the server did not come up");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // The port is open before the graphs are loaded; requests wait.
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
