//! The tables that go over, and what their columns hold.

use super::values::{Row, Value};

/// What a column holds, of which each database has a form of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Integer,
    Flag,
    Id,
    /// A text that may be anything.
    Text,
    /// JSON, or a word of ours: kept as it is everywhere.
    Json,
    Bytes,
    /// The name of a lineage.
    Thread,
    /// The labels of a namespace.
    Labels,
    Vector,
}

/// A column and its name.
pub(crate) type Column = (&'static str, Kind);

/// A table, without what follows from its other columns.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// What people call what is in it.
    pub(crate) noun: &'static str,
    pub(crate) columns: &'static [Column],
    /// So many of its columns, from the first, say which row it is. Without any, the row's place does.
    pub(crate) key: usize,
}

impl Table {
    /// The columns that say which row it is.
    pub(crate) fn keys(&self) -> &'static [Column] {
        &self.columns[..self.key]
    }

    /// Whether the database itself numbers its rows.
    pub(crate) fn is_numbered(&self) -> bool {
        self.columns[0].0 == "k"
    }

    /// Makes a row what it is when nobody is at it: whoever held a lease holds it no more.
    pub(crate) fn lay_to_rest(&self, row: &mut Row) {
        let place = |name: &str| self.columns.iter().position(|(column, _)| *column == name);
        if let ("run", Some(status), Some(until)) = (self.name, place("status"), place("lease_until")) {
            if row[status] == Value::Text("running".into()) {
                row[until] = Value::Integer(0);
            }
        } else if let ("delivery", Some(lease), Some(next)) = (self.name, place("lease_id"), place("next_attempt_at"))
            && row[lease] != Value::Null
        {
            row[lease] = Value::Null;
            row[next] = Value::Integer(0);
        }
    }
}

const fn int(name: &'static str) -> Column {
    (name, Kind::Integer)
}

const fn flag(name: &'static str) -> Column {
    (name, Kind::Flag)
}

const fn id(name: &'static str) -> Column {
    (name, Kind::Id)
}

const fn text(name: &'static str) -> Column {
    (name, Kind::Text)
}

const fn json(name: &'static str) -> Column {
    (name, Kind::Json)
}

const fn bytes(name: &'static str) -> Column {
    (name, Kind::Bytes)
}

/// What the texts of items mean: not every database can hold that.
pub(crate) const EMBEDDINGS: &str = "item_embedding";

/// Every table, in the order in which they go over.
#[rustfmt::skip]
pub(crate) static TABLES: [Table; 20] = [
    Table { name: "webhook_key", noun: "signing keys", key: 1, columns: &[
        int("version"), bytes("master"), int("created_at"), int("expires_at"),
    ] },
    Table { name: "api_key", noun: "API keys", key: 1, columns: &[
        text("id"), text("name"), text("identity"), json("scopes"), bytes("digest"), int("created_at"),
        int("expires_at"), int("revoked_at"), int("last_used_at"),
    ] },
    Table { name: "assistant", noun: "assistants", key: 1, columns: &[
        int("k"), id("id"), text("graph_id"), text("name"), text("description"), json("config"), json("context"),
        json("metadata"), int("version"), int("created_at"), int("updated_at"),
    ] },
    Table { name: "assistant_version", noun: "versions of assistants", key: 2, columns: &[
        int("assistant"), int("version"), text("graph_id"), text("name"), text("description"), json("config"),
        json("context"), json("metadata"), int("created_at"),
    ] },
    Table { name: "thread", noun: "threads", key: 1, columns: &[
        int("k"), id("id"), json("metadata"), json("config"), json("rest_status"), json("state_values"),
        json("interrupts"), json("error"), json("state"), json("state_revision"), int("created_at"), int("updated_at"),
        int("state_updated_at"), flag("copied"), int("ttl"), json("ttl_strategy"), int("expires_at"), int("ends_told"),
        int("tapes"),
    ] },
    Table { name: "run", noun: "runs", key: 1, columns: &[
        int("k"), id("id"), int("thread"), id("thread_id"), id("assistant_id"), text("graph_id"), json("status"),
        json("multitask"), json("metadata"), json("kwargs"), flag("webhooks_enabled"), int("attempt"), int("uncounted"),
        int("shared_losses"), int("due_at"), json("cancel"), id("lease_id"), int("lease_until"), json("error"),
        int("started_at"), flag("events_kept"), int("created_at"), int("updated_at"), text("user_id"),
    ] },
    Table { name: "event", noun: "kept events", key: 2, columns: &[
        int("run"), int("seq"), text("name"), bytes("data"),
    ] },
    Table { name: "lineage", noun: "lineages", key: 1, columns: &[int("k"), ("thread", Kind::Thread)] },
    Table { name: "checkpoint", noun: "checkpoints", key: 3, columns: &[
        int("lineage"), text("ns"), text("id"), text("parent"), bytes("checkpoint"), bytes("metadata"), id("run"),
        text("named_run"),
    ] },
    Table { name: "blob", noun: "values of channels", key: 4, columns: &[
        int("lineage"), text("ns"), text("channel"), text("version"), text("kind"), bytes("data"), text("base"),
        int("base_from"), int("head"), int("copied"), int("nth"), flag("packed"),
    ] },
    Table { name: "pending_write", noun: "pending writes", key: 5, columns: &[
        int("lineage"), text("ns"), text("checkpoint"), text("task"), int("idx"), text("path"), text("channel"),
        text("kind"), bytes("data"),
    ] },
    Table { name: "item", noun: "items", key: 2, columns: &[
        ("namespace", Kind::Labels), text("key"), json("value"), int("created_at"), int("updated_at"), int("ttl"),
        int("expires_at"),
    ] },
    Table { name: EMBEDDINGS, noun: "embeddings of items", key: 0, columns: &[
        ("namespace", Kind::Labels), text("key"), text("model"), ("vector", Kind::Vector),
    ] },
    Table { name: "cron", noun: "crons", key: 1, columns: &[
        int("k"), id("id"), id("assistant_id"), id("thread_id"), json("on_run_completed"), int("end_time"),
        text("schedule"), text("timezone"), flag("enabled"), json("metadata"), json("payload"), int("next_run_at"),
        int("created_at"), int("updated_at"), json("auth_user"),
    ] },
    Table { name: "delivery", noun: "webhook deliveries", key: 1, columns: &[
        int("k"), text("id"), id("run_id"), id("thread_id"), text("event"), text("url"), text("shown_url"),
        text("origin"), json("state"), int("attempts"), int("manual"), json("resent_from"), int("resume_at"),
        int("next_attempt_at"), int("scheduled_from"), id("lease_id"), int("last_status"), text("last_failure"),
        flag("erased"), int("created_at"), int("finished_at"), json("headers"), json("maker"),
    ] },
    Table { name: "push_config", noun: "push configs", key: 2, columns: &[
        id("run_id"), text("id"), text("url"), json("headers"), json("version"),
    ] },
    Table { name: "delivery_body", noun: "bodies of deliveries", key: 1, columns: &[int("delivery"), json("body")] },
    Table { name: "delivery_attempt", noun: "attempts of deliveries", key: 2, columns: &[
        int("delivery"), int("n"), json("trigger"), json("state"), int("started_at"), int("ended_at"), int("status"),
        text("failure"),
    ] },
    Table { name: "destination", noun: "destinations", key: 1, columns: &[text("origin"), int("not_before")] },
    Table { name: "recovery", noun: "recoveries", key: 1, columns: &[
        int("k"), id("id"), json("query"), int("reached"), int("last"), int("recovered"), int("created_at"),
        int("finished_at"),
    ] },
];

/// What a server makes by itself when it first starts, and makes again if need be: an import takes its place. These
/// queries say whether there is more than that.
pub(crate) const MADE_AT_START: [(&str, &str); 3] = [
    ("webhook_key", "SELECT count(*) > 1 FROM webhook_key"),
    ("assistant", "SELECT count(*) > 0 FROM assistant WHERE version > 1 OR metadata <> '{\"created_by\":\"system\"}'"),
    ("assistant_version", "SELECT count(*) > 0 FROM assistant_version WHERE version > 1"),
];
