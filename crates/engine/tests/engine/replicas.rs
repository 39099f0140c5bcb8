//! Several engines on one storage: runs are asked for and read at one, and executed at others.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use threadyard_backends::{MemoryNet, SharedBusConfig};
use threadyard_core::{
    ambient::Ambient,
    bus::{Closing, From, Received, Topic},
    ids::{RunId, ThreadId},
    storage::Storage,
    testkit::{ManualClock, ScriptedRun, ambient},
};
use threadyard_engine::{RunRequest, RunStream, StartedRun, ThreadStream, ThreadStreamMode};
use uuid::Uuid;

use crate::{SOON, Stage, read, request, storage};

/// What the engines share.
struct Among {
    net: MemoryNet,
    storage: Arc<dyn Storage>,
    ambient: (Ambient, Arc<ManualClock>),
    _folder: TempDir,
}

impl Among {
    fn new() -> Self {
        let (storage, folder) = storage();
        Self { net: MemoryNet::default(), storage, ambient: ambient(), _folder: folder }
    }

    /// Another engine, which executes so many runs at once.
    async fn join(&self, concurrency: u32) -> Stage {
        let bus = Arc::new(self.net.join(SharedBusConfig::default(), self.ambient.0.clone()));
        let folder = tempfile::tempdir().unwrap();
        Stage::set_among(self.storage.clone(), folder, bus, self.ambient.clone(), |settings| {
            settings.concurrency = concurrency;
            settings.lease = Duration::from_secs(30);
        })
        .await
    }
}

/// Waits until one engine has heard what another one asked of it so far.
async fn heard(hears: &Stage, asks: &Stage) {
    let (run, thread) = (RunId(Uuid::from_u64_pair(9, 1)), ThreadId(Uuid::from_u64_pair(9, 2)));
    let mut asked = asks.bus.follow(run, thread, From::Now);
    hears.bus.close(run, Closing::default());
    let over = async { while !matches!(asked.next().await, Received::Closed(_)) {} };
    tokio::time::timeout(SOON, over).await.unwrap();
}

/// Lets an engine look for runs, and waits for the one that it takes.
async fn taken_by(stage: &Stage) -> ScriptedRun {
    stage.bus.wake(Topic::Runs);
    tokio::time::timeout(SOON, stage.runtime.next_run()).await.unwrap()
}

fn said(events: Vec<(String, Value)>) -> Vec<Value> {
    events.into_iter().filter(|(name, _)| name == "custom").map(|(_, data)| data).collect()
}

/// Reads until something was said.
async fn until_said(stream: &mut RunStream) {
    let said = async { while !stream.next().await.unwrap().1.iter().any(|event| &*event.name == "custom") {} };
    tokio::time::timeout(SOON, said).await.unwrap();
}

#[tokio::test]
async fn a_run_is_read_where_it_was_asked_for_and_where_somebody_joins() {
    let among = Among::new();
    let (front, other, executor) = (among.join(0).await, among.join(0).await, among.join(1).await);
    let thread = front.thread().await;
    let mut followed = other.engine.follow_thread(thread, vec![ThreadStreamMode::RunModes], None).await.unwrap();
    heard(&executor, &other).await;
    let StartedRun { run, stream } = front.run_on(thread, request()).await;
    let script = taken_by(&executor).await;
    script.say("custom", &1);
    while !names(&mut followed).await.contains(&"custom".into()) {}
    let joined = other.engine.join_stream(thread, run.run_id, None, Vec::new()).await.unwrap();
    script.say("custom", &2);
    script.succeed(&json!({ "done": true }));
    let result = front.engine.wait_for(thread, run.run_id, stream);
    assert_eq!(tokio::time::timeout(SOON, result).await.unwrap().unwrap(), r#"{"done":true}"#);
    assert_eq!(said(read(joined).await), [json!(2)]);
    while !names(&mut followed).await.contains(&"metadata".into()) {}
}

/// The names of the next events of a thread.
async fn names(thread: &mut ThreadStream) -> Vec<String> {
    let (_, events) = tokio::time::timeout(SOON, thread.next()).await.unwrap();
    events.iter().map(|event| event.name.to_string()).collect()
}

#[tokio::test]
async fn a_run_goes_on_at_another_replica_and_its_readers_with_it() {
    for resumable in [true, false] {
        let among = Among::new();
        let (front, first) = (among.join(0).await, among.join(1).await);
        let request = RunRequest { stream_resumable: resumable, ..request() };
        let thread = front.thread().await;
        let StartedRun { run, stream } = front.run_on(thread, request).await;
        let mut script = taken_by(&first).await;
        let here = first.engine.join_stream(thread, run.run_id, Some("-1"), Vec::new()).await.unwrap();
        script.say("custom", &1);
        let mut streams = [stream, here];
        for stream in &mut streams {
            until_said(stream).await;
        }
        tokio::join!(script.stopped(), first.engine.stop(Duration::ZERO));
        let second = among.join(1).await;
        let script = taken_by(&second).await;
        script.say("custom", &2);
        script.succeed(&json!({}));
        for stream in streams {
            assert_eq!(said(read(stream).await), [json!(2)], "resumable: {resumable}");
        }
    }
}
