//! `migrate`: the tables of the shared database, apart from any start of a server.

use anyhow::{Context, bail};
use clap::Args;
use threadyard_backends::PostgresStorage;

use crate::sharing::DatabaseArgs;

#[derive(Args, Debug)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    database: DatabaseArgs,
    /// Changes nothing; fails when something would have to be changed.
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(args: MigrateArgs) -> anyhow::Result<()> {
    let config = args.database.postgres()?.context("name the database with --database-uri or DATABASE_URI")?;
    if args.check {
        let pending = PostgresStorage::pending_migrations(&config).await?;
        if !pending.is_empty() {
            bail!("{} to be done: {}; `threadyard migrate` does them", count(pending.len()), pending.join(", "));
        }
    } else {
        let done = PostgresStorage::migrate(&config).await?;
        for name in &done {
            println!("done: {name}");
        }
    }
    println!("the database is up to date");
    Ok(())
}

fn count(migrations: usize) -> String {
    if migrations == 1 { "1 migration is".into() } else { format!("{migrations} migrations are") }
}
