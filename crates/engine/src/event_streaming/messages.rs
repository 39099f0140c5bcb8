//! Messages that an ordinary run streams in chunks, as the content blocks of event streaming.

use serde::Deserialize;
use serde_json::{Value, json};
use threadyard_core::json::Object;

/// The messages that a run is in the middle of.
#[derive(Default)]
pub(super) struct Messages(Vec<Message>);

/// Something about a message, and which node of which graph says it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub(super) namespace: Vec<String>,
    pub(super) node: Option<String>,
    pub(super) data: Value,
}

struct Message {
    id: String,
    namespace: Vec<String>,
    node: Option<String>,
    /// The block that is open.
    block: Option<Block>,
    /// How many were begun.
    blocks: u64,
    usage: Option<Value>,
}

/// A part of a message that grows.
enum Block {
    Text(String),
    Reasoning(String),
    Call { id: Option<String>, name: Option<String>, args: String },
}

#[derive(Deserialize)]
struct Chunk {
    r#type: String,
    id: Option<String>,
    #[serde(default)]
    content: Value,
    #[serde(default)]
    tool_call_chunks: Vec<CallChunk>,
    usage_metadata: Option<Value>,
    #[serde(rename = "chunk_position")]
    position: Option<String>,
}

#[derive(Deserialize)]
struct CallChunk {
    id: Option<String>,
    name: Option<String>,
    args: Option<String>,
}

#[derive(Deserialize)]
struct Origin {
    langgraph_node: Option<String>,
}

impl Messages {
    /// What an event of the mode `messages-tuple` comes to. Upstream: messages that are said at once are in the values only.
    pub(super) fn take(&mut self, namespace: &[&str], event: &[u8]) -> Vec<Said> {
        let Ok((chunk, origin)) = serde_json::from_slice::<(Chunk, Origin)>(event) else { return Vec::new() };
        let Some(id) = chunk.id.clone().filter(|_| chunk.r#type == "AIMessageChunk") else { return Vec::new() };
        let mut said = Vec::new();
        let place = self.0.iter().position(|message| message.id == id).unwrap_or_else(|| {
            let namespace = namespace.iter().map(|&segment| segment.to_owned()).collect();
            let node = origin.langgraph_node;
            self.0.push(Message { id, namespace, node, block: None, blocks: 0, usage: None });
            said.push(json!({ "event": "message-start", "role": "ai" }));
            self.0.len() - 1
        });
        let message = &mut self.0[place];
        message.grow(&chunk, &mut said);
        let is_last = chunk.position.as_deref() == Some("last");
        if is_last {
            message.finish(&mut said);
        }
        let said = message.named(said);
        if is_last {
            self.0.remove(place);
        }
        said
    }

    /// The ends of messages that nobody ended.
    pub(super) fn finish(&mut self) -> Vec<Said> {
        let finished = |mut message: Message| {
            let mut said = Vec::new();
            message.finish(&mut said);
            message.named(said)
        };
        self.0.drain(..).flat_map(finished).collect()
    }
}

impl Message {
    fn grow(&mut self, chunk: &Chunk, said: &mut Vec<Value>) {
        if let Value::String(text) = &chunk.content {
            self.write(text, said);
        }
        for part in chunk.content.as_array().into_iter().flatten() {
            let text = |key: &str| part.get(key).and_then(Value::as_str).unwrap_or_default();
            match text("type") {
                "text" => self.write(text("text"), said),
                "reasoning" => self.think(text("reasoning"), said),
                "thinking" => self.think(text("thinking"), said),
                _ => {}
            }
        }
        for call in &chunk.tool_call_chunks {
            self.call(call, said);
        }
        if let Some(usage) = chunk.usage_metadata.as_ref().filter(|usage| !usage.is_null()) {
            self.usage = Some(usage.clone());
        }
    }

    fn write(&mut self, piece: &str, said: &mut Vec<Value>) {
        if piece.is_empty() {
            return;
        }
        if !matches!(self.block, Some(Block::Text(_))) {
            self.begin(Block::Text(String::new()), said);
        }
        let Some(Block::Text(text)) = &mut self.block else { return };
        text.push_str(piece);
        self.delta(&json!({ "type": "text-delta", "text": piece }), said);
    }

    fn think(&mut self, piece: &str, said: &mut Vec<Value>) {
        if piece.is_empty() {
            return;
        }
        if !matches!(self.block, Some(Block::Reasoning(_))) {
            self.begin(Block::Reasoning(String::new()), said);
        }
        let Some(Block::Reasoning(text)) = &mut self.block else { return };
        text.push_str(piece);
        self.delta(&json!({ "type": "reasoning-delta", "reasoning": piece }), said);
    }

    /// A call names itself in its first chunk.
    fn call(&mut self, chunk: &CallChunk, said: &mut Vec<Value>) {
        if chunk.id.is_some() || !matches!(self.block, Some(Block::Call { .. })) {
            let (id, name) = (chunk.id.clone(), chunk.name.clone());
            self.begin(Block::Call { id, name, args: String::new() }, said);
        }
        let Some(Block::Call { args, .. }) = &mut self.block else { return };
        let piece = chunk.args.as_deref().unwrap_or_default();
        if piece.is_empty() {
            return;
        }
        args.push_str(piece);
        // Such a delta replaces what it names.
        let fields = json!({ "type": "tool_call_chunk", "args": args });
        self.delta(&json!({ "type": "block-delta", "fields": fields }), said);
    }

    fn begin(&mut self, block: Block, said: &mut Vec<Value>) {
        self.finish_block(said);
        self.blocks += 1;
        let content = block.content();
        said.push(json!({ "event": "content-block-start", "index": self.blocks - 1, "content": content }));
        self.block = Some(block);
    }

    fn delta(&self, delta: &Value, said: &mut Vec<Value>) {
        said.push(json!({ "event": "content-block-delta", "index": self.blocks - 1, "delta": delta }));
    }

    fn finish_block(&mut self, said: &mut Vec<Value>) {
        if let Some(block) = self.block.take() {
            let content = block.finished();
            said.push(json!({ "event": "content-block-finish", "index": self.blocks - 1, "content": content }));
        }
    }

    fn finish(&mut self, said: &mut Vec<Value>) {
        self.finish_block(said);
        let mut finish = json!({ "event": "message-finish" });
        if let Some(usage) = self.usage.take() {
            finish["usage"] = usage;
        }
        said.push(finish);
    }

    /// Clients tell messages apart by these that are streamed at the same time.
    fn named(&self, said: Vec<Value>) -> Vec<Said> {
        let named = |mut data: Value| {
            (data["id"], data["run_id"]) = (self.id.clone().into(), self.id.clone().into());
            Said { namespace: self.namespace.clone(), node: self.node.clone(), data }
        };
        said.into_iter().map(named).collect()
    }
}

impl Block {
    fn content(&self) -> Value {
        match self {
            Self::Text(text) => json!({ "type": "text", "text": text }),
            Self::Reasoning(text) => json!({ "type": "reasoning", "reasoning": text }),
            Self::Call { id, name, args } => json!({ "type": "tool_call_chunk", "id": id, "name": name, "args": args }),
        }
    }

    fn finished(self) -> Value {
        let Self::Call { id, name, args } = self else { return self.content() };
        match serde_json::from_str::<Object>(if args.is_empty() { "{}" } else { &args }) {
            Ok(args) => json!({ "type": "tool_call", "id": id, "name": name, "args": args }),
            Err(error) => {
                let error = error.to_string();
                json!({ "type": "invalid_tool_call", "id": id, "name": name, "args": args, "error": error })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(id: &str, more: &Value) -> Vec<u8> {
        let mut chunk = json!({ "type": "AIMessageChunk", "id": id, "content": "", "usage_metadata": null });
        chunk.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::to_vec(&json!([chunk, { "langgraph_node": "model" }])).unwrap()
    }

    /// What is said, but for the names, which all of it must have.
    fn data(said: Vec<Said>, id: &str) -> Vec<Value> {
        let unnamed = |mut said: Said| {
            assert_eq!((said.namespace, said.node.as_deref()), (vec!["child:1".to_owned()], Some("model")));
            let fields = said.data.as_object_mut().unwrap();
            assert_eq!((fields.remove("id"), fields.remove("run_id")), (Some(json!(id)), Some(json!(id))));
            said.data
        };
        said.into_iter().map(unnamed).collect()
    }

    #[test]
    fn chunks_become_blocks_that_begin_grow_and_end() {
        let mut messages = Messages::default();
        let mut take = |more: Value| data(messages.take(&["child:1"], &chunk("m", &more)), "m");
        let first = take(json!({ "content": "one " }));
        let delta =
            |index: u64, delta: Value| json!({ "event": "content-block-delta", "index": index, "delta": delta });
        let start =
            |index: u64, content: Value| json!({ "event": "content-block-start", "index": index, "content": content });
        let end =
            |index: u64, content: Value| json!({ "event": "content-block-finish", "index": index, "content": content });
        let text = |text: &str| json!({ "type": "text", "text": text });
        let piece = |text: &str| json!({ "type": "text-delta", "text": text });
        assert_eq!(
            first,
            [json!({ "event": "message-start", "role": "ai" }), start(0, text("")), delta(0, piece("one "))]
        );
        assert_eq!(take(json!({ "content": [{ "type": "text", "text": "two" }] })), [delta(0, piece("two"))]);
        let call = |id: Value, args: &str| json!({ "tool_call_chunks": [{ "id": id, "name": "add", "args": args, "index": 1 }] });
        let args = |args: &str| json!({ "type": "block-delta", "fields": { "type": "tool_call_chunk", "args": args } });
        let begun = json!({ "type": "tool_call_chunk", "id": "c", "name": "add", "args": "" });
        assert_eq!(
            take(call(json!("c"), r#"{"a":"#)),
            [end(0, text("one two")), start(1, begun), delta(1, args(r#"{"a":"#))]
        );
        assert_eq!(take(call(json!(null), "1}")), [delta(1, args(r#"{"a":1}"#))]);
        let usage = json!({ "total_tokens": 3 });
        let called = json!({ "type": "tool_call", "id": "c", "name": "add", "args": { "a": 1 } });
        assert_eq!(
            take(json!({ "usage_metadata": usage, "chunk_position": "last" })),
            [end(1, called), json!({ "event": "message-finish", "usage": usage })]
        );
        assert!(messages.finish().is_empty());
    }

    #[test]
    fn what_is_left_open_is_ended_and_what_is_no_chunk_is_nothing() {
        let mut messages = Messages::default();
        for (id, more) in [
            ("a", json!({ "content": [{ "type": "thinking", "thinking": "hm" }] })),
            ("b", json!({ "tool_call_chunks": [{ "id": "c", "name": "add", "args": "{", "index": 0 }] })),
        ] {
            messages.take(&["child:1"], &chunk(id, &more));
        }
        assert!(messages.take(&[], &chunk("c", &json!({ "type": "human" }))).is_empty());
        assert!(messages.take(&[], b"[]").is_empty() && messages.take(&[], b"{}").is_empty());
        let ends = messages.finish();
        let kinds: Vec<_> = ends.iter().map(|said| (&said.data["event"], &said.data["content"]["type"])).collect();
        let (block, message) = (json!("content-block-finish"), json!("message-finish"));
        let expected = [(&block, &json!("reasoning")), (&message, &json!(null)), (&block, &json!("invalid_tool_call"))];
        assert_eq!(kinds[..3], expected);
        assert!(messages.finish().is_empty());
    }
}
