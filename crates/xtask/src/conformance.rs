//! Compares the binary with recorded answers of the official server, when the recordings lie beside the repository. The
//! scenarios that pass are listed in `e2e/conformance.txt`, and in `e2e/conformance-node.txt` for graphs in TypeScript. The
//! others are in `e2e/conformance-deviations.txt`, or in `e2e/conformance-node-deviations.txt` when only graphs in
//! TypeScript differ, each with the reason.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{
    node,
    ratchet::{Deviations, deviations, excuse, hold},
    services,
    shell::{command, root},
};

/// The language of the graphs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    TypeScript,
}

impl Language {
    fn ratchet(self) -> &'static str {
        match self {
            Self::Python => "e2e/conformance.txt",
            Self::TypeScript => "e2e/conformance-node.txt",
        }
    }

    /// Lists of what is not to pass.
    fn deviations(self) -> &'static [&'static str] {
        const LISTS: [&str; 2] = ["e2e/conformance-deviations.txt", "e2e/conformance-node-deviations.txt"];
        if self == Self::Python { &LISTS[..1] } else { &LISTS }
    }
}

/// Where the server keeps its state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// In a file of its own, as in development.
    Own,
    /// In PostgreSQL, with Redis beside it, as in production.
    Shared,
}

/// What is compared, and with which programs.
#[derive(Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) python: &'a Path,
    pub(crate) binary: &'a Path,
    /// The Python environment, and the folder with Node packages.
    pub(crate) environment: &'a Path,
    pub(crate) packages: &'a Path,
}

pub(crate) fn run(candidate: Candidate<'_>, language: Language, state: State) -> anyhow::Result<()> {
    let recordings = root().join("../shared/conformance");
    if !recordings.join("golden.json").is_file() {
        println!("── conformance: no recordings beside the repository; the end-to-end tests stand for themselves");
        return Ok(());
    }
    let graphs = if language == Language::TypeScript { " of graphs in TypeScript" } else { "" };
    let place = if state == State::Shared { ", on PostgreSQL and Redis" } else { "" };
    println!("── conformance{graphs}{place}");
    let work = match language {
        Language::Python => node::project(&root().join("target/test-env"), &recordings.join("project"), "conformance")?,
        Language::TypeScript => node::project(candidate.packages, &root().join("e2e/node/conformance"), "conformance")?,
    };
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let shared = (state == State::Shared).then(|| services::Shared::make(candidate.python)).transpose()?;
    let server = Server::start(candidate, &work, port, shared.as_ref())?;
    let report = work.join("report.json");
    let mut compare = command(candidate.python);
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
    judge(&report, candidate.python, &recordings, language)
}

fn judge(report: &Path, python: &Path, recordings: &Path, language: Language) -> anyhow::Result<()> {
    let report: Value = serde_json::from_str(&std::fs::read_to_string(report).context("conform.py left no report")?)?;
    let failed: BTreeSet<_> =
        report["failures"].as_object().context("no failures")?.keys().map(String::as_str).collect();
    let listed = command(python).arg(recordings.join("conform.py")).args(["--slow", "--list"]).output()?;
    let listed = String::from_utf8(listed.stdout)?;
    let known = listed.lines().filter_map(|line| line.split_whitespace().nth(1)).filter(|name| name.contains('.'));
    let passed: BTreeSet<_> = known.filter(|name| !failed.contains(name)).collect();
    println!("   {} scenarios pass, {} fail", passed.len(), failed.len());
    hold(language.ratchet(), &passed)?;
    let mut meant = Deviations::new();
    for list in language.deviations() {
        meant.extend(deviations(list)?);
    }
    excuse(failed.into_iter(), &meant)
}

struct Server(Child);

impl Server {
    fn start(
        candidate: Candidate<'_>,
        work: &Path,
        port: u16,
        shared: Option<&services::Shared>,
    ) -> anyhow::Result<Self> {
        let mut server = command(candidate.binary);
        match shared {
            None => server.args(["dev", "--no-reload"]),
            Some(shared) => server.args(["serve", "--host", "127.0.0.1"]).envs(&shared.environment),
        };
        server.args(["--port", &port.to_string(), "--config"]).arg(work.join("langgraph.json"));
        server.env("VIRTUAL_ENV", candidate.environment).stdout(Stdio::null()).stderr(Stdio::null());
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
