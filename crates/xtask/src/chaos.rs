//! `cargo xtask chaos webhooks|runs|replicas`: kills the release binary over and over, and checks that nothing is lost or doubled.

use std::path::Path;

use clap::{Args, Subcommand};

use crate::{
    python,
    shell::{command, root, step},
    test::PYTHON_PACKAGES,
};

/// What to break.
#[derive(Subcommand)]
pub(crate) enum Chaos {
    /// Webhooks: in each window of a crash, then at random under load.
    Webhooks(Webhooks),
    /// Runs: at named points, then the server and its workers at random under load.
    Runs(Runs),
    /// Replicas: servers, their clocks, PostgreSQL and Redis, one after the other under load.
    Replicas(Replicas),
}

/// How long to go on.
#[derive(Args)]
pub(crate) struct Webhooks {
    /// How often the server is killed in each window
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// For how many minutes it is killed at random
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// How many runs a second are asked for meanwhile
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
}

/// How often to kill.
#[derive(Args)]
pub(crate) struct Runs {
    /// How often the server is killed at each point
    #[arg(long, default_value_t = 50)]
    kills: u32,
    /// How often the server or a worker is killed at random
    #[arg(long, default_value_t = 500)]
    random: u32,
}

/// How much to break.
#[derive(Args)]
pub(crate) struct Replicas {
    /// A little of each
    #[arg(long)]
    short: bool,
    /// Only this, by the name of its function in `chaos/replicas.py`; may be given again
    #[arg(long)]
    only: Vec<String>,
}

pub(crate) fn run(chaos: &Chaos) -> anyhow::Result<()> {
    let environment = root().join("target/test-env/py");
    let python = python::environment(&environment, PYTHON_PACKAGES)?;
    step("building", command("cargo").args(["build", "--release", "--package", "threadyard"]))?;
    let binary = root().join("target/release/threadyard");
    match chaos {
        Chaos::Webhooks(options) => webhooks(&python, &binary, &environment, options),
        Chaos::Runs(options) => runs(&python, &binary, &environment, options),
        Chaos::Replicas(options) => replicas(&python, &binary, &environment, options),
    }
}

/// A few kills of each kind, to see that nothing has become brittle.
pub(crate) fn few(python: &Path, binary: &Path, environment: &Path) -> anyhow::Result<()> {
    webhooks(python, binary, environment, &Webhooks { kills: 2, minutes: 0.3, rate: 20.0 })?;
    runs(python, binary, environment, &Runs { kills: 2, random: 15 })?;
    replicas(python, binary, environment, &Replicas { short: true, only: Vec::new() })
}

fn replicas(python: &Path, binary: &Path, environment: &Path, options: &Replicas) -> anyhow::Result<()> {
    let mut chaos = command(python);
    chaos.arg("chaos/replicas.py").arg("--binary").arg(binary).env("VIRTUAL_ENV", environment);
    chaos.args(options.short.then_some("--short"));
    chaos.args(options.only.iter().flat_map(|name| ["--only", name]));
    step("breaking what replicas share", &mut chaos)
}

fn runs(python: &Path, binary: &Path, environment: &Path, options: &Runs) -> anyhow::Result<()> {
    let mut chaos = command(python);
    chaos.arg("chaos/runs.py").arg("--binary").arg(binary).env("VIRTUAL_ENV", environment);
    let (kills, random) = (options.kills.to_string(), options.random.to_string());
    step("killing runs", chaos.args(["--kills", &kills, "--random", &random]))
}

fn webhooks(python: &Path, binary: &Path, environment: &Path, options: &Webhooks) -> anyhow::Result<()> {
    let mut chaos = command(python);
    chaos.arg("chaos/webhooks.py").arg("--binary").arg(binary).env("VIRTUAL_ENV", environment);
    chaos.args(["--kills", &options.kills.to_string(), "--minutes", &options.minutes.to_string()]);
    step("killing webhooks", chaos.args(["--rate", &options.rate.to_string()]))
}
