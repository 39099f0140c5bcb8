//! Where the sections of a configuration come from: the file, or variables that images carry in its place.

use std::{collections::BTreeMap, path::Path};

use threadyard_core::json::Value;

use super::{
    Project, ProjectError,
    document::{Document, Wrong},
};

/// The variable that stands for a section where the file has none.
const VARIABLES: [(&str, &str); 10] = [
    ("graphs", "LANGSERVE_GRAPHS"),
    ("store", "LANGGRAPH_STORE"),
    ("auth", "LANGGRAPH_AUTH"),
    ("encryption", "LANGGRAPH_ENCRYPTION"),
    ("http", "LANGGRAPH_HTTP"),
    ("webhooks", "LANGGRAPH_WEBHOOKS"),
    ("checkpointer", "LANGGRAPH_CHECKPOINTER"),
    ("ui", "LANGGRAPH_UI"),
    ("ui_config", "LANGGRAPH_UI_CONFIG"),
    ("priority", "LANGGRAPH_PRIORITY"),
];

/// The sections of a configuration. A section of the file wins over a variable.
#[derive(Clone, Debug)]
pub(crate) struct Sections {
    file: Document,
    variables: BTreeMap<&'static str, Document>,
}

impl Sections {
    /// A configuration without a file: images carry all of it in variables.
    pub(crate) fn without_file(file: &Path) -> Self {
        let empty = Document::read(file.display().to_string(), "{}".into(), "");
        let file = empty.expect("an empty object is JSON");
        Self { file, variables: BTreeMap::new() }
    }

    /// Reads the text of a file.
    pub(crate) fn of_file(file: &Path, text: String) -> Result<Self, ProjectError> {
        let read = Document::read(file.display().to_string(), text, "");
        let file = read.map_err(|(place, wrong)| ProjectError::at(place, &wrong))?;
        let sections = Self { file, variables: BTreeMap::new() };
        if sections.file.values.is_object() {
            return Ok(sections);
        }
        Err(sections
            .wrong(&Wrong::new("", "must be an object such as {\"graphs\": {\"agent\": \"./agent.py:graph\"}}")))
    }

    /// Adds what variables say, where the file says nothing.
    pub(crate) fn add_variables(&mut self, variable: impl Fn(&str) -> Option<String>) -> Result<(), ProjectError> {
        for (section, name) in VARIABLES {
            let text = variable(name).filter(|text| !text.is_empty());
            if let Some(text) = text.filter(|_| self.get(section).is_none()) {
                let read = Document::read(format!("the variable {name}"), text, section);
                let document = read.map_err(|(place, wrong)| ProjectError::at(place, &wrong))?;
                self.variables.insert(section, document);
            }
        }
        Ok(())
    }

    /// A section; what is null is not there.
    pub(crate) fn get(&self, section: &str) -> Option<&Value> {
        let of_file = self.file.values.get(section).filter(|value| !value.is_null());
        let of_variable = || self.variables.get(section).map(|document| &document.values);
        of_file.or_else(of_variable).filter(|value| !value.is_null())
    }

    /// A section that has to be an object.
    pub(crate) fn object(&self, section: &str) -> Result<Option<&Value>, Wrong> {
        match self.get(section) {
            Some(value) if !value.is_object() => Err(Wrong::new(section, "must be an object")),
            section => Ok(section),
        }
    }

    /// A key of a section; what is null is not there.
    pub(crate) fn below(&self, section: &str, key: &str) -> Option<&Value> {
        self.get(section)?.get(key).filter(|value| !value.is_null())
    }

    /// The names of all sections of the file.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.file.values.as_object().into_iter().flat_map(|object| object.keys())
    }

    /// Where a key is.
    pub(crate) fn place(&self, key: &str) -> String {
        let section = key.split(['.', '[']).next().unwrap_or_default();
        self.variables.get(section).unwrap_or(&self.file).place(key)
    }

    /// The error for what is wrong with a key.
    pub(crate) fn wrong(&self, wrong: &Wrong) -> ProjectError {
        ProjectError::at(self.place(&wrong.key), wrong)
    }
}

impl Project {
    /// Where a key is, such as `graphs.agent`, as `file:line:column`.
    pub fn place(&self, key: &str) -> String {
        self.read_from.place(key)
    }
}
