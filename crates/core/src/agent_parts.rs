//! Messages between agents (A2A), and how they read as messages of a graph.

use serde_json::{Value, json};

/// How the protocol is written: the versions differ in names and in how a part says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 0.3: every object says its `kind`.
    V03,
    /// 1.0: an object is what its fields say.
    V1,
}

impl Version {
    /// Its number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V03 => "0.3",
            Self::V1 => "1.0",
        }
    }

    /// Reads a number; what is not the older version is the newer.
    pub fn parse(number: &str) -> Self {
        if number == Self::V03.as_str() { Self::V03 } else { Self::V1 }
    }
}

/// A piece of a message.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Words.
    Text(String),
    /// JSON.
    Data(Value),
    /// Anything else.
    File(File),
}

/// A file in a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// What it holds, or where that is.
    pub content: Content,
    /// What kind of thing it holds.
    pub media_type: Option<String>,
    /// What people call it.
    pub name: Option<String>,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In base64.
    Bytes(String),
    /// It is elsewhere.
    Uri(String),
}

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Who asks.
    User,
    /// Who answers.
    Agent,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Chosen by who says it.
    pub id: String,
    /// Who says it.
    pub role: Role,
    /// What.
    pub parts: Vec<Part>,
}

impl Role {
    /// Reads the word of either version.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "user" | "ROLE_USER" => Some(Self::User),
            "agent" | "ROLE_AGENT" => Some(Self::Agent),
            _ => None,
        }
    }

    fn as_str(self, version: Version) -> &'static str {
        match (self, version) {
            (Self::User, Version::V03) => "user",
            (Self::Agent, Version::V03) => "agent",
            (Self::User, Version::V1) => "ROLE_USER",
            (Self::Agent, Version::V1) => "ROLE_AGENT",
        }
    }
}

impl Part {
    /// Reads a part as either version writes it; says what is wrong with it.
    pub fn read(part: &Value) -> Result<Self, &'static str> {
        const UNKNOWN: &str = "Unsupported part type. A2A agents support 'text', 'data', and 'file' parts only.";
        let Value::Object(part) = part else { return Err("Each message part must be an object.") };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let field = |name| part.get(name).and_then(text);
        match part.get("kind").map(Value::as_str) {
            Some(Some("text")) | None if part.contains_key("text") => {
                field("text").map(Self::Text).ok_or("TextPart 'text' must be a string")
            }
            Some(Some("data")) | None if part.contains_key("data") => Ok(Self::Data(part["data"].clone())),
            Some(Some("file")) => {
                let file = part.get("file").and_then(Value::as_object).ok_or(UNKNOWN)?;
                let field = |name| file.get(name).and_then(text);
                let content = field("bytes").map(Content::Bytes).or_else(|| field("uri").map(Content::Uri));
                let content = content.ok_or("FilePart 'file' must contain either 'bytes' or 'uri'.")?;
                Ok(Self::File(File { content, media_type: field("mimeType"), name: field("name") }))
            }
            None => {
                let content = field("raw").map(Content::Bytes).or_else(|| field("url").map(Content::Uri));
                let content = content.ok_or(UNKNOWN)?;
                Ok(Self::File(File { content, media_type: field("mediaType"), name: field("filename") }))
            }
            Some(_) => Err(UNKNOWN),
        }
    }

    /// The part as a version writes it.
    pub fn render(&self, version: Version) -> Value {
        match (self, version) {
            (Self::Text(text), Version::V03) => json!({ "kind": "text", "text": text }),
            (Self::Text(text), Version::V1) => json!({ "text": text }),
            (Self::Data(data), Version::V03) => json!({ "kind": "data", "data": data }),
            (Self::Data(data), Version::V1) => json!({ "data": data }),
            (Self::File(file), Version::V03) => json!({ "kind": "file", "file": file.render(version) }),
            (Self::File(file), Version::V1) => file.render(version),
        }
    }
}

impl File {
    fn render(&self, version: Version) -> Value {
        let (bytes, uri, media_type, name) = match version {
            Version::V03 => ("bytes", "uri", "mimeType", "name"),
            Version::V1 => ("raw", "url", "mediaType", "filename"),
        };
        let mut rendered = match &self.content {
            Content::Bytes(content) => json!({ bytes: content }),
            Content::Uri(content) => json!({ uri: content }),
        };
        if let Some(kind) = &self.media_type {
            rendered[media_type] = kind.as_str().into();
        }
        if let Some(called) = &self.name {
            rendered[name] = called.as_str().into();
        }
        rendered
    }

    /// A content block of LangChain.
    fn block(&self) -> Value {
        let kind = self.media_type.as_deref().and_then(|kind| kind.split('/').next());
        let kind = kind.filter(|kind| matches!(*kind, "image" | "audio" | "video")).unwrap_or("file");
        let mut block = match &self.content {
            Content::Bytes(bytes) => json!({ "type": kind, "base64": bytes }),
            Content::Uri(uri) => json!({ "type": kind, "url": uri }),
        };
        if let Some(media_type) = &self.media_type {
            block["mime_type"] = media_type.as_str().into();
        }
        if let Some(name) = &self.name {
            block["extras"] = json!({ "filename": name });
        }
        block
    }

    fn of_block(block: &Value) -> Option<Self> {
        let text = |name: &str| block[name].as_str().map(str::to_owned);
        if block["type"] == "image_url" {
            let url = block["image_url"]["url"].as_str().or_else(|| block["image_url"].as_str())?;
            return Some(Self { content: Content::Uri(url.to_owned()), media_type: None, name: None });
        }
        if !matches!(block["type"].as_str(), Some("image" | "audio" | "video" | "file")) {
            return None;
        }
        let content = text("base64").map(Content::Bytes).or_else(|| text("url").map(Content::Uri))?;
        let name = block["extras"]["filename"].as_str().map(str::to_owned);
        Some(Self { content, media_type: text("mime_type"), name })
    }
}

/// What a graph's message says, as parts; what only models need, such as calls of tools, is no part.
pub fn parts_of(content: &Value) -> Vec<Part> {
    let mut parts = Vec::new();
    let blocks = match content {
        Value::Array(blocks) => &blocks[..],
        text => std::slice::from_ref(text),
    };
    for block in blocks {
        let text = block.as_str().or_else(|| block["text"].as_str().filter(|_| block["type"] == "text"));
        match (text, parts.last_mut()) {
            (Some(""), _) => {}
            (Some(more), Some(Part::Text(text))) => text.push_str(more),
            (Some(text), _) => parts.push(Part::Text(text.to_owned())),
            (None, _) => parts.extend(File::of_block(block).map(Part::File)),
        }
    }
    parts
}

impl Message {
    /// A message of a graph's state, if people or the agent say something with it.
    pub fn of_state(message: &Value) -> Option<Self> {
        let speaker = message["type"].as_str().or_else(|| message["role"].as_str())?;
        let role = match speaker {
            "human" | "user" | "HumanMessageChunk" => Role::User,
            "ai" | "assistant" | "AIMessageChunk" => Role::Agent,
            _ => return None,
        };
        let parts = parts_of(&message["content"]);
        let id = message["id"].as_str().unwrap_or_default().to_owned();
        (!parts.is_empty()).then_some(Self { id, role, parts })
    }

    /// The message for a graph's state; data is for other channels.
    pub fn for_state(&self) -> Value {
        let texts: Vec<_> = self.parts.iter().filter_map(Part::text).collect();
        let only_text = !self.parts.iter().any(|part| matches!(part, Part::File(_)));
        let content = if only_text { texts.join("\n").into() } else { self.blocks() };
        let kind = if self.role == Role::User { "human" } else { "ai" };
        json!({ "type": kind, "content": content, "id": self.id })
    }

    fn blocks(&self) -> Value {
        let block = |part: &Part| match part {
            Part::Text(text) => Some(json!({ "type": "text", "text": text })),
            Part::File(file) => Some(file.block()),
            Part::Data(_) => None,
        };
        self.parts.iter().filter_map(block).collect()
    }

    /// The message as a version writes it.
    pub fn render(&self, version: Version) -> Value {
        let parts: Vec<_> = self.parts.iter().map(|part| part.render(version)).collect();
        let mut rendered = json!({ "role": self.role.as_str(version), "parts": parts, "messageId": self.id });
        if version == Version::V03 {
            rendered["kind"] = "message".into();
        }
        rendered
    }
}

impl Part {
    /// Its words, if it has any.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Data(_) | Self::File(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_as_either_version_writes_them() {
        let file = |content, media_type: &str| {
            Part::File(File { content, media_type: Some(media_type.into()), name: Some("n".into()) })
        };
        for part in [
            Part::Text("hello".into()),
            Part::Data(json!({ "a": 1 })),
            file(Content::Bytes("aGk=".into()), "image/png"),
            file(Content::Uri("https://example.com/x".into()), "text/plain"),
        ] {
            for version in [Version::V03, Version::V1] {
                assert_eq!(Part::read(&part.render(version)), Ok(part.clone()));
            }
        }
    }

    #[test]
    fn what_is_no_part_is_refused() {
        for part in [
            json!(5),
            json!({}),
            json!({ "kind": "bogus" }),
            json!({ "kind": "text" }),
            json!({ "kind": "text", "text": 5 }),
            json!({ "kind": "data" }),
            json!({ "kind": "file" }),
            json!({ "kind": "file", "file": {} }),
            json!({ "text": 5 }),
            json!({ "kind": 5, "text": "x" }),
        ] {
            assert!(Part::read(&part).is_err(), "{part}");
        }
    }

    #[test]
    fn messages_go_into_a_state_and_come_back() {
        let file = File { content: Content::Bytes("aGk=".into()), media_type: Some("image/png".into()), name: None };
        let parts = vec![Part::Text("look".into()), Part::File(file)];
        let message = Message { id: "m".into(), role: Role::User, parts };
        assert_eq!(Message::of_state(&message.for_state()), Some(message.clone()));
        let words = Message { parts: vec![Part::Text("a".into()), Part::Text("b".into())], ..message };
        assert_eq!(words.for_state(), json!({ "type": "human", "content": "a\nb", "id": "m" }));
    }

    #[test]
    fn only_what_is_said_is_a_message() {
        let blocks = json!([{ "type": "text", "text": "a" }, { "type": "tool_use" }, "b"]);
        let said = Message::of_state(&json!({ "type": "ai", "content": blocks, "id": "m" })).unwrap();
        assert_eq!(said.parts, [Part::Text("ab".into())]);
        for silent in [
            json!("done"),
            json!({ "type": "tool", "content": "secret", "id": "m" }),
            json!({ "type": "system", "content": "secret", "id": "m" }),
            json!({ "type": "ai", "content": "", "id": "m", "tool_calls": [{}] }),
        ] {
            assert_eq!(Message::of_state(&silent), None, "{silent}");
        }
    }
}
