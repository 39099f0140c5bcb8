//! The tables, and how they come to be: migrations, done once, in order, by whichever server starts first.

use std::future::Future;

use futures_util::future::{Either, select};
use tokio_postgres::{Client, error::SqlState};

use super::{config::PostgresConfig, failures::said};
use crate::cipher::KeyMismatch;

mod embedded {
    refinery::embed_migrations!("src/postgres/migrations");
}

/// Whoever migrates holds the lock of this number.
const MIGRATING: i64 = 0x7468_7265_6164_7961;

/// Why a database could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum PostgresOpenError {
    /// It does not answer, or refuses us.
    #[error("the PostgreSQL database can't be reached: {0}")]
    Unreachable(String),
    /// A newer server has been here.
    #[error("the database has the tables of a newer server (version {found}, this one knows {known}); start that one")]
    Newer {
        /// The version of the tables.
        found: i32,
        /// The newest that this server knows.
        known: i32,
    },
    /// Not everything of another database has come yet.
    #[error(
        "the database holds an unfinished import of `{0}`; finish it with the same `threadyard import`, or empty the \
         database and start over"
    )]
    Unfinished(String),
    /// What is in it was encrypted with keys that are not here.
    #[error(transparent)]
    Keys(#[from] KeyMismatch),
    /// Its tables could not be made or changed.
    #[error("the tables of the PostgreSQL database can't be brought up to date: {0}")]
    Migration(String),
}

impl From<tokio_postgres::Error> for PostgresOpenError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Unreachable(said(&error))
    }
}

/// Brings the tables up to date, and says which migrations that took.
pub(super) async fn migrate(config: &PostgresConfig) -> Result<Vec<String>, PostgresOpenError> {
    if pending(config).await?.is_empty() {
        return Ok(Vec::new());
    }
    // The lock ends with a transaction and not with a session, since PgBouncer may give each transaction another one;
    // so one connection holds it while the other migrates.
    with_connection(config, async |mut guard| {
        let lock = guard.transaction().await?;
        lock.execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATING]).await?;
        let done = with_connection(config, async |mut client| {
            let runner = embedded::migrations::runner().set_grouped(true);
            let report = runner.run_async(&mut client).await;
            let report = report.map_err(|error| PostgresOpenError::Migration(error.to_string()))?;
            Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
        })
        .await;
        lock.commit().await?;
        done
    })
    .await
}

/// The migrations that have not been done yet.
pub(super) async fn pending(config: &PostgresConfig) -> Result<Vec<String>, PostgresOpenError> {
    let mut ours = embedded::migrations::runner().get_migrations().clone();
    ours.sort();
    let found = with_connection(config, async |client| newest(&client).await).await?;
    let known = ours.last().map_or(0, refinery::Migration::version);
    if found > known {
        return Err(PostgresOpenError::Newer { found, known });
    }
    Ok(ours.into_iter().filter(|it| it.version() > found).map(|it| it.to_string()).collect())
}

/// The version of the tables; zero where there are none.
async fn newest(client: &Client) -> Result<i32, PostgresOpenError> {
    match client.query_one("SELECT coalesce(max(version), 0) FROM refinery_schema_history", &[]).await {
        Ok(row) => Ok(row.try_get(0)?),
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Opens a connection for as long as something is done on it.
pub(super) async fn with_connection<T, F: Future<Output = Result<T, PostgresOpenError>>>(
    config: &PostgresConfig,
    work: impl FnOnce(Client) -> F,
) -> Result<T, PostgresOpenError> {
    let (client, connection) = config.connect().await?;
    let (connection, work) = (Box::pin(connection), Box::pin(work(client)));
    match select(work, connection).await {
        Either::Left((outcome, _)) => outcome,
        // The connection has broken, and what was done on it hears of that.
        Either::Right((_, work)) => work.await,
    }
}
