//! `cargo xtask bench`: CPU per run of the release binary next to the bare graphs, and next to another server.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::{
    node, python,
    shell::{command, root, step},
};

/// The language of the graphs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Python,
    Ts,
}

/// What to measure.
#[derive(Args)]
pub(crate) struct Options {
    /// The language of the graphs: those of bench/project, or of bench/project-ts
    #[arg(long, value_enum, default_value_t = Language::Python, conflicts_with_all = ["wide", "scale"])]
    lang: Language,
    /// Another server on this machine that serves the same graphs, to be measured in the same rounds
    #[arg(long, value_name = "URL")]
    peer: Option<String>,
    /// How often everything is measured; medians are reported
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Keep state in PostgreSQL and Redis of this machine, and count their CPU as well
    #[arg(long, conflicts_with = "wide")]
    shared: bool,
    /// Instead: starts, reads, many readers, idle connections, slow streams, memory, disk
    #[arg(long)]
    wide: bool,
    /// Instead: one, two and four servers that share PostgreSQL and Redis
    #[arg(long, conflicts_with_all = ["wide", "shared"])]
    scale: bool,
    /// The folder for the table and the plot
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let environment = root().join("target/bench-env");
    let python = python::environment(&environment, "bench/requirements.txt")?;
    step("building", command("cargo").args(["build", "--release", "--package", "threadyard"]))?;
    let binary = root().join("target/release/threadyard");
    let mut bench = command(python);
    bench.env("VIRTUAL_ENV", &environment);
    let apart = [(options.wide, "bench/wide.py"), (options.scale, "bench/scale.py")];
    if let Some((_, program)) = apart.iter().find(|(wanted, _)| *wanted) {
        return step("measuring", bench.arg(program).arg("--binary").arg(binary));
    }
    bench.arg("bench/run.py").arg("--binary").arg(binary);
    bench.arg("--out").arg(&options.out).args(["--rounds", &options.rounds.to_string()]);
    if options.lang == Language::Ts {
        let packages = node::packages(&root().join("target/bench-env/node"), node::GRAPH_PACKAGES)?;
        let project = node::project(&packages, &root().join("bench/project-ts"), "project")?;
        bench.arg("--typescript").arg(project);
    }
    if options.shared {
        bench.arg("--shared");
    }
    if let Some(peer) = &options.peer {
        bench.args(["--peer", peer]);
    }
    step("measuring", &mut bench)
}
