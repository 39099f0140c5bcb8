//! Rows that are looked at here, some at a time, until there are enough: what they contain is ours to judge.

use threadyard_core::{
    filter,
    json::{Object as Fields, Value},
};
use tokio_postgres::Row;

use super::{
    Client,
    failures::{Done, is_outdated},
    sql::Sql,
};

/// So many rows travel at once.
const ROWS: i32 = 200;

/// Shows the rows of a query until `look` has seen enough and says so.
pub(super) async fn scan(client: &mut Client, sql: &Sql, mut look: impl FnMut(&Row) -> Done<bool>) -> Done<()> {
    // Rows are sent as they are asked for only within a transaction. Dropping it ends it.
    let transaction = client.transaction().await?;
    let statement = transaction.prepare_cached(&sql.text).await?;
    let bound = transaction.bind(&statement, &sql.parameters()).await;
    let portal = bound.inspect_err(|error| {
        // A newer server has changed the table.
        if is_outdated(error) {
            transaction.statement_cache.remove(&sql.text, &[]);
        }
    })?;
    loop {
        let rows = transaction.query_portal(&portal, ROWS).await?;
        for row in &rows {
            if look(row)? {
                return Ok(());
            }
        }
        if rows.len() < ROWS.unsigned_abs() as usize {
            return Ok(());
        }
    }
}

/// Whether a document, as a column holds it, contains a pattern. JSON that is too deep or too odd to be understood
/// contains nothing.
pub(super) fn contains(document: Option<&[u8]>, pattern: &Fields) -> bool {
    if pattern.is_empty() {
        return true;
    }
    let document = document.and_then(|document| serde_json::from_slice(document).ok());
    document.is_some_and(|document: Value| document.as_object().is_some_and(|document| has(document, pattern)))
}

fn has(document: &Fields, pattern: &Fields) -> bool {
    pattern.iter().all(|(key, wanted)| document.get(key).is_some_and(|found| filter::contains(found, wanted)))
}

/// What of a pattern the database understands as we do: whatever contains the whole contains this.
pub(super) fn understood(pattern: &Fields) -> Value {
    narrowed(&Value::Object(pattern.clone())).unwrap_or_default()
}

fn narrowed(pattern: &Value) -> Option<Value> {
    match pattern {
        // The same number may be written in many ways.
        Value::Number(number) if number.is_f64() => None,
        // The database knows no document with a NUL.
        Value::String(text) if text.contains('\0') => None,
        Value::Array(wanted) => Some(wanted.iter().filter_map(narrowed).collect()),
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(key, _)| !key.contains('\0'));
            Some(Value::Object(fields.filter_map(|(key, wanted)| Some((key.clone(), narrowed(wanted)?))).collect()))
        }
        other => Some(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_database_is_asked_for_what_it_understands() {
        let pattern = json!({"a": 1, "b": 1.5, "c": {"d": "\0", "e": "x"}, "f": [1.0, true], "g\0": 1});
        let Value::Object(fields) = &pattern else { panic!("it is an object") };
        assert_eq!(understood(fields), json!({"a": 1, "c": {"e": "x"}, "f": [true]}));
    }
}
