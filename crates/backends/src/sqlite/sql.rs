//! Statements whose conditions depend on what is asked for.

use rusqlite::types::ToSql;

/// A statement in the making, with its parameters.
pub(super) struct Sql {
    pub(super) text: String,
    parameters: Vec<Box<dyn ToSql>>,
}

impl Sql {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.into(), parameters: Vec::new() }
    }

    pub(super) fn add(&mut self, text: &str) {
        self.text.push(' ');
        self.text.push_str(text);
    }

    /// Adds a text with a `?` and the parameter that stands there.
    pub(super) fn with(&mut self, text: &str, parameter: impl ToSql + 'static) {
        self.add(text);
        self.parameters.push(Box::new(parameter));
    }

    pub(super) fn parameters(&self) -> Vec<&dyn ToSql> {
        self.parameters.iter().map(AsRef::as_ref).collect()
    }
}
