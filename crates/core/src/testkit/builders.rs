//! Ordinary values for tests to start from.

use bytes::Bytes;

use crate::{
    checkpoints::{Blob, PutCheckpoint},
    ids::{AssistantId, RunId, ThreadId},
    json::Object,
    metadata_filter::MetadataFilter,
    runs::{Durability, MultitaskStrategy, NewRun, Run, RunKwargs, RunStatus},
    time::Timestamp,
};

/// A run on this thread that is due at once.
pub fn new_run(run_id: RunId, thread_id: ThreadId, now: Timestamp) -> NewRun {
    let kwargs = RunKwargs {
        input: None,
        command: None,
        config: Object::new(),
        context: Object::new(),
        stream_mode: Vec::new(),
        interrupt_before: None,
        interrupt_after: None,
        webhook: None,
        feedback_keys: None,
        temporary: false,
        subgraphs: false,
        resumable: false,
        checkpoint_during: true,
        durability: Durability::default(),
        strict_resume: false,
    };
    let run = Run {
        run_id,
        thread_id,
        assistant_id: AssistantId::of_graph("echo"),
        created_at: now,
        updated_at: now,
        status: RunStatus::Pending,
        metadata: Object::new(),
        kwargs,
        multitask_strategy: MultitaskStrategy::default(),
        langsmith_session_name: None,
        graph_id: "echo".into(),
        attempt: 0,
        uncounted: 0,
        shared_losses: 0,
        started_at: None,
        error: None,
    };
    NewRun {
        run,
        due_at: now,
        within: MetadataFilter::default(),
        create_thread: None,
        thread_ttl: None,
        thread_metadata: Object::new(),
        thread_config: Object::new(),
        webhooks_enabled: true,
        push_config: None,
        counted: None,
        claim: None,
    }
}

/// A checkpoint with one inline value and one blob.
pub fn sample_checkpoint(thread: &str, id: &str, parent: Option<&str>) -> PutCheckpoint {
    PutCheckpoint {
        thread: thread.into(),
        ns: String::new(),
        id: id.into(),
        parent: parent.map(Into::into),
        checkpoint: Bytes::from(format!(
            r#"{{"v":4,"id":"{id}","channel_values":{{"count":1}},"channel_versions":{{"count":"1","log":"{id}"}}}}"#
        )),
        metadata: Bytes::from_static(br#"{"source":"loop","step":1}"#),
        blobs: vec![Blob {
            channel: "log".into(),
            version: id.into(),
            kind: "msgpack".into(),
            data: Bytes::from_static(&[0x91, 0x01]),
        }],
    }
}
