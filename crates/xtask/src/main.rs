//! Repository chores: `cargo xtask test` sets up and runs everything, `cargo xtask bench` measures, `cargo xtask
//! chaos` kills, `cargo xtask tidy` checks conventions.

mod bench;
mod chaos;
mod conformance;
mod node;
mod platform;
mod python;
mod ratchet;
mod services;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Repository chores.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Sets up what the tests need, and runs all of them.
    Test(test::Options),
    /// Measures the CPU per run next to the bare graphs.
    Bench(bench::Options),
    /// Kills the server over and over, and checks that nothing is lost.
    #[command(subcommand)]
    Chaos(chaos::Chaos),
    /// Checks the conventions of docs/STYLE.md.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().chore {
        Chore::Test(options) => test::run(&options),
        Chore::Bench(options) => bench::run(&options),
        Chore::Chaos(chaos) => chaos::run(&chaos),
        Chore::Tidy => tidy::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
