//! `cargo xtask test`: sets up Python and Node packages below `target/`, then runs the tests of every language.

use std::path::Path;

use anyhow::bail;

use crate::{
    chaos, conformance, platform, python, services,
    shell::{command, has, root, step},
    tidy,
};

/// What the Python tests need; the graphs run in the same environment.
pub(crate) const PYTHON_PACKAGES: &str = "e2e/python/requirements.txt";

/// The tests that mean the same wherever a server keeps its state.
const SHARED: [&str; 7] = [
    "e2e/python/test_api.py",
    "e2e/python/test_bad_input.py",
    "e2e/python/test_checkpointer.py",
    "e2e/python/test_guide.py",
    "e2e/python/test_nouns.py",
    "e2e/python/test_remote_graph.py",
    "e2e/python/test_runs.py",
];

pub(crate) fn run() -> anyhow::Result<()> {
    tidy::run()?;
    let environment = root().join("target/test-env/py");
    let python = python::environment(&environment, PYTHON_PACKAGES)?;
    node_packages()?;

    step("lints", command("cargo").args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    if has("cargo", &["deny", "--version"]) {
        step("dependencies", command("cargo").args(["deny", "check", "bans", "licenses", "sources"]))?;
    } else {
        println!("── dependencies: not checked, since cargo-deny is not installed");
    }
    step("building", command("cargo").args(["build", "--workspace", "--all-targets"]))?;
    let _services = services::Services::find()?;
    if has("cargo", &["nextest", "--version"]) {
        step("Rust tests", command("cargo").args(["nextest", "run", "--workspace"]))?;
    } else {
        step("Rust tests", command("cargo").args(["test", "--workspace"]))?;
    }
    let binary = root().join("target/debug/threadyard");
    let pytest = |what: &str, tests_of: &[&str], state: &str| {
        let mut tests = command(&python);
        tests.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]).args(tests_of);
        tests.env("VIRTUAL_ENV", &environment).env("THREADYARD_BIN", &binary).env("THREADYARD_E2E", state);
        step(what, &mut tests)
    };
    pytest("worker tests", &["workers/python/tests"], "own")?;
    pytest("end to end, Python SDK", &["e2e/python"], "own")?;
    pytest("end to end, Python SDK, on PostgreSQL and Redis", &SHARED, "shared")?;
    let node = |what: &str, file: &str, sdk: &str| {
        let mut tests = command("node");
        tests.args(["--test", file]).env("LANGGRAPH_SDK", sdk);
        step(what, tests.env("VIRTUAL_ENV", &environment).env("THREADYARD_BIN", &binary))
    };
    for sdk in ["@langchain/langgraph-sdk", "langgraph-sdk-2"] {
        node(&format!("end to end, JavaScript SDK ({sdk})"), "e2e/js/sdk.test.mjs", sdk)?;
    }
    node("end to end, JavaScript RemoteGraph", "e2e/js/remote_graph.test.mjs", "@langchain/langgraph-sdk")?;
    node("end to end, webhooks verified in JavaScript", "e2e/js/webhooks.test.mjs", "@langchain/langgraph-sdk")?;
    chaos::few(&python, &binary, &environment)?;
    demo(&binary, &environment)?;
    conformance::run(&python, &binary, &environment, conformance::State::Own)?;
    conformance::run(&python, &binary, &environment, conformance::State::Shared)?;
    platform::run(&python, &binary, &environment)?;
    println!("all tests passed");
    Ok(())
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
