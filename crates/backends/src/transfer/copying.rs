//! Rows on their way from one database to another, and what has to hold before they go.

use futures_util::{TryStreamExt, try_join};

use super::{
    Begun, Comparison, Extent, Listener, Mark, Origin, Progress, Resting, Result, Step, Transfer, TransferError, Use,
    comparing::compare_tables,
    open, tables,
    tables::{EMBEDDINGS, Table},
    values::{Sum, Value},
};

/// Brings everything over, or goes on with that, and compares both sides. When they are the same the target may be
/// served; otherwise it stays an unfinished import.
pub async fn import(transfer: &Transfer, heard: Listener<'_>) -> Result<Vec<Comparison>> {
    let (source, target) = open(transfer, Use::Fill).await?;
    let marks = begin(&*source, &*target, transfer.embeddings).await?;
    target.note_key().await?;
    for table in tables(transfer.embeddings) {
        let begun = marks.iter().find(|mark| mark.table == table.name).cloned();
        let mark = begun.unwrap_or(Mark { table: table.name.into(), rows: 0, last: None });
        copy(&*source, &*target, table, mark, heard).await?;
    }
    let comparisons = compare_tables(&*source, &*target, transfer.embeddings, heard).await?;
    if comparisons.iter().all(Comparison::is_same) {
        target.finish().await?;
    }
    Ok(comparisons)
}

/// Finds the target empty, or as an earlier attempt has left it: how far that came.
async fn begin(source: &dyn Resting, target: &dyn Resting, embeddings: bool) -> Result<Vec<Mark>> {
    refuse_unfinished(source).await?;
    let origin = origin(source).await?;
    let begun = target.begun().await?;
    if let Some(Begun { origin: found, .. }) = &begun
        && found.fingerprint != origin.fingerprint
    {
        return Err(TransferError::OtherSource { name: target.name(), found: found.name.clone() });
    }
    if begun.is_none() {
        refuse_occupied(target).await?;
    }
    if embeddings {
        admit_embeddings(source, target).await?;
    }
    match begun {
        Some(begun) => Ok(begun.marks),
        None => target.begin(&origin).await.map(|()| Vec::new()),
    }
}

async fn refuse_occupied(target: &dyn Resting) -> Result<()> {
    let nouns = target.occupied().await?;
    if nouns.is_empty() {
        return Ok(());
    }
    Err(TransferError::Occupied { name: target.name(), nouns: nouns.join(", ") })
}

/// Half of a database is no source.
async fn refuse_unfinished(source: &dyn Resting) -> Result<()> {
    match source.begun().await? {
        None => Ok(()),
        Some(begun) => Err(TransferError::OtherSource { name: source.name(), found: begun.origin.name }),
    }
}

/// Tells a source from others, and from itself after it was used again.
async fn origin(source: &dyn Resting) -> Result<Origin> {
    let mut fingerprint = Sum::default();
    for table in tables(true) {
        let Extent { rows, last } = source.extent(table).await?;
        let mut row = last.unwrap_or_default();
        row.extend([Value::Text(table.name.into()), Value::Integer(rows.cast_signed())]);
        fingerprint += Sum::of(&row);
    }
    Ok(Origin { name: source.name(), fingerprint: fingerprint.digest() })
}

async fn admit_embeddings(source: &dyn Resting, target: &dyn Resting) -> Result<()> {
    for table in tables(true).filter(|table| table.name == EMBEDDINGS) {
        let count = source.extent(table).await?.rows;
        if count > 0
            && let Err(why) = target.admit_embeddings().await?
        {
            return Err(TransferError::Embeddings { count, why });
        }
    }
    Ok(())
}

/// Brings over what of a table has not come yet. While a batch is written the next one is read.
async fn copy(
    source: &dyn Resting,
    target: &dyn Resting,
    table: &'static Table,
    mut mark: Mark,
    heard: Listener<'_>,
) -> Result<()> {
    let of = source.extent(table).await?.rows;
    heard(Progress { step: Step::Copying, noun: table.noun, rows: mark.rows, of, bytes: 0 });
    let mut batches = source.rows(table, mark.last.clone()).await?;
    let mut next = batches.try_next().await?;
    while let Some(batch) = next {
        let (bytes, rows) = (batch.bytes as u64, mark.rows + batch.rows.len() as u64);
        let moved = Mark { rows, last: Some(batch.last.clone()), ..mark.clone() };
        let written = target.write(table, batch, (mark, moved.clone()));
        ((), next) = try_join!(written, batches.try_next())?;
        mark = moved;
        heard(Progress { step: Step::Copying, noun: table.noun, rows, of, bytes });
    }
    Ok(())
}
