//! Compares the binary with recorded answers of the official server, when the recordings lie beside the repository. The
//! scenarios that pass are listed in `e2e/conformance.txt`, and in `e2e/conformance-node.txt` for graphs in TypeScript. The
//! others are in `e2e/conformance-deviations.txt`, or in `e2e/conformance-node-deviations.txt` when only graphs in
//! TypeScript differ, each with the reason.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
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
    let mut meant = Deviations::new();
    for list in language.deviations() {
        meant.extend(deviations(list)?);
    }
    let shared = (state == State::Shared).then(|| services::Shared::make(candidate.python)).transpose()?;
    let server = Server::start(candidate, &work, shared.as_ref())?;
    let program = Program { python: candidate.python, recordings: &recordings };
    let mut failed = program.failures(server.port, &work, &[])?;
    let doubtful: Vec<_> = failed.iter().filter(|name| !meant.contains_key(*name)).cloned().collect();
    if !doubtful.is_empty() {
        // Some measure times, which a busy machine can spoil.
        let again = program.failures(server.port, &work, &doubtful)?;
        let late: Vec<_> = doubtful.into_iter().filter(|name| !again.contains(name)).collect();
        failed.retain(|name| !late.contains(name));
        if !late.is_empty() {
            println!("   passed only at the second try: {}", late.join(", "));
        }
    }
    drop(server);
    judge(&failed, &program, language, &meant)
}

fn judge(
    failed: &BTreeSet<String>,
    program: &Program<'_>,
    language: Language,
    meant: &Deviations,
) -> anyhow::Result<()> {
    let known = program.scenarios()?;
    let passed: BTreeSet<_> = known.iter().filter(|name| !failed.contains(*name)).map(String::as_str).collect();
    println!("   {} scenarios pass, {} fail", passed.len(), failed.len());
    hold(language.ratchet(), &passed)?;
    excuse(failed.iter().map(String::as_str), meant)
}

/// What compares.
struct Program<'a> {
    python: &'a Path,
    recordings: &'a Path,
}

impl Program<'_> {
    /// The scenarios that fail; of all, or of those with these names in theirs.
    fn failures(&self, port: u16, work: &Path, only: &[String]) -> anyhow::Result<BTreeSet<String>> {
        let report = work.join("report.json");
        let _ = std::fs::remove_file(&report);
        let mut compare = self.command();
        compare.args(["--base", &format!("http://127.0.0.1:{port}"), "--slow", "--retries", "2"]);
        compare.args(only.iter().flat_map(|name| ["--only", name]));
        compare.arg("--against").arg(self.recordings.join("golden.json")).arg("--json").arg(&report);
        // The program fails as long as any scenario does; the ratchet decides.
        compare.stdout(Stdio::null()).status().context("conform.py could not be started")?;
        let report = std::fs::read_to_string(report).context("conform.py left no report")?;
        let report: Value = serde_json::from_str(&report)?;
        Ok(report["failures"].as_object().context("no failures")?.keys().cloned().collect())
    }

    /// The names of all scenarios.
    fn scenarios(&self) -> anyhow::Result<Vec<String>> {
        let listed = String::from_utf8(self.command().args(["--slow", "--list"]).output()?.stdout)?;
        let names = listed.lines().filter_map(|line| line.split_whitespace().nth(1));
        Ok(names.filter(|name| name.contains('.')).map(str::to_owned).collect())
    }

    fn command(&self) -> Command {
        let mut program = command(self.python);
        program.arg(self.recordings.join("conform.py"));
        program
    }
}

struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(candidate: Candidate<'_>, work: &Path, shared: Option<&services::Shared>) -> anyhow::Result<Self> {
        // A port that is free may be somebody else's by the time that the server asks for it.
        for _ in 0..5 {
            if let Some(server) = Self::at_a_port(candidate, work, shared)? {
                return Ok(server);
            }
        }
        bail!("the server ends as soon as it is started");
    }

    /// A server that listens, or none when it ended.
    fn at_a_port(
        candidate: Candidate<'_>,
        work: &Path,
        shared: Option<&services::Shared>,
    ) -> anyhow::Result<Option<Self>> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut server = command(candidate.binary);
        match shared {
            None => server.args(["dev", "--no-reload"]),
            Some(shared) => server.args(["serve", "--host", "127.0.0.1"]).envs(&shared.environment),
        };
        server.args(["--port", &port.to_string(), "--config"]).arg(work.join("langgraph.json"));
        server.env("VIRTUAL_ENV", candidate.environment).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Self { process: server.spawn()?, port };
        let deadline = Instant::now() + Duration::from_mins(5);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if server.process.try_wait()?.is_some() {
                return Ok(None);
            }
            if Instant::now() > deadline {
                bail!("the server did not come up");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // The port is open before the graphs are loaded; requests wait.
        Ok(server.process.try_wait()?.is_none().then_some(server))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
