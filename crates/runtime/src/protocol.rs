//! What the frames say: bodies, kinds, and the choice of a version.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use threadyard_core::{
    checkpoints::{Blob, CheckpointTuple, PutCheckpoint, PutWrites, Write},
    json::{RawJson, raw, raw_from_text},
    runs::PauseAt,
    runtime::{GraphError, RunEnd, RunEndStatus, RunJob, StopReason},
    stream::StreamEvent,
};

use crate::frame::{Frame, FrameError};

/// The versions that this host speaks, inclusive.
pub(crate) const VERSIONS: (u32, u32) = (1, 1);

/// The kinds of frames.
pub(crate) mod kind {
    pub(crate) const RUN_START: u8 = 1;
    pub(crate) const RUN_CANCEL: u8 = 2;
    pub(crate) const REPLY: u8 = 3;
    pub(crate) const CALL: u8 = 5;
    pub(crate) const PING: u8 = 6;
    pub(crate) const DRAIN: u8 = 8;
    pub(crate) const LOAD: u8 = 9;
    pub(crate) const HELLO: u8 = 10;
    pub(crate) const READY: u8 = 11;
    pub(crate) const EVENT: u8 = 12;
    pub(crate) const END: u8 = 13;
    pub(crate) const CP_PUT: u8 = 14;
    pub(crate) const CP_WRITES: u8 = 15;
    pub(crate) const CP_CALL: u8 = 16;
    pub(crate) const STORE_BATCH: u8 = 17;
    pub(crate) const LOG: u8 = 18;
    pub(crate) const BYE: u8 = 19;
    pub(crate) const ASGI_OPEN: u8 = 20;
    pub(crate) const ASGI_MESSAGE: u8 = 21;
    pub(crate) const ASGI_CREDIT: u8 = 22;
    pub(crate) const ASGI_CLOSE: u8 = 23;
}

/// The highest version that both sides speak.
pub(crate) fn choose_version(theirs: (u32, u32)) -> Option<u32> {
    let highest = VERSIONS.1.min(theirs.1);
    (highest >= VERSIONS.0 && highest >= theirs.0).then_some(highest)
}

/// A frame with a msgpack map as its body.
pub(crate) fn frame(kind: u8, id: u64, body: &impl Serialize) -> Frame {
    let body = rmp_serde::to_vec_named(body).expect("own messages always render as msgpack");
    Frame { kind, id, body: body.into() }
}

/// Reads a msgpack body.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    rmp_serde::from_slice(body).map_err(|error| FrameError::Body(error.to_string()))
}

#[derive(Deserialize)]
pub(crate) struct Hello {
    pub(crate) proto: (u32, u32),
    pub(crate) role: String,
    pub(crate) token: String,
    pub(crate) pid: u32,
}

#[derive(Serialize)]
struct RunStart<'a> {
    graph: &'a str,
    run: String,
    thread: String,
    assistant: String,
    attempt: u32,
    input: Option<Bytes>,
    command: Option<Bytes>,
    config: Bytes,
    context: Option<Bytes>,
    modes: Vec<&'static str>,
    subgraphs: bool,
    durability: threadyard_core::runs::Durability,
    before: Option<Vec<String>>,
    after: Option<Vec<String>>,
    head: Option<Tuple>,
    resume: bool,
}

pub(crate) fn run_start(slot: u64, job: &RunJob) -> Frame {
    let context = (!job.context.is_empty()).then(|| json_bytes(&raw(&job.context)));
    let body = RunStart {
        graph: &job.graph_id,
        run: job.run_id().to_string(),
        thread: job.thread_id.to_string(),
        assistant: job.assistant_id.to_string(),
        attempt: job.attempt,
        input: job.input.as_ref().map(json_bytes),
        command: job.command.as_ref().map(json_bytes),
        config: json_bytes(&raw(&job.config)),
        context,
        modes: job.modes.iter().map(|mode| mode.as_str()).collect(),
        subgraphs: job.subgraphs,
        durability: job.durability,
        before: job.interrupt_before.as_ref().map(nodes),
        after: job.interrupt_after.as_ref().map(nodes),
        head: job.head.clone().map(Tuple::from),
        resume: job.resume,
    };
    frame(kind::RUN_START, slot, &body)
}

fn nodes(pause: &PauseAt) -> Vec<String> {
    match pause {
        PauseAt::Every(_) => vec!["*".into()],
        PauseAt::Nodes(nodes) => nodes.clone(),
    }
}

pub(crate) fn json_bytes(json: &RawJson) -> Bytes {
    Bytes::copy_from_slice(json.get().as_bytes())
}

#[derive(Serialize)]
pub(crate) struct RunCancel {
    pub(crate) reason: StopReason,
}

#[derive(Serialize)]
pub(crate) struct Drain {
    pub(crate) grace_ms: u64,
}

#[derive(Serialize)]
pub(crate) struct Call<'a, O> {
    pub(crate) op: O,
    /// None when the question is to no graph.
    pub(crate) graph: Option<&'a str>,
    pub(crate) args: Bytes,
}

#[derive(Deserialize)]
pub(crate) struct Log {
    pub(crate) level: String,
    pub(crate) logger: String,
    pub(crate) message: String,
}

#[derive(Deserialize)]
struct End {
    status: RunEndStatus,
    #[serde(default)]
    result: Option<Bytes>,
    #[serde(default)]
    values: Option<Bytes>,
    #[serde(default)]
    state: Option<Bytes>,
    #[serde(default)]
    interrupts: Option<Bytes>,
    #[serde(default)]
    next: bool,
    #[serde(default)]
    error: Option<GraphError>,
}

pub(crate) fn run_end(body: &[u8]) -> Result<RunEnd, FrameError> {
    let end: End = read(body)?;
    Ok(RunEnd {
        status: end.status,
        result: end.result.map(json).transpose()?,
        values: end.values.map(json).transpose()?,
        state: end.state.map(json).transpose()?,
        interrupts: end.interrupts.map(json).transpose()?,
        has_next: end.next,
        error: end.error,
    })
}

/// JSON that a worker made.
pub(crate) fn json(bytes: Bytes) -> Result<RawJson, FrameError> {
    let body = |why: String| FrameError::Body(why);
    let text = String::from_utf8(bytes.into()).map_err(|error| body(error.to_string()))?;
    raw_from_text(text).map_err(|error| body(error.to_string()))
}

/// The bit of a name's length that says the data are a list of the data of so many events.
const MANY: u16 = 1 << 15;

/// The events of an EVENT frame, whose data stay where they are.
pub(crate) fn events(mut body: Bytes) -> Result<Vec<StreamEvent>, FrameError> {
    let mut events = Vec::with_capacity(1);
    while !body.is_empty() {
        let mut many = false;
        let name = take(&mut body, 2, |mut length| {
            let length = length.get_u16_le();
            many = length & MANY != 0;
            (length & !MANY) as usize
        })?;
        let data = take(&mut body, 4, |mut length| length.get_u32_le() as usize)?;
        let name: Arc<str> = std::str::from_utf8(&name).map_err(|error| FrameError::Body(error.to_string()))?.into();
        if many {
            let list: Vec<&RawValue> =
                serde_json::from_slice(&data).map_err(|error| FrameError::Body(error.to_string()))?;
            let event = |item: &RawValue| data.slice_ref(item.get().as_bytes());
            events.extend(list.into_iter().map(|item| StreamEvent { name: name.clone(), data: event(item) }));
        } else {
            events.push(StreamEvent { name, data });
        }
    }
    Ok(events)
}

fn take(body: &mut Bytes, width: usize, length: impl FnOnce(Bytes) -> usize) -> Result<Bytes, FrameError> {
    if body.len() < width {
        return Err(FrameError::Truncated);
    }
    let length = length(body.split_to(width));
    if body.len() < length {
        return Err(FrameError::Truncated);
    }
    Ok(body.split_to(length))
}

/// A checkpoint with what belongs to it.
#[derive(Serialize)]
pub(crate) struct Tuple {
    thread: String,
    ns: String,
    id: String,
    parent: Option<String>,
    checkpoint: Bytes,
    metadata: Bytes,
    blobs: Vec<(String, String, String, Bytes)>,
    writes: Vec<(String, String, i64, String, String, Bytes)>,
}

impl From<CheckpointTuple> for Tuple {
    fn from(it: CheckpointTuple) -> Self {
        let blob = |it: Blob| (it.channel, it.version, it.kind, it.data);
        let write = |it: Write| (it.task, it.path, it.index, it.channel, it.kind, it.data);
        Self {
            thread: it.thread,
            ns: it.ns,
            id: it.id,
            parent: it.parent,
            checkpoint: it.checkpoint,
            metadata: it.metadata,
            blobs: it.blobs.into_iter().map(blob).collect(),
            writes: it.writes.into_iter().map(write).collect(),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct CpPut {
    /// Whose put this is, when the frame's own id is that of a request.
    #[serde(default)]
    pub(crate) slot: Option<u64>,
    thread: String,
    ns: String,
    id: String,
    parent: Option<String>,
    checkpoint: Bytes,
    metadata: Bytes,
    blobs: Vec<(String, String, String, Bytes)>,
}

impl From<CpPut> for PutCheckpoint {
    fn from(it: CpPut) -> Self {
        let blob = |(channel, version, kind, data)| Blob { channel, version, kind, data };
        Self {
            thread: it.thread,
            ns: it.ns,
            id: it.id,
            parent: it.parent,
            checkpoint: it.checkpoint,
            metadata: it.metadata,
            blobs: it.blobs.into_iter().map(blob).collect(),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct CpWrites {
    #[serde(default)]
    pub(crate) slot: Option<u64>,
    thread: String,
    ns: String,
    id: String,
    task: String,
    path: String,
    writes: Vec<(i64, String, String, Bytes)>,
}

impl From<CpWrites> for PutWrites {
    fn from(it: CpWrites) -> Self {
        let (task, path) = (it.task, it.path);
        let write =
            |(index, channel, kind, data)| Write { task: task.clone(), path: path.clone(), index, channel, kind, data };
        Self { thread: it.thread, ns: it.ns, id: it.id, writes: it.writes.into_iter().map(write).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_chosen() {
        assert_eq!(choose_version((1, 3)), Some(1));
        assert_eq!(choose_version((1, 1)), Some(1));
        assert_eq!(choose_version((2, 3)), None);
    }

    #[test]
    fn one_frame_carries_several_events() {
        let body = Bytes::from_static(b"\x06\0values\x02\0\0\0{}\x01\0a\x01\0\0\x001");
        let names: Vec<_> = events(body.clone()).unwrap().into_iter().map(|event| (event.name, event.data)).collect();
        assert_eq!(names, [("values".into(), Bytes::from_static(b"{}")), ("a".into(), Bytes::from_static(b"1"))]);
        assert_eq!(events(body.slice(..body.len() - 1)), Err(FrameError::Truncated));
    }

    #[test]
    fn events_of_one_name_may_be_a_list() {
        let body = Bytes::from_static(b"\x01\x80a\x0b\0\0\0[{\"b\":1},2]\x01\0c\x01\0\0\x003");
        let names: Vec<_> = events(body).unwrap().into_iter().map(|event| (event.name, event.data)).collect();
        let of = |name: &str, data: &'static [u8]| (name.into(), Bytes::from_static(data));
        assert_eq!(names, [of("a", b"{\"b\":1}"), of("a", b"2"), of("c", b"3")]);
        assert!(matches!(events(Bytes::from_static(b"\x01\x80a\x01\0\0\x001")), Err(FrameError::Body(_))));
    }
}
