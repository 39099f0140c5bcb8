//! What the program can be told to do.

mod demo;
mod doctor;
mod import;
mod keys;
mod migrate;
mod serve;
mod webhooks;

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};
use threadyard_runtime::ProjectError;

use crate::{api::document, config::ServerArgs, encryption::EncryptionError, sharing::SharingArgs};

/// The LangGraph Server API as one self-hosted binary.
#[derive(Parser, Debug)]
#[command(name = "threadyard", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Shows everything at work on an example: a chat graph, a streamed run, its webhook.
    Demo(demo::DemoArgs),
    /// Serves the graphs of a project for development: reloads changed code.
    Dev {
        #[command(flatten)]
        server: ServerArgs,
        /// Don't reload changed code.
        #[arg(long)]
        no_reload: bool,
        /// Accepted for compatibility: no browser is ever opened.
        #[arg(long)]
        no_browser: bool,
    },
    /// Serves the graphs of a project in production.
    Serve {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        sharing: SharingArgs,
    },
    /// Says what `serve` would do with these flags, variables and files, and where each of them comes from.
    Doctor {
        #[command(flatten)]
        server: ServerArgs,
        #[command(flatten)]
        sharing: SharingArgs,
    },
    /// Brings everything that one database holds into another: from a data folder to `PostgreSQL`, or back.
    Import(import::ImportArgs),
    /// Makes, lists and revokes the API keys of a server, whether it runs or not.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Brings the tables of a `PostgreSQL` database up to date, as `serve` does when it starts.
    Migrate(migrate::MigrateArgs),
    /// Prints the OpenAPI document of the API.
    Openapi,
    /// Receives, checks and prints webhooks; shows and rotates the keys they are signed with.
    #[command(subcommand)]
    Webhooks(webhooks::WebhooksCommand),
}

/// Does what the command line says.
pub async fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Dev { server, no_reload, no_browser: _ } => serve::dev(&server, !no_reload).await,
        Command::Serve { server, sharing } => serve::serve(&server, sharing).await,
        Command::Doctor { server, sharing } => doctor::run(&server, &sharing),
        Command::Import(args) => import::run(args).await,
        Command::Keys(command) => keys::run(command).await,
        Command::Migrate(args) => migrate::run(args).await,
        Command::Openapi => openapi(),
        Command::Webhooks(command) => webhooks::run(command).await,
    }
}

fn openapi() -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, document())?;
    Ok(writeln!(out)?)
}

/// 2 for what the user can change in flags or configuration, 1 for the rest.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let usage = error.is::<ProjectError>()
        || error.is::<EncryptionError>()
        || error.is::<serve::AddressError>()
        || error.is::<serve::NoJobsError>();
    ExitCode::from(if usage { 2 } else { 1 })
}

/// A line of progress for people.
fn progress(line: &str) {
    eprintln!("  · {line}");
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
