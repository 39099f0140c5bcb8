//! Statements whose conditions depend on what is asked for.

use std::fmt::Write;

use tokio_postgres::types::ToSql;

use super::rows::Parameter;

/// A statement in the making, with its parameters.
pub(super) struct Sql {
    pub(super) text: String,
    parameters: Vec<Box<dyn ToSql + Send + Sync>>,
}

impl Sql {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.into(), parameters: Vec::new() }
    }

    pub(super) fn add(&mut self, text: &str) {
        self.text.push(' ');
        self.text.push_str(text);
    }

    /// Adds a text with a `?`, or several, and the parameter that stands there.
    pub(super) fn with(&mut self, text: &str, parameter: impl ToSql + Send + Sync + 'static) {
        self.parameters.push(Box::new(parameter));
        self.text.push(' ');
        for (nth, part) in text.split('?').enumerate() {
            if nth > 0 {
                let _ = write!(self.text, "${}", self.parameters.len());
            }
            self.text.push_str(part);
        }
    }

    pub(super) fn parameters(&self) -> Vec<Parameter<'_>> {
        self.parameters.iter().map(|it| &**it as Parameter<'_>).collect()
    }
}
