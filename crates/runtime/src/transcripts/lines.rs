//! The lines of a transcript: what frame a line stands for, and whether a frame is what a line says
//! (workers/protocol/README.md).

use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::{BufMut, Bytes, BytesMut};
use rmpv::Value as Packed;
use serde::Deserialize;
use serde_json::{Map, Value};
use threadyard_core::time::Timestamp;

use crate::frame::Frame;

/// The names of frames, by kind.
const KINDS: [(u8, &str); 18] = [
    (1, "RUN_START"),
    (2, "RUN_CANCEL"),
    (3, "REPLY"),
    (5, "CALL"),
    (6, "PING"),
    (7, "PONG"),
    (8, "DRAIN"),
    (9, "LOAD"),
    (10, "HELLO"),
    (11, "READY"),
    (12, "EVENT"),
    (13, "END"),
    (14, "CP_PUT"),
    (15, "CP_WRITES"),
    (16, "CP_CALL"),
    (17, "STORE_BATCH"),
    (18, "LOG"),
    (19, "BYE"),
];

/// One frame of a transcript.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    pub(crate) dir: String,
    pub(crate) conn: String,
    pub(crate) kind: String,
    pub(crate) id: u64,
    pub(crate) body: Value,
}

fn workers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../workers").canonicalize().unwrap()
}

/// The folder that `{"var": "project"}` stands for.
pub(crate) fn project() -> String {
    workers().join("python/tests/project").display().to_string()
}

/// All transcripts, by name.
pub(crate) fn all() -> Vec<(String, Vec<Line>)> {
    let files = std::fs::read_dir(workers().join("protocol/transcripts")).unwrap();
    let read = |file: std::io::Result<std::fs::DirEntry>| {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (path.file_stem().unwrap().to_string_lossy().into_owned(), lines)
    };
    files.map(read).collect()
}

impl Line {
    /// The frame, with examples in place of what can't be predicted.
    pub(crate) fn frame(&self) -> Frame {
        let kind = KINDS.iter().find(|(_, name)| *name == self.kind).unwrap().0;
        let mut body = BytesMut::new();
        match self.kind.as_str() {
            "EVENT" => {
                let (name, data) = (self.body["name"].as_str().unwrap(), bin(&self.body["data"]).unwrap());
                body.put_u16_le(name.len().try_into().unwrap());
                body.put_slice(name.as_bytes());
                body.put_u32_le(data.len().try_into().unwrap());
                body.put_slice(&data);
            }
            "REPLY" => {
                body.put_u8(self.status());
                body.put_slice(&bin(&self.body["result"]).unwrap());
            }
            _ => rmpv::encode::write_value(&mut (&mut body).writer(), &pack(&self.body)).unwrap(),
        }
        Frame { kind, id: self.id, body: body.freeze() }
    }

    pub(crate) fn status(&self) -> u8 {
        self.body["status"].as_u64().unwrap().try_into().unwrap()
    }

    /// A field of the body as plain JSON, with examples in place of what can't be predicted.
    pub(crate) fn field<T: serde::de::DeserializeOwned>(&self, name: &str) -> T {
        let shown = &self.body[name];
        let plain = shown.get("json").unwrap_or(shown);
        serde_json::from_value(example(plain)).unwrap()
    }

    /// Where a frame differs from this line.
    pub(crate) fn differences(&self, got: &Frame) -> Vec<String> {
        let mut found = Vec::new();
        let name = KINDS.iter().find(|(kind, _)| *kind == got.kind).map_or("?", |(_, name)| name);
        if (self.kind.as_str(), self.id) != (name, got.id) {
            return vec![format!("expected {} {}, got {name} {}", self.kind, self.id, got.id)];
        }
        let mut body = &got.body[..];
        if self.kind == "REPLY" {
            if got.body[0] != self.status() {
                return vec![format!("the status is {}: {}", got.body[0], String::from_utf8_lossy(&got.body[1..]))];
            }
            body = &got.body[1..];
            if let Some(expected) = self.body["result"].get("json") {
                compare_json(expected, &serde_json::from_slice(body).unwrap(), "result", &mut found);
                return found;
            }
        }
        let expected = self.body.pointer("/result/msgpack").unwrap_or(&self.body);
        compare(expected, &rmpv::decode::read_value(&mut body).unwrap(), "", &mut found);
        found
    }
}

/// What a form of a `bin` holds.
fn bin(shown: &Value) -> Option<Bytes> {
    let shown = shown.get("example").unwrap_or(shown).as_object()?;
    if shown.len() != 1 {
        return None;
    }
    if let Some(json) = shown.get("json") {
        return Some(example(json).to_string().into());
    }
    shown.get("b64").map(|text| BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap().into())
}

fn example(value: &Value) -> Value {
    match value {
        Value::Object(map) => match map.get("example") {
            Some(recorded) if map.contains_key("any") => example(recorded),
            _ => map.iter().map(|(key, item)| (key.clone(), example(item))).collect::<Map<_, _>>().into(),
        },
        Value::Array(items) => items.iter().map(example).collect(),
        other => other.clone(),
    }
}

fn pack(value: &Value) -> Packed {
    if let Some(bytes) = bin(value) {
        return Packed::Binary(bytes.to_vec());
    }
    match value {
        Value::Null => Packed::Nil,
        Value::Bool(it) => (*it).into(),
        Value::Number(it) => match (it.as_u64(), it.as_i64()) {
            (Some(it), _) => it.into(),
            (None, Some(it)) => it.into(),
            _ => it.as_f64().unwrap().into(),
        },
        Value::String(it) => it.as_str().into(),
        Value::Array(items) => Packed::Array(items.iter().map(pack).collect()),
        Value::Object(map) if map.contains_key("any") => pack(&map["example"]),
        Value::Object(map) if map.contains_key("var") => project().into(),
        Value::Object(map) => Packed::Map(map.iter().map(|(key, item)| (key.as_str().into(), pack(item))).collect()),
    }
}

fn compare(expected: &Value, got: &Packed, at: &str, found: &mut Vec<String>) {
    if let (Some(json), Packed::Binary(bytes)) = (expected.get("json"), got) {
        match serde_json::from_slice(bytes) {
            Ok(got) => compare_json(json, &got, at, found),
            Err(error) => found.push(format!("{at}: {error}")),
        }
        return;
    }
    match (expected, got) {
        (Value::Object(map), _) if map.get("any").is_some_and(|kind| kind == "bin") => {
            if !matches!(got, Packed::Binary(_)) {
                found.push(format!("{at}: expected a bin, got {got}"));
            }
        }
        (Value::Object(map), _) if map.contains_key("any") => match plain(got) {
            Some(got) => compare_json(expected, &got, at, found),
            None => found.push(format!("{at}: expected {}, got {got}", map["any"])),
        },
        (Value::Object(map), Packed::Map(fields)) if !map.contains_key("var") => {
            for (key, item) in map {
                match fields.iter().find(|(name, _)| name.as_str() == Some(key)) {
                    Some((_, got)) => compare(item, got, &format!("{at}.{key}"), found),
                    None => found.push(format!("{at}.{key}: missing")),
                }
            }
            let unknown = |name: &Packed| !name.as_str().is_some_and(|name| map.contains_key(name));
            found.extend(fields.iter().filter(|(name, _)| unknown(name)).map(|(name, _)| format!("{at}.{name}: new")));
        }
        (Value::Array(items), Packed::Array(got)) if items.len() == got.len() => {
            for (index, (item, got)) in items.iter().zip(got).enumerate() {
                compare(item, got, &format!("{at}[{index}]"), found);
            }
        }
        _ if pack(expected) == *got => {}
        _ => found.push(format!("{at}: expected {expected}, got {got}")),
    }
}

/// A scalar or a map of scalars as JSON.
fn plain(value: &Packed) -> Option<Value> {
    if matches!(value, Packed::Binary(_)) { None } else { serde_json::to_value(value).ok() }
}

fn compare_json(expected: &Value, got: &Value, at: &str, found: &mut Vec<String>) {
    match (expected, got) {
        (Value::Object(map), _) if map.contains_key("any") => {
            let text = got.as_str();
            let fits = match map["any"].as_str().unwrap() {
                "uuid" => text.is_some_and(|text| uuid::Uuid::parse_str(text).is_ok()),
                "time" => text.is_some_and(|text| text.parse::<Timestamp>().is_ok()),
                "text" => text.is_some(),
                "int" => got.is_i64() || got.is_u64(),
                "number" => got.is_number(),
                "object" => got.is_object(),
                other => panic!("`{other}` is no kind"),
            };
            if !fits {
                found.push(format!("{at}: expected any {}, got {got}", map["any"]));
            }
        }
        (Value::Object(map), Value::Object(fields)) => {
            for (key, item) in map {
                match fields.get(key) {
                    Some(got) => compare_json(item, got, &format!("{at}.{key}"), found),
                    None => found.push(format!("{at}.{key}: missing")),
                }
            }
            let unknown = fields.keys().filter(|key| !map.contains_key(*key));
            found.extend(unknown.map(|key| format!("{at}.{key}: new")));
        }
        (Value::Array(items), Value::Array(got)) if items.len() == got.len() => {
            for (index, (item, got)) in items.iter().zip(got).enumerate() {
                compare_json(item, got, &format!("{at}[{index}]"), found);
            }
        }
        _ if expected == got => {}
        _ => found.push(format!("{at}: expected {expected}, got {got}")),
    }
}

/// Where JSON differs from what a transcript shows.
pub(crate) fn json_differences(expected: &Value, got: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare_json(expected, got, "", &mut found);
    found
}
