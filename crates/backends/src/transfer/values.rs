//! What rows hold, whatever database they are in, and sums that tell whether two tables hold the same.

use std::ops::AddAssign;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// What a column of a row holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Flag(bool),
    Id(Uuid),
    Text(String),
    Bytes(Vec<u8>),
    Labels(Vec<String>),
}

/// What a row holds, in the order of its table's columns.
pub(crate) type Row = Vec<Value>;
/// Which row of its table it is.
pub(crate) type Key = Vec<Value>;

impl Value {
    /// How much memory it takes, roughly.
    fn len(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Flag(_) => 1,
            Self::Integer(_) => 8,
            Self::Id(_) => 16,
            Self::Text(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::Labels(labels) => labels.iter().map(String::len).sum(),
        }
    }

    fn digest(&self, into: &mut Sha256) {
        let mut part = |kind: u8, bytes: &[u8]| {
            into.update([kind]);
            into.update((bytes.len() as u64).to_le_bytes());
            into.update(bytes);
        };
        match self {
            Self::Null => part(0, &[]),
            Self::Integer(number) => part(1, &number.to_le_bytes()),
            Self::Flag(flag) => part(2, &[u8::from(*flag)]),
            Self::Id(id) => part(3, id.as_bytes()),
            Self::Text(text) => part(4, text.as_bytes()),
            Self::Bytes(bytes) => part(5, bytes),
            Self::Labels(labels) => {
                part(6, &(labels.len() as u64).to_le_bytes());
                for label in labels {
                    part(4, label.as_bytes());
                }
            }
        }
    }
}

/// A batch has no more rows than this, and none behind so many bytes.
const ROWS: usize = 1_000;
const BYTES: usize = 8 << 20;

/// Some rows of a table, in order.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) rows: Vec<Row>,
    pub(crate) bytes: usize,
    /// Which one the last is.
    pub(crate) last: Key,
}

impl Batch {
    /// Adds a row. Says whether that makes it full.
    pub(crate) fn push(&mut self, row: Row, key: Key) -> bool {
        self.bytes += row.iter().map(Value::len).sum::<usize>();
        self.rows.push(row);
        self.last = key;
        self.rows.len() >= ROWS || self.bytes >= BYTES
    }
}

/// What rows come to, in whatever order they are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many there are.
    pub rows: u64,
    /// What they hold, in bytes.
    pub bytes: u64,
    digest: [u64; 4],
}

impl Sum {
    /// The sum of one row.
    pub(crate) fn of(row: &Row) -> Self {
        let mut digest = Sha256::new();
        for value in row {
            value.digest(&mut digest);
        }
        let digest = digest.finalize();
        let word = |nth: usize| u64::from_le_bytes(std::array::from_fn(|byte| digest[nth * 8 + byte]));
        Self { rows: 1, bytes: row.iter().map(Value::len).sum::<usize>() as u64, digest: std::array::from_fn(word) }
    }

    /// The digest as people see it.
    pub fn digest(&self) -> String {
        let [a, b, c, d] = self.digest;
        format!("{a:016x}{b:016x}{c:016x}{d:016x}")
    }
}

impl AddAssign for Sum {
    /// Digests are added and not, say, exclusively or'd, so that two equal rows are not as none.
    fn add_assign(&mut self, more: Self) {
        self.rows += more.rows;
        self.bytes += more.bytes;
        for (word, more) in self.digest.iter_mut().zip(more.digest) {
            *word = word.wrapping_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(rows: &[Row]) -> Sum {
        let mut sum = Sum::default();
        for row in rows {
            sum += Sum::of(row);
        }
        sum
    }

    #[test]
    fn a_sum_sees_every_difference_but_the_order() {
        let text = |text: &str| Value::Text(text.into());
        let (a, b) = (vec![text("a"), text("bc")], vec![text("ab"), text("c")]);
        assert_eq!(sum(&[a.clone(), b.clone()]), sum(&[b.clone(), a.clone()]));
        let labels = |labels: &[&str]| vec![Value::Labels(labels.iter().map(ToString::to_string).collect())];
        for (one, other) in [
            (vec![a.clone()], vec![b.clone()]),
            (vec![a.clone(), a.clone()], vec![b.clone(), b]),
            (vec![a.clone(), a], vec![]),
            (vec![vec![Value::Null, text("")]], vec![vec![text(""), Value::Null]]),
            (vec![labels(&["a", "b"])], vec![labels(&["a"]), labels(&["b"])]),
            (vec![labels(&["ab"])], vec![labels(&["a", "b"])]),
        ] {
            assert_ne!(sum(&one), sum(&other));
        }
    }

    #[test]
    fn a_batch_is_full_of_rows_or_of_bytes() {
        let mut batch = Batch::default();
        let small = (0..1_000).map(|n| batch.push(vec![Value::Null], vec![Value::Integer(n)]));
        assert_eq!(small.filter(|full| *full).count(), 1);
        assert_eq!(batch.last, [Value::Integer(999)]);
        assert!(Batch::default().push(vec![Value::Bytes(vec![0; BYTES])], Vec::new()));
    }
}
