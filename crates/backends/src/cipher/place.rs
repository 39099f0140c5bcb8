//! Where values are: what is sealed for one place opens in no other.
//!
//! A place is told by what stays the same when a thread is copied, or a database goes into another: checkpoints are told
//! without their thread, events without their number.

use threadyard_core::storage::StorageError;
use uuid::Uuid;

/// The place of a value that is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// A column of a run.
    Run(&'static str, Uuid),
    /// A column of a thread.
    Thread(&'static str, Uuid),
    /// A column of a cron.
    Cron(&'static str, Uuid),
    /// A column of a webhook delivery.
    Delivery(&'static str, &'a str),
    /// The body of a webhook delivery.
    Body(&'a str),
    /// A column of a push config.
    PushConfig(&'static str, Uuid, &'a str),
    /// What a run has said.
    Event { run: Uuid, name: &'a str },
    /// A column of a checkpoint.
    Checkpoint { column: &'static str, ns: &'a str, id: &'a str },
    /// A value of a channel.
    Blob { ns: &'a str, channel: &'a str, version: &'a str, growth: Growth<'a> },
    /// A pending write.
    Write { ns: &'a str, checkpoint: &'a str, task: &'a str, idx: i64, channel: &'a str, kind: &'a str },
    /// The value of a store item.
    Item { namespace: &'a [String], key: &'a str },
    /// What shows whether a key is the right one.
    Check,
}

/// How a value is made from an earlier one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth<'a> {
    pub(crate) kind: &'a str,
    pub(crate) base: Option<&'a str>,
    pub(crate) shared: [i64; 3],
    pub(crate) packed: bool,
}

impl Place<'_> {
    pub(crate) fn table(&self) -> &'static str {
        match self {
            Self::Run(..) => "run",
            Self::Thread(..) => "thread",
            Self::Cron(..) => "cron",
            Self::Delivery(..) => "delivery",
            Self::Body(_) => "delivery_body",
            Self::PushConfig(..) => "push_config",
            Self::Event { .. } => "event",
            Self::Checkpoint { .. } => "checkpoint",
            Self::Blob { .. } => "blob",
            Self::Write { .. } => "pending_write",
            Self::Item { .. } => "item",
            Self::Check => "encryption_key",
        }
    }

    pub(crate) fn column(&self) -> &'static str {
        match self {
            Self::Run(column, _)
            | Self::Thread(column, _)
            | Self::Cron(column, _)
            | Self::Delivery(column, _)
            | Self::PushConfig(column, ..)
            | Self::Checkpoint { column, .. } => column,
            Self::Body(_) => "body",
            Self::Event { .. } | Self::Blob { .. } | Self::Write { .. } => "data",
            Self::Item { .. } => "value",
            Self::Check => "sealed",
        }
    }

    /// What a value is sealed together with, behind how and with which key it is sealed.
    pub(super) fn associated(&self, sealing: &[u8]) -> Vec<u8> {
        let (table, column) = (self.table(), self.column());
        let mut written = Written(sealing.to_vec());
        written.texts([table, column]);
        match *self {
            Self::Run(_, id) | Self::Thread(_, id) | Self::Cron(_, id) => written.add(id.as_bytes()),
            Self::Delivery(_, id) | Self::Body(id) => written.texts([id]),
            Self::PushConfig(_, run, id) => {
                written.add(run.as_bytes());
                written.texts([id]);
            }
            Self::Event { run, name } => {
                written.add(run.as_bytes());
                written.texts([name]);
            }
            Self::Checkpoint { ns, id, .. } => written.texts([ns, id]),
            Self::Blob { ns, channel, version, growth: Growth { kind, base, shared, packed } } => {
                written.texts([ns, channel, version, kind, base.unwrap_or_default()]);
                written.numbers(shared);
                written.add(&[u8::from(packed), u8::from(base.is_some())]);
            }
            Self::Write { ns, checkpoint, task, idx, channel, kind } => {
                written.texts([ns, checkpoint, task, channel, kind]);
                written.numbers([idx]);
            }
            Self::Item { namespace, key } => {
                written.texts([key]);
                written.texts(namespace.iter().map(String::as_str));
            }
            Self::Check => {}
        }
        written.0
    }

    /// The news that a value can't be read.
    pub(super) fn unreadable(&self, why: &str) -> StorageError {
        StorageError::Corrupt { table: self.table(), row: self.row(), why: format!("{}: {why}", self.column()) }
    }

    fn row(&self) -> String {
        match *self {
            Self::Run(_, id) | Self::Thread(_, id) | Self::Cron(_, id) | Self::Event { run: id, .. } => id.to_string(),
            Self::Delivery(_, id) | Self::Body(id) | Self::Checkpoint { id, .. } => id.to_owned(),
            Self::PushConfig(_, run, id) => format!("{run} {id}"),
            Self::Blob { channel, version, .. } => format!("{channel} {version}"),
            Self::Write { checkpoint, task, .. } => format!("{checkpoint} {task}"),
            Self::Item { namespace, key } => format!("{} {key}", namespace.join(".")),
            Self::Check => String::new(),
        }
    }
}

/// Parts that can't be taken for others: each stands behind its length.
struct Written(Vec<u8>);

impl Written {
    fn add(&mut self, part: &[u8]) {
        self.0.extend_from_slice(&(part.len() as u64).to_le_bytes());
        self.0.extend_from_slice(part);
    }

    fn texts<'a>(&mut self, texts: impl IntoIterator<Item = &'a str>) {
        for text in texts {
            self.add(text.as_bytes());
        }
    }

    fn numbers(&mut self, numbers: impl IntoIterator<Item = i64>) {
        for number in numbers {
            self.add(&number.to_le_bytes());
        }
    }
}
