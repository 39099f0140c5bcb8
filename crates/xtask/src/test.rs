//! `cargo xtask test`: sets up Python and Node packages below `target/`, then runs the tests of every language, or those
//! parts of them that are named.

use std::path::Path;

use anyhow::bail;
use clap::ValueEnum;

use crate::{
    chaos,
    conformance::{self, Candidate, Language, State},
    node, platform, python, services,
    shell::{command, has, root, step},
    tidy,
};

/// What the Python tests need; the graphs run in the same environment.
pub(crate) const PYTHON_PACKAGES: &str = "e2e/python/requirements.txt";

/// The tests that mean the same wherever a server keeps its state.
const SHARED: [&str; 8] = [
    "e2e/python/test_api.py",
    "e2e/python/test_bad_input.py",
    "e2e/python/test_checkpointer.py",
    "e2e/python/test_event_streaming.py",
    "e2e/python/test_guide.py",
    "e2e/python/test_nouns.py",
    "e2e/python/test_remote_graph.py",
    "e2e/python/test_runs.py",
];

/// Projects in TypeScript.
const TYPESCRIPT: [&str; 9] = [
    "examples/quickstart-ts",
    "examples/gallery-ts",
    "examples/mixed",
    "e2e/js/app",
    "e2e/js/components",
    "e2e/js/guarded",
    "e2e/js/project-ts",
    "e2e/node/conformance",
    "bench/project-ts",
];

/// A part of the tests, in the order in which they run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Lints,
    Rust,
    Workers,
    Python,
    Shared,
    Javascript,
    Chaos,
    Demo,
    Conformance,
    Platform,
}

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these parts of the tests; without one, all.
    parts: Vec<Part>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    tidy::run()?;
    let environment = root().join("target/test-env/py");
    let python = python::environment(&environment, PYTHON_PACKAGES)?;
    node_packages()?;
    let packages = node::packages(&root().join("target/test-env/node"), node::GRAPH_PACKAGES)?;
    let binary = root().join("target/debug/threadyard");
    let candidate = Candidate { python: &python, binary: &binary, environment: &environment, packages: &packages };

    let parts = if options.parts.is_empty() { Part::value_variants() } else { &options.parts };
    if parts.contains(&Part::Lints) {
        lints(&packages)?;
    }
    step("building", command("cargo").args(["build", "--workspace", "--all-targets"]))?;
    let _services = services::Services::find()?;
    for part in parts {
        part.run(candidate)?;
    }
    println!("all {} passed", if options.parts.is_empty() { "tests" } else { "tests of these parts" });
    Ok(())
}

impl Part {
    fn run(self, candidate: Candidate<'_>) -> anyhow::Result<()> {
        let Candidate { python, binary, environment, .. } = candidate;
        match self {
            // What is wrong with the source is known before anything is built.
            Self::Lints => Ok(()),
            Self::Rust if has("cargo", &["nextest", "--version"]) => {
                step("Rust tests", command("cargo").args(["nextest", "run", "--workspace", "--retries", "1"]))
            }
            Self::Rust => step("Rust tests", command("cargo").args(["test", "--workspace"])),
            Self::Workers => {
                pytest(candidate, "worker tests", &["workers/python/tests"], "own")?;
                for (what, task) in [("types of the worker for Node", "check"), ("worker tests, Node", "test")] {
                    step(what, command("npm").args(["run", "--silent", "--prefix", "workers/node", task]))?;
                }
                Ok(())
            }
            Self::Python => pytest(candidate, "end to end, Python SDK", &["e2e/python"], "own"),
            Self::Shared => pytest(candidate, "end to end, Python SDK, on PostgreSQL and Redis", &SHARED, "shared"),
            Self::Javascript => javascript(candidate),
            Self::Chaos => chaos::few(python, binary, environment),
            Self::Demo => demo(candidate),
            Self::Conformance => {
                conformance::run(candidate, Language::Python, State::Own)?;
                conformance::run(candidate, Language::Python, State::Shared)?;
                conformance::run(candidate, Language::TypeScript, State::Own)
            }
            Self::Platform => platform::run(python, binary, environment),
        }
    }
}

/// Whether the source is as it should be.
fn lints(packages: &Path) -> anyhow::Result<()> {
    type_check(packages)?;
    step("lints", command("cargo").args(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    if has("cargo", &["deny", "--version"]) {
        return step("dependencies", command("cargo").args(["deny", "check", "bans", "licenses", "sources"]));
    }
    println!("── dependencies: not checked, since cargo-deny is not installed");
    Ok(())
}

fn pytest(candidate: Candidate<'_>, what: &str, tests_of: &[&str], state: &str) -> anyhow::Result<()> {
    let mut tests = command(candidate.python);
    tests.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]).args(tests_of);
    // Most tests wait most of the time, for servers and for clocks.
    tests.args(["--numprocesses", "3", "--dist", "loadfile"]);
    // What passes only when it is tried again is named at the end.
    tests.args(["--reruns", "2", "--reruns-delay", "1", "-rR"]);
    tests.env("VIRTUAL_ENV", candidate.environment).env("THREADYARD_BIN", candidate.binary);
    step(what, tests.env("THREADYARD_E2E", state))
}

fn node_packages() -> anyhow::Result<()> {
    if !has("node", &["--version"]) {
        bail!("the tests need Node 20 or newer; install it as `node`");
    }
    for folder in ["e2e/js", "workers/node"] {
        let mut install = command("npm");
        install.args(["ci", "--silent", "--no-audit", "--no-fund", "--prefix", folder]);
        step(&format!("installing Node packages in {folder}"), &mut install)?;
    }
    Ok(())
}

/// The official JavaScript SDK, against graphs in Python and then against their twins in TypeScript.
fn javascript(candidate: Candidate<'_>) -> anyhow::Result<()> {
    let node = |what: &str, file: &str, sdk: &str, graphs: &str| {
        let mut tests = command("node");
        tests.args(["--test", &format!("e2e/js/{file}.test.mjs")]);
        tests.env("LANGGRAPH_SDK", sdk).env("THREADYARD_GRAPHS", graphs);
        tests.env("VIRTUAL_ENV", candidate.environment).env("THREADYARD_BIN", candidate.binary);
        step(&format!("end to end, {what}, graphs in {graphs}"), &mut tests)
    };
    let sdk = "@langchain/langgraph-sdk";
    for graphs in ["python", "typescript"] {
        for sdk in [sdk, "langgraph-sdk-2"] {
            node(&format!("JavaScript SDK ({sdk})"), "sdk", sdk, graphs)?;
        }
        node("event streaming in JavaScript", "event_streaming", sdk, graphs)?;
        node("useStream in a browser", "use_stream", sdk, graphs)?;
        node("components in a browser", "ui", sdk, graphs)?;
        node("JavaScript RemoteGraph", "remote_graph", sdk, graphs)?;
        node("webhooks verified in JavaScript", "webhooks", sdk, graphs)?;
    }
    node("custom auth", "auth", sdk, "typescript")?;
    node("an application of the project's own", "custom_app", sdk, "typescript")?;
    node("both languages in one server", "mixed", sdk, "both languages")
}

/// Whether the examples in TypeScript are what their types say.
fn type_check(packages: &Path) -> anyhow::Result<()> {
    for (number, project) in TYPESCRIPT.iter().enumerate() {
        let copy = node::project(packages, &root().join(project), &format!("checked-{number}"))?;
        let mut check = command("node");
        check.arg(packages.join("node_modules/typescript/bin/tsc")).arg("--project").arg(copy);
        step(&format!("types of {project}"), &mut check)?;
    }
    Ok(())
}

/// The README's first command for TypeScript.
fn demo(candidate: Candidate<'_>) -> anyhow::Result<()> {
    let mut demo = command(candidate.binary);
    demo.args(["demo", "--once", "--lang", "ts", "--folder"]).arg(root().join("target/test-env/demo-ts"));
    step("the demo in TypeScript", &mut demo)
}
