//! `cargo xtask test`: sets up Python and Node packages below `target/`, then runs the tests of every language.

use std::path::{Path, PathBuf};

use anyhow::bail;

use crate::{
    conformance,
    shell::{command, has, root, step},
    tidy,
};

/// What the Python tests need; the graphs run in the same environment.
const PYTHON_PACKAGES: &str = "e2e/python/requirements.txt";

pub(crate) fn run() -> anyhow::Result<()> {
    tidy::run()?;
    let python = python_environment()?;
    node_packages()?;

    step("lints", command("cargo").args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    step("building", command("cargo").args(["build", "--workspace", "--all-targets"]))?;
    if has("cargo", &["nextest", "--version"]) {
        step("Rust tests", command("cargo").args(["nextest", "run", "--workspace"]))?;
    } else {
        step("Rust tests", command("cargo").args(["test", "--workspace"]))?;
    }
    let binary = root().join("target/debug/threadyard");
    let environment = root().join("target/test-env/py");
    let pytest = |what: &str, folder: &str| {
        let mut tests = command(&python);
        tests.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider", folder]);
        tests.env("VIRTUAL_ENV", &environment).env("THREADYARD_BIN", &binary);
        step(what, &mut tests)
    };
    pytest("worker tests", "workers/python/tests")?;
    pytest("end to end, Python SDK", "e2e/python")?;
    let mut node = command("node");
    node.args(["--test", "e2e/js/sdk.test.mjs"]);
    step("end to end, JavaScript SDK", node.env("VIRTUAL_ENV", &environment).env("THREADYARD_BIN", &binary))?;
    demo(&binary, &environment)?;
    conformance::run(&python, &binary, &environment)?;
    println!("all tests passed");
    Ok(())
}

fn python_environment() -> anyhow::Result<PathBuf> {
    let folder = root().join("target/test-env/py");
    let python = folder.join("bin/python");
    let wanted = std::fs::read_to_string(root().join(PYTHON_PACKAGES))?;
    let marker = folder.join("complete");
    if std::fs::read_to_string(&marker).is_ok_and(|installed| installed == wanted) {
        return Ok(python);
    }
    if !has("python3", &["-c", "import sys; assert sys.version_info >= (3, 11)"]) {
        bail!("the tests need Python 3.11 or newer; install it as `python3`");
    }
    step("making a Python environment", command("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement", PYTHON_PACKAGES];
    step("installing Python packages", command(&python).args(install))?;
    std::fs::write(marker, wanted)?;
    Ok(python)
}

fn node_packages() -> anyhow::Result<()> {
    if !has("node", &["--version"]) {
        bail!("the tests need Node 20 or newer; install it as `node`");
    }
    let mut install = command("npm");
    install.args(["ci", "--silent", "--no-audit", "--no-fund", "--prefix", "e2e/js"]);
    step("installing Node packages", &mut install)
}

/// The README's first command, on the binary that was built for the tests.
fn demo(binary: &Path, environment: &Path) -> anyhow::Result<()> {
    let folder = root().join("target/test-env/demo");
    let mut demo = command(binary);
    demo.args(["demo", "--once", "--folder"]).arg(folder).env("VIRTUAL_ENV", environment);
    step("the demo", &mut demo)
}
