//! Whether two databases hold the same: every row of both is read and summed up, without keeping any.

use futures_util::{TryStreamExt, try_join};

use super::{Listener, Progress, Resting, Result, Step, Transfer, Use, open, tables, tables::Table, values::Sum};

/// What two tables come to.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// What is in them.
    pub noun: &'static str,
    /// What the first comes to.
    pub from: Sum,
    /// What the second comes to.
    pub to: Sum,
}

impl Comparison {
    /// Whether they hold the same rows.
    pub fn is_same(&self) -> bool {
        self.from == self.to
    }
}

/// Compares two databases, and changes nothing but their tables' version.
pub async fn compare(transfer: &Transfer, heard: Listener<'_>) -> Result<Vec<Comparison>> {
    let (from, to) = open(transfer, Use::Read).await?;
    compare_tables(&*from, &*to, transfer.embeddings, heard).await
}

pub(super) async fn compare_tables(
    from: &dyn Resting,
    to: &dyn Resting,
    embeddings: bool,
    heard: Listener<'_>,
) -> Result<Vec<Comparison>> {
    let mut comparisons = Vec::new();
    for table in tables(embeddings) {
        let of = from.extent(table).await?.rows;
        let said = |rows, bytes| Progress { step: Step::Comparing, noun: table.noun, rows, of, bytes };
        heard(said(0, 0));
        let mut silent = |_: &Sum, _| {};
        let mut told = |sum: &Sum, bytes| heard(said(sum.rows, bytes));
        let (from, to) = try_join!(sum(from, table, &mut told), sum(to, table, &mut silent))?;
        comparisons.push(Comparison { noun: table.noun, from, to });
    }
    Ok(comparisons)
}

async fn sum(database: &dyn Resting, table: &'static Table, told: &mut (dyn FnMut(&Sum, u64) + Send)) -> Result<Sum> {
    let mut batches = database.rows(table, None).await?;
    let mut sum = Sum::default();
    while let Some(batch) = batches.try_next().await? {
        for row in &batch.rows {
            sum += Sum::of(row);
        }
        told(&sum, batch.bytes as u64);
    }
    Ok(sum)
}
