//! A text of JSON that remembers where its keys are, so that what is wrong with one can be said with its position.

use std::{cmp::Reverse, fmt::Display};

use jsonc_parser::{
    ParseOptions,
    ast::{self, ObjectProp},
    common::Ranged,
    parse_to_ast,
};
use serde::de::DeserializeOwned;
use threadyard_core::{json::Value, runtime::Language};

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// The key with those that it is below, such as `store.index.dims`; nothing for the whole text.
    pub(crate) key: String,
    /// What is wrong with it, as the end of a sentence that begins with the key.
    pub(crate) why: String,
    /// It is right, but asks for what this server can't do yet.
    pub(crate) unsupported: bool,
}

impl Wrong {
    pub(crate) fn new(key: impl Into<String>, why: impl Display) -> Self {
        Self { key: key.into(), why: why.to_string(), unsupported: false }
    }

    pub(crate) fn unknown(key: impl Into<String>) -> Self {
        Self::new(key, "is not a key that this server knows")
    }

    pub(crate) fn unsupported(key: impl Into<String>) -> Self {
        let why = "is not supported yet; remove it to go on without it (see docs/COMPATIBILITY.md)";
        Self { unsupported: true, ..Self::new(key, why) }
    }

    /// What is supported for Python is asked for in another language.
    pub(crate) fn unsupported_in(language: Language, key: &str, path: &str) -> Self {
        let refused = Self::unsupported(key);
        Self { why: format!("in {language} (`{path}`) {}", refused.why), ..refused }
    }
}

impl Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.key.as_str() {
            "" => f.write_str(&self.why),
            key => write!(f, "`{key}`: {}", self.why),
        }
    }
}

/// A text with its values.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The file or the variable that it comes from.
    pub(crate) name: String,
    text: String,
    /// The key that the whole text is the value of; nothing for a whole configuration.
    root: &'static str,
    pub(crate) values: Value,
}

impl Document {
    /// Reads a text. What is wrong with it comes with its place.
    pub(crate) fn read(name: String, text: String, root: &'static str) -> Result<Self, (String, Wrong)> {
        // Some editors begin files with a byte order mark.
        let text = match text.strip_prefix('\u{feff}') {
            Some(rest) => rest.to_owned(),
            None => text,
        };
        if text.trim().is_empty() {
            return Err((format!("{name}:1:1"), Wrong::new("", "is empty; expected a JSON object")));
        }
        let values = serde_json::from_str(&text).map_err(|error| {
            let why = error.to_string();
            let why = why.rsplit_once(" at line ").map_or(why.as_str(), |(why, _)| why);
            (format!("{name}:{}:{}", error.line(), error.column()), Wrong::new("", why))
        })?;
        let document = Self { name, text, root, values };
        match document.with_tree(|tree| twice(tree, root)).flatten() {
            Some(key) => Err((document.place(&key), Wrong::new(key, "is given twice"))),
            None => Ok(document),
        }
    }

    /// Where a key is, as `file:line:column`: the key itself, or the nearest one above it that is there.
    pub(crate) fn place(&self, key: &str) -> String {
        let path = key.strip_prefix(self.root).unwrap_or(key).trim_start_matches('.');
        let Some(at) = self.with_tree(|tree| offset(tree, path)) else { return self.name.clone() };
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!("{}:{line}:{column}", self.name)
    }

    fn with_tree<T>(&self, look: impl FnOnce(&ast::Value<'_>) -> T) -> Option<T> {
        let tree = parse_to_ast(&self.text, &jsonc_parser::CollectOptions::default(), &ParseOptions::default());
        tree.ok()?.value.as_ref().map(look)
    }
}

/// Where what a path leads to begins, as far as it leads anywhere.
fn offset(value: &ast::Value<'_>, path: &str) -> usize {
    let rest_of = |prop: &ObjectProp<'_>| {
        let rest = path.strip_prefix(prop.name.as_str())?;
        (rest.is_empty() || rest.starts_with(['.', '['])).then(|| rest.strip_prefix('.').unwrap_or(rest).to_owned())
    };
    match value {
        ast::Value::Object(object) => {
            // The last of equal keys counts; a name may have dots of its own.
            let found = object.properties.iter().filter_map(|prop| Some((prop, rest_of(prop)?)));
            match found.min_by_key(|(prop, rest)| (rest.len(), Reverse(prop.start()))) {
                Some((prop, rest)) if rest.is_empty() => prop.start(),
                Some((prop, rest)) => offset_below(prop, &rest),
                None => object.start(),
            }
        }
        ast::Value::Array(array) => {
            let index = path.strip_prefix('[').and_then(|rest| rest.split_once(']'));
            let element =
                index.and_then(|(index, rest)| Some((array.elements.get(index.parse::<usize>().ok()?)?, rest)));
            element.map_or(array.start(), |(element, rest)| offset(element, rest.trim_start_matches('.')))
        }
        other => other.start(),
    }
}

/// A key below a property, or the property when there is none of that name.
fn offset_below(prop: &ObjectProp<'_>, rest: &str) -> usize {
    match offset(&prop.value, rest) {
        at if at == prop.value.start() && !rest.starts_with('[') => prop.start(),
        at => at,
    }
}

/// A key that an object has twice, since only one of its values could count.
fn twice(value: &ast::Value<'_>, at: &str) -> Option<String> {
    let joined = |name: &str| if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") };
    match value {
        ast::Value::Object(object) => {
            let mut names = std::collections::HashSet::new();
            let again = object.properties.iter().find(|prop| !names.insert(prop.name.as_str()));
            let below = || object.properties.iter().find_map(|prop| twice(&prop.value, &joined(prop.name.as_str())));
            again.map(|prop| joined(prop.name.as_str())).or_else(below)
        }
        ast::Value::Array(array) => {
            array.elements.iter().enumerate().find_map(|(index, element)| twice(element, &format!("{at}[{index}]")))
        }
        _ => None,
    }
}

/// Reads the value of a key as what it should be; the keys below it that nothing reads are added to `unknown`.
pub(crate) fn read<T: DeserializeOwned>(key: &str, value: &Value, unknown: &mut Vec<String>) -> Result<T, Wrong> {
    let below = |path: &str| match path {
        "" | "." => key.to_owned(),
        path if path.starts_with('[') || key.is_empty() => format!("{key}{path}"),
        path => format!("{key}.{path}"),
    };
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(value, &mut track);
    // Options are steps of a path, too.
    let ignored = |path: serde_ignored::Path<'_>| unknown.push(below(&path.to_string().replace("?.", "")));
    let read = serde_ignored::deserialize(tracked, ignored);
    read.map_err(|error: serde_json::Error| Wrong::new(below(&track.path().to_string()), error))
}

/// Reads the value of a key where a mistyped one would open what should be closed: unknown keys are wrong.
pub(crate) fn read_all<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T, Wrong> {
    let mut unknown = Vec::new();
    let read = read(key, value, &mut unknown);
    // A key that is missing may be there under a mistyped name.
    match unknown.into_iter().next() {
        Some(unknown) => Err(Wrong::unknown(unknown)),
        None => read,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\n  \"graphs\": {\"a.b\": \"x\", \"a\": {\"b\": 1}},\n  \"http\": {\"cors\": {\"allow_origins\": [\"é\", 2]}}\n}";

    #[test]
    fn keys_are_found_where_they_are_written() {
        let document = Document::read("f".into(), TEXT.into(), "").unwrap();
        for (key, place) in [
            ("graphs", "f:2:3"),
            ("graphs.a.b", "f:2:14"),
            ("graphs.a", "f:2:26"),
            ("http.cors.allow_origins[1]", "f:3:44"),
            ("http.cors.max_age", "f:3:12"),
            ("store", "f:1:1"),
        ] {
            assert_eq!(document.place(key), place, "{key}");
        }
    }

    #[test]
    fn the_text_of_a_variable_is_the_value_of_its_key() {
        let document = Document::read("LANGGRAPH_HTTP".into(), "{\"cors\": 1}".into(), "http").unwrap();
        assert_eq!(document.place("http.cors"), "LANGGRAPH_HTTP:1:2");
    }

    #[test]
    fn what_is_no_json_is_said_with_its_position() {
        for (text, place, said) in [
            ("{\n  \"a\": }", "f:2:8", "expected value"),
            ("{\"a\": {\"b\": 1,\n\"b\": 2}}", "f:2:1", "`a.b`: is given twice"),
        ] {
            let (found, wrong) = Document::read("f".into(), text.into(), "").unwrap_err();
            assert_eq!((found.as_str(), wrong.to_string().as_str()), (place, said));
        }
    }

    #[test]
    fn what_nothing_reads_and_what_does_not_fit_is_named_by_its_path() {
        #[derive(serde::Deserialize)]
        struct Outer {
            #[serde(default)]
            inner: Option<Vec<Inner>>,
        }
        #[derive(serde::Deserialize)]
        struct Inner {
            number: u8,
        }
        let read = |value: Value| {
            let mut unknown = Vec::new();
            let read = read::<Outer>("top", &value, &mut unknown);
            (read.map(|it| it.inner.into_iter().flatten().map(|it| it.number).collect::<Vec<_>>()), unknown)
        };
        let (numbers, unknown) = read(serde_json::json!({"inner": [{"number": 1, "x": 2}], "y": 3}));
        assert_eq!((numbers.unwrap(), unknown), (vec![1], vec!["top.inner.0.x".to_owned(), "top.y".to_owned()]));
        let (wrong, _) = read(serde_json::json!({"inner": [{"number": "a"}]}));
        assert_eq!(wrong.unwrap_err().key, "top.inner[0].number");
    }
}
