//! Compares what lies around the core, such as webhooks and configuration, with what was recorded of the official server,
//! when the recordings lie beside the repository. The checks that pass are listed in `e2e/platform.txt`, and those that
//! are not to pass in `e2e/platform-deviations.txt`, each with the reason.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use anyhow::Context;

use crate::{
    ratchet::{Deviations, deviations, excuse, hold},
    shell::{command, root},
};

const RATCHET: &str = "e2e/platform.txt";
const DEVIATIONS: &str = "e2e/platform-deviations.txt";
/// Some checks measure times, which a busy machine can spoil.
const TRIES: u32 = 3;

/// The checks of one or more tries, each by its name. What passed once passes.
#[derive(Default)]
struct Checks {
    passed: BTreeSet<String>,
    /// With the part of the program that each is in, which is what can be tried again.
    failed: BTreeMap<String, String>,
}

pub(crate) fn run(python: &Path, binary: &Path, environment: &Path) -> anyhow::Result<()> {
    let program = root().join("../shared/conformance-platform/platform.py");
    if !program.is_file() {
        println!("── platform: no recordings beside the repository; the end-to-end tests stand for themselves");
        return Ok(());
    }
    println!("── platform");
    let deviations = deviations(DEVIATIONS)?;
    let mut checks = Checks::default();
    for attempt in 1..=TRIES {
        let failed = checks.failed.iter().filter(|(name, _)| !deviations.contains_key(*name));
        let parts: BTreeSet<_> = failed.map(|(_, part)| part.clone()).collect();
        let late = checks.add(once(&program, (python, binary, environment), &parts)?);
        if !late.is_empty() {
            println!("   passed only at try {attempt}: {}", late.join(", "));
        }
        let judged = judge(&checks, &deviations);
        if judged.is_ok() || attempt == TRIES {
            println!("   {} checks pass", checks.passed.len());
            return judged;
        }
    }
    Ok(())
}

fn judge(checks: &Checks, deviations: &Deviations) -> anyhow::Result<()> {
    let stale: Vec<_> = deviations.keys().filter(|name| checks.passed.contains(*name)).map(String::as_str).collect();
    // Whether times are as upstream's can be chance.
    if !stale.is_empty() {
        println!("   these pass, against {DEVIATIONS}: {}", stale.join(", "));
    }
    excuse(checks.failed.keys().map(String::as_str), deviations)?;
    hold(RATCHET, &checks.passed.iter().map(String::as_str).collect())
}

impl Checks {
    /// Adds a try, and says what passed that had failed before.
    fn add(&mut self, other: Self) -> Vec<String> {
        let late = self.failed.extract_if(.., |name, _| other.passed.contains(name)).map(|(name, _)| name).collect();
        self.passed.extend(other.passed);
        self.failed.extend(other.failed);
        self.failed.retain(|name, _| !self.passed.contains(name));
        late
    }
}

/// Tries these parts, or all when there are none.
fn once(
    program: &Path,
    (python, binary, environment): (&Path, &Path, &Path),
    parts: &BTreeSet<String>,
) -> anyhow::Result<Checks> {
    let start = format!("{} dev --no-reload --port {{port}} --config {{config}}", binary.display());
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mut run = command(python);
    let base = free.min(60_000).to_string();
    run.arg(program).args(["-v", "--slow", "--base-port", &base, "--server-cmd", &start]);
    if !parts.is_empty() {
        run.arg("--only").arg(parts.iter().map(String::as_str).collect::<Vec<_>>().join(","));
    }
    let said = run.env("VIRTUAL_ENV", environment).output().context("platform.py could not be started")?;
    let (mut checks, mut section) = (Checks::default(), "");
    let said = String::from_utf8_lossy(&said.stdout);
    for line in said.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            section = name;
        } else if let Some(name) = line.strip_prefix("  ok   ") {
            checks.passed.insert(name.to_owned());
        } else if let Some(failure) = line.strip_prefix("  FAIL ") {
            let name = failure.split_once("  <- ").map_or(failure, |(name, _)| name);
            checks.failed.insert(name.to_owned(), section.to_owned());
        }
    }
    Ok(checks)
}
