//! Compares what lies around the core, such as webhooks and configuration, with what was recorded of the official server,
//! when the recordings lie beside the repository. The checks that pass are listed in `e2e/platform.txt`.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use anyhow::Context;

use crate::{
    conformance::hold,
    shell::{command, root},
};

const RATCHET: &str = "e2e/platform.txt";
/// Some checks measure times, which a busy machine can spoil.
const TRIES: u32 = 3;

pub(crate) fn run(python: &Path, binary: &Path, environment: &Path) -> anyhow::Result<()> {
    let program = root().join("../shared/conformance-platform/platform.py");
    if !program.is_file() {
        println!("── platform: no recordings beside the repository; the end-to-end tests stand for themselves");
        return Ok(());
    }
    println!("── platform");
    let mut passed = BTreeSet::new();
    for attempt in 1..=TRIES {
        passed.extend(once(&program, python, binary, environment)?);
        let held = hold(RATCHET, &passed.iter().map(String::as_str).collect());
        if held.is_ok() || attempt == TRIES {
            println!("   {} checks pass", passed.len());
            return held;
        }
    }
    Ok(())
}

/// The checks that pass.
fn once(program: &Path, python: &Path, binary: &Path, environment: &Path) -> anyhow::Result<BTreeSet<String>> {
    let server = root().join("e2e/platform_server.py");
    let start = format!("{} {} {} {{config}} {{port}}", python.display(), server.display(), binary.display());
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let mut checks = command(python);
    checks.arg(program).args(["-v", "--base-port", &port.min(60_000).to_string(), "--server-cmd", &start]);
    let said = checks.env("VIRTUAL_ENV", environment).output().context("platform.py could not be started")?;
    let passed = String::from_utf8_lossy(&said.stdout)
        .lines()
        .filter_map(|line| line.strip_prefix("  ok   "))
        .map(str::to_owned)
        .collect();
    Ok(passed)
}
