//! A PostgreSQL database at rest, as one end of an import.

use std::{
    pin::{Pin, pin},
    sync::Arc,
};

use async_trait::async_trait;
use futures_util::{
    StreamExt, TryStreamExt, stream,
    stream::{BoxStream, Fuse},
};
use threadyard_core::storage::StorageError;
use tokio_postgres::{RowStream, binary_copy::BinaryCopyInWriter, error::SqlState};

use super::{
    Client, Pool,
    config::PostgresConfig,
    failures::Done,
    known_keys,
    rows::{Parameter, all, execute, first, get, one},
    schema::{self, PostgresOpenError},
    transaction::{self, Work},
    transfer_rows::{Derived, Stored, derived, derived_columns, expression, values},
    vectors,
};
use crate::{
    cipher::Cipher,
    transfer::{
        Begun, Extent, Mark, Origin, Resting, TransferError, Use, sealing,
        tables::{EMBEDDINGS, Kind, MADE_AT_START, TABLES, Table},
        values::{Batch, Key, Value},
    },
};

type Result<T, E = TransferError> = std::result::Result<T, E>;

/// How the database knows the connections of an import.
const APPLICATION: &str = "threadyard import";

/// How far an unfinished import is. The table is there for as long as there is one.
const MARKS: &str = "CREATE TABLE transfer (
    noun text PRIMARY KEY,
    source text NOT NULL,
    fingerprint text NOT NULL,
    rows bigint NOT NULL,
    last text
)";

/// A database that no server is connected to.
pub(crate) struct RestingPostgres {
    name: String,
    config: PostgresConfig,
    cipher: Cipher,
    pool: Pool,
    /// All that is read is of one moment, unless it is also written.
    snapshot: Option<Arc<Client>>,
}

impl RestingPostgres {
    /// Opens a database that nobody uses.
    pub(crate) async fn open(config: &PostgresConfig, wanted: Use, cipher: &Cipher) -> Result<Self> {
        let name = config.place();
        let servers = config.application().to_owned();
        let config = config.named(APPLICATION);
        let pool = Pool::new(&config, 2, cipher)?;
        if wanted == Use::Read && !has_tables(&config).await? {
            return Err(TransferError::Missing(name));
        }
        schema::migrate(&config).await?;
        let known = schema::with_connection(&config, async |client| known_keys::known(&client).await).await?;
        cipher.admit(&known).map_err(|source| TransferError::Keys { name: name.clone(), source })?;
        let client = pool.get().await?;
        if wanted == Use::Read {
            let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
            client.batch_execute(begin).await.map_err(|error| super::failures::failure(&error))?;
        }
        if let Some(by) = users(&client, &servers).await.map_err(StorageError::from)? {
            return Err(TransferError::InUse { name, by });
        }
        let snapshot = (wanted == Use::Read).then(|| Arc::new(client));
        Ok(Self { name, config, cipher: cipher.clone(), pool, snapshot })
    }

    async fn client(&self) -> Result<Arc<Client>> {
        match &self.snapshot {
            Some(snapshot) => Ok(snapshot.clone()),
            None => Ok(Arc::new(self.pool.get().await?)),
        }
    }

    async fn transact<I: Sync + Send, T: Send>(
        &self,
        input: I,
        work: impl for<'c> Fn(&'c Client, &'c I) -> Work<'c, T> + Send + Sync,
    ) -> Result<T> {
        Ok(transaction::transact(&self.pool, &input, work).await?)
    }
}

/// Where an import comes from that has not been finished.
pub(super) async fn unfinished(config: &PostgresConfig) -> Result<Option<String>, PostgresOpenError> {
    schema::with_connection(config, async |client| {
        match client.query_opt("SELECT source FROM transfer LIMIT 1", &[]).await {
            Ok(row) => Ok(row.map(|row| row.try_get(0)).transpose()?),
            Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .await
}

async fn has_tables(config: &PostgresConfig) -> Result<bool, PostgresOpenError> {
    let sql = "SELECT to_regclass('run') IS NOT NULL";
    schema::with_connection(config, async |client| Ok(client.query_one(sql, &[]).await?.try_get(0)?)).await
}

/// Who may change something at any moment: holders of leases, and servers that are connected.
async fn users(client: &Client, servers: &str) -> Done<Option<String>> {
    let sql = "WITH now AS (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS at)
         SELECT (SELECT count(*) FROM run, now WHERE status = 'running' AND lease_until > at) AS runs,
             (SELECT count(*) FROM delivery, now
              WHERE state = 'pending' AND lease_id IS NOT NULL AND next_attempt_at > at) AS deliveries,
             (SELECT string_agg(DISTINCT coalesce(host(client_addr), 'this machine'), ', ') FROM pg_stat_activity
              WHERE datname = current_database() AND application_name = $1 AND pid <> pg_backend_pid()) AS servers";
    let row = one(client, sql, &[&servers]).await?;
    let (runs, deliveries): (i64, i64) = (get(&row, "runs")?, get(&row, "deliveries")?);
    let servers: Option<String> = get(&row, "servers")?;
    let mut by: Vec<_> = servers.map(|them| format!("servers are connected from {them}")).into_iter().collect();
    if runs + deliveries > 0 {
        by.push(format!("{runs} runs and {deliveries} deliveries are leased"));
    }
    Ok((!by.is_empty()).then(|| by.join(", and ")))
}

#[async_trait]
impl Resting for RestingPostgres {
    fn name(&self) -> String {
        self.name.clone()
    }

    async fn extent(&self, table: &'static Table) -> Result<Extent> {
        let client = self.client().await?;
        Ok(extent(&client, table).await.map_err(StorageError::from)?)
    }

    async fn rows(&self, table: &'static Table, after: Option<Key>) -> Result<BoxStream<'static, Result<Batch>>> {
        let client = self.client().await?;
        if !is_there(&client, table).await.map_err(StorageError::from)? {
            return Ok(stream::empty().boxed());
        }
        let rows = stream(&client, table, after).await.map_err(StorageError::from)?;
        // The connection stays out of the pool for as long as it is read from.
        let next = move |(client, mut rows): (Arc<Client>, _)| async move {
            let batch = batch(client.cipher(), &mut rows, table).await.map_err(StorageError::from)?;
            Ok((!batch.rows.is_empty()).then_some((batch, (client, rows))))
        };
        Ok(stream::try_unfold((client, Box::pin(rows.fuse())), next).boxed())
    }

    async fn occupied(&self) -> Result<Vec<&'static str>> {
        let client = self.client().await?;
        Ok(occupied(&client).await.map_err(StorageError::from)?)
    }

    async fn begun(&self) -> Result<Option<Begun>> {
        let client = self.client().await?;
        Ok(begun(&client).await.map_err(StorageError::from)?)
    }

    async fn begin(&self, origin: &Origin) -> Result<()> {
        self.transact(origin.clone(), |client, origin| Box::pin(begin(client, origin))).await
    }

    async fn note_key(&self) -> Result<()> {
        let admit = async |client| known_keys::admit(&client, &self.cipher).await;
        Ok(schema::with_connection(&self.config, admit).await?)
    }

    async fn admit_embeddings(&self) -> Result<Result<(), String>> {
        match vectors::prepare(&self.pool).await {
            Ok(()) => Ok(Ok(())),
            Err(StorageError::Unsupported(why)) => Ok(Err(why)),
            Err(error) => Err(error.into()),
        }
    }

    async fn write(&self, table: &'static Table, batch: Batch, (before, after): (Mark, Mark)) -> Result<()> {
        let moved = self.transact((batch, before.rows, after), move |client, (batch, before, after)| {
            Box::pin(async move {
                // What is lost with the machine is taken over again, since its mark is lost as well.
                client.batch_execute("SET LOCAL synchronous_commit = off").await?;
                copy(client, table, batch).await?;
                let sql = "UPDATE transfer SET rows = $2, last = $3 WHERE noun = $1 AND rows = $4";
                let (rows, before) = (after.rows.cast_signed(), before.cast_signed());
                let moved = execute(client, sql, &[&table.name, &rows, &after.stored()?, &before]).await?;
                Ok(moved == 1)
            })
        });
        if moved.await? { Ok(()) } else { Err(TransferError::Overtaken(self.name.clone())) }
    }

    async fn finish(&self) -> Result<()> {
        self.transact((), |client, ()| Box::pin(finish(client))).await?;
        let names: Vec<_> = TABLES.iter().map(|table| table.name).filter(|name| *name != EMBEDDINGS).collect();
        let analyze = format!("ANALYZE {}, thread_tag", names.join(", "));
        let client = self.client().await?;
        Ok(client.batch_execute(&analyze).await.map_err(|error| super::failures::failure(&error))?)
    }
}

/// Whether a table is there: one is made only when it is first needed.
async fn is_there(client: &Client, table: &Table) -> Done<bool> {
    if table.name == EMBEDDINGS { vectors::is_there(client).await } else { Ok(true) }
}

async fn extent(client: &Client, table: &'static Table) -> Done<Extent> {
    if !is_there(client, table).await? {
        return Ok(Extent { rows: 0, last: None });
    }
    let rows: i64 = get(&one(client, &format!("SELECT count(*) FROM {}", table.name), &[]).await?, 0)?;
    let last = format!("{} ORDER BY {} LIMIT 1", select(table), order(table, " DESC"));
    let last = first(client, &last, &[]).await?.map(|row| values(table, &row)).transpose()?;
    Ok(Extent { rows: rows.unsigned_abs(), last })
}

async fn occupied(client: &Client) -> Done<Vec<&'static str>> {
    let mut occupied = Vec::new();
    for table in &TABLES {
        let usual = MADE_AT_START.iter().find(|(name, _)| *name == table.name);
        let any = format!("SELECT EXISTS (SELECT 1 FROM {})", table.name);
        let more = usual.map_or(&*any, |(_, more)| more);
        if is_there(client, table).await? && get(&one(client, more, &[]).await?, 0)? {
            occupied.push(table.noun);
        }
    }
    Ok(occupied)
}

async fn begun(client: &Client) -> Done<Option<Begun>> {
    if get(&one(client, "SELECT to_regclass('transfer') IS NULL", &[]).await?, 0)? {
        return Ok(None);
    }
    let mut begun = None;
    for row in all(client, "SELECT source, fingerprint, noun, rows, last FROM transfer", &[]).await? {
        let origin = Origin { name: get(&row, "source")?, fingerprint: get(&row, "fingerprint")? };
        let begun = begun.get_or_insert(Begun { origin, marks: Vec::new() });
        begun.marks.push(Mark::read(get(&row, "noun")?, get(&row, "rows")?, get(&row, "last")?)?);
    }
    Ok(begun)
}

async fn begin(client: &Client, origin: &Origin) -> Done<()> {
    for (table, _) in MADE_AT_START {
        client.batch_execute(&format!("DELETE FROM {table}")).await?;
    }
    client.batch_execute(MARKS).await?;
    let names: Vec<_> = TABLES.iter().map(|table| table.name).collect();
    let sql = "INSERT INTO transfer (noun, source, fingerprint, rows)
         SELECT noun, $2, $3, 0 FROM unnest($1::text[]) AS noun";
    execute(client, sql, &[&names, &origin.name, &origin.fingerprint]).await.map(drop)
}

async fn finish(client: &Client) -> Done<()> {
    client.batch_execute("DROP TABLE transfer").await?;
    for Table { name, .. } in TABLES.iter().filter(|table| table.is_numbered()) {
        let sql = format!(
            "SELECT setval(pg_get_serial_sequence('{name}', 'k'), max(k)) FROM {name} HAVING max(k) IS NOT NULL"
        );
        all(client, &sql, &[]).await?;
    }
    Ok(())
}

async fn copy(client: &Client, table: &'static Table, batch: &Batch) -> Done<()> {
    let (names, more) = (table.columns.iter().map(|(name, _)| *name), derived_columns(table));
    let names: Vec<_> = names.chain(more.iter().copied()).map(|name| format!("\"{name}\"")).collect();
    let names = names.join(", ");
    let columns = client.prepare_cached(&format!("SELECT {names} FROM {}", table.name)).await?;
    let types: Vec<_> = columns.columns().iter().map(|column| column.type_().clone()).collect();
    let sink = client.copy_in(&format!("COPY {} ({names}) FROM STDIN (FORMAT binary)", table.name)).await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for row in &batch.rows {
        let mut sealed = row.clone();
        sealing::seal(client.cipher(), table, &mut sealed)?;
        let stored: Vec<_> = sealed.iter().zip(table.columns).map(|(value, (_, kind))| Stored(value, *kind)).collect();
        let derived: Vec<Derived> = derived(table, row)?;
        let stored = stored.iter().map(|it| it as Parameter<'_>);
        let row: Vec<_> = stored.chain(derived.iter().map(|it| it as Parameter<'_>)).collect();
        // What the database has against a row it says at the end.
        if let Err(error) = writer.as_mut().write(&row).await {
            return Err(writer.finish().await.err().unwrap_or(error).into());
        }
    }
    writer.finish().await?;
    Ok(())
}

async fn stream(client: &Client, table: &'static Table, after: Option<Key>) -> Done<RowStream> {
    let keys = order(table, "");
    let behind = match (&after, table.key) {
        (None, _) => String::new(),
        (Some(_), 0) => format!("WHERE {keys} > $1::text::tid"),
        (Some(_), key) => {
            let places: Vec<_> = (1..=key).map(|place| format!("${place}")).collect();
            format!("WHERE ({keys}) > ({})", places.join(", "))
        }
    };
    let sql = client.prepare(&format!("{} {behind} ORDER BY {keys}", select(table))).await?;
    let kinds = table.keys().iter().map(|(_, kind)| *kind).chain([Kind::Json]);
    let after = after.unwrap_or_default();
    let after: Vec<_> = after.iter().zip(kinds).map(|(value, kind)| Stored(value, kind)).collect();
    Ok(client.query_raw(&sql, after.iter().map(|it| it as Parameter<'_>)).await?)
}

async fn batch(cipher: &Cipher, rows: &mut Pin<Box<Fuse<RowStream>>>, table: &'static Table) -> Done<Batch> {
    let mut batch = Batch::default();
    while let Some(row) = rows.try_next().await? {
        let mut read = values(table, &row)?;
        sealing::open(cipher, table, &mut read)?;
        let key = if table.key == 0 { vec![Value::Text(get(&row, "place")?)] } else { read[..table.key].to_vec() };
        table.lay_to_rest(&mut read);
        if batch.push(read, key) {
            break;
        }
    }
    Ok(batch)
}

fn select(table: &Table) -> String {
    let columns: Vec<_> = table.columns.iter().map(expression).collect();
    let place = if table.key == 0 { ", ctid::text AS place" } else { "" };
    let owner = sealing::owner(table).map(|(owner, _)| format!(", {owner}")).unwrap_or_default();
    format!("SELECT {}{owner}{place} FROM {}", columns.join(", "), table.name)
}

fn order(table: &Table, direction: &str) -> String {
    let names = table.keys().iter().map(|(name, _)| *name);
    let names: Vec<_> = if table.key == 0 { vec!["ctid"] } else { names.collect() };
    names.into_iter().map(|name| format!("{name}{direction}")).collect::<Vec<_>>().join(", ")
}
