//! Replays workers/protocol/transcripts with the real host: this is the worker, line by line, over real sockets.

mod lines;

use std::{collections::HashMap, process::Stdio, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use serde_json::Value;
use threadyard_backends::SqliteStorage;
use threadyard_core::{
    ambient::Ambient,
    ids::LeaseId,
    json::{RawJson, raw},
    runs::{ClaimRuns, ClaimedRun, GivenBack, Lease},
    runtime::{GraphCall, RunEnd, RunEndStatus, RunJob, RunSession, RuntimeError, SessionEvent},
    storage::Storage,
    testkit::new_run,
};
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

use self::lines::{Line, json_differences, project};
use crate::{
    callbacks::Callbacks,
    child::Process,
    connection::FrameReader,
    load::{Load, LoadGraph},
    session::Session,
    worker::Worker,
};

/// The token that the transcripts were anonymised with.
const TOKEN: &str = "token";
const SOON: Duration = Duration::from_mins(2);

/// The worker's end of the connections, and the host that is driven through the same story.
struct Replay {
    socket: std::path::PathBuf,
    connections: HashMap<String, (FrameReader, OwnedWriteHalf)>,
    storage: Arc<dyn Storage>,
    ambient: Ambient,
    tasks: TaskTracker,
    meeting: Option<JoinHandle<Result<Arc<Worker>, RuntimeError>>>,
    worker: Option<Arc<Worker>>,
    lease: Option<Lease>,
    sessions: HashMap<u64, Session>,
    calls: HashMap<u64, JoinHandle<Result<RawJson, RuntimeError>>>,
}

#[tokio::test]
async fn the_host_keeps_to_the_transcripts() {
    let all = lines::all();
    assert!(all.len() >= 10, "the transcripts are missing");
    for (name, lines) in all {
        let folder = tempfile::tempdir().unwrap();
        let mut replay = Replay::begin(folder.path(), &lines);
        for (number, line) in lines.iter().enumerate() {
            let at = format!("{name}.jsonl:{}", number + 1);
            let played = tokio::time::timeout(SOON, replay.play(line, &at)).await;
            played.unwrap_or_else(|_| panic!("{at}: nothing came of {} {}", line.kind, line.id));
        }
    }
}

#[tokio::test]
async fn a_worker_that_ends_before_it_connects_is_noticed_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (callbacks, _) = callbacks(folder.path());
    let listener = UnixListener::bind(folder.path().join("worker.sock")).unwrap();
    let load = Load {
        proto: 0,
        project: project(),
        graphs: [].into(),
        concurrency: 1,
        store_ttl: None,
        store_index: None,
        serde: None,
        auth: None,
        encryption: None,
        app: None,
        url: None,
        imports: vec![],
    };
    let meeting = Worker::meet(&listener, process("false", &[]), load, callbacks, TOKEN);
    let Err(RuntimeError::Unavailable(why)) = tokio::time::timeout(SOON, meeting).await.unwrap() else {
        panic!("nobody was there to meet");
    };
    assert!(why.contains("exit code 1"), "{why}");
}

fn callbacks(folder: &std::path::Path) -> (Callbacks, Arc<dyn Storage>) {
    let storage: Arc<dyn Storage> = Arc::new(SqliteStorage::open(folder).unwrap());
    let callbacks = Callbacks {
        storage: storage.clone(),
        index: None,
        ambient: Ambient::system(),
        tasks: TaskTracker::new(),
        passed_on: tokio::sync::mpsc::unbounded_channel().0,
    };
    (callbacks, storage)
}

/// Some process, since every worker has one.
#[expect(clippy::disallowed_methods, reason = "stands in for the process of a worker")]
fn process(program: &str, arguments: &[&str]) -> Process {
    let mut command = tokio::process::Command::new(program);
    Process::Own(command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap())
}

impl Replay {
    fn begin(folder: &std::path::Path, lines: &[Line]) -> Self {
        let socket = folder.join("worker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (callbacks, storage) = callbacks(folder);
        let load = lines.iter().find(|line| line.kind == "LOAD").unwrap();
        let graphs: HashMap<String, HashMap<String, String>> = load.field("graphs");
        let path = |mut graph: HashMap<String, String>| LoadGraph { path: graph.remove("path").unwrap() };
        let load = Load {
            proto: 0,
            project: project(),
            graphs: graphs.into_iter().map(|(id, graph)| (id, path(graph))).collect(),
            concurrency: load.field("concurrency"),
            store_ttl: None,
            store_index: None,
            serde: None,
            auth: None,
            encryption: None,
            app: None,
            url: None,
            imports: load.field("imports"),
        };
        let process = process("sleep", &["3600"]);
        let (ambient, tasks) = (callbacks.ambient.clone(), callbacks.tasks.clone());
        let meeting = tasks.spawn(async move { Worker::meet(&listener, process, load, callbacks, TOKEN).await });
        Self {
            socket,
            connections: HashMap::new(),
            storage,
            ambient,
            tasks,
            meeting: Some(meeting),
            worker: None,
            lease: None,
            sessions: HashMap::new(),
            calls: HashMap::new(),
        }
    }

    async fn play(&mut self, line: &Line, at: &str) {
        if line.dir == "W>H" {
            self.say(line).await;
            self.check_heard(line, at).await;
            return;
        }
        self.provoke(line).await;
        let (read, _) = self.connections.get_mut(&line.conn).unwrap();
        let got = read.next().await.unwrap().unwrap_or_else(|| panic!("{at}: the host closed the connection"));
        let differences = line.differences(&got);
        assert!(differences.is_empty(), "{at}: {} {}: {differences:#?}", line.kind, line.id);
    }

    /// Sends a line of the worker's.
    async fn say(&mut self, line: &Line) {
        if line.kind == "HELLO" {
            let (read, write) = UnixStream::connect(&self.socket).await.unwrap().into_split();
            self.connections.insert(line.conn.clone(), (FrameReader::new(read), write));
        }
        let mut wire = BytesMut::new();
        line.frame().encode(&mut wire);
        self.connections.get_mut(&line.conn).unwrap().1.write_all(&wire).await.unwrap();
    }

    /// Checks that the host understood what the worker said.
    async fn check_heard(&mut self, line: &Line, at: &str) {
        match line.kind.as_str() {
            "READY" => self.worker = Some(self.meeting.take().unwrap().await.unwrap().unwrap()),
            "EVENT" => {
                let SessionEvent::Events(events) = self.sessions.get_mut(&line.id).unwrap().next().await else {
                    panic!("{at}: the run said something else");
                };
                assert_eq!(events.len(), 1, "{at}");
                assert_eq!(events[0].name.as_ref(), line.body["name"].as_str().unwrap(), "{at}");
                same(&line.body["data"]["json"], &events[0].data, at);
            }
            "END" => {
                let SessionEvent::Ended(end) = self.sessions.remove(&line.id).unwrap().next().await else {
                    panic!("{at}: the run did not end");
                };
                check_end(line, &end, at);
            }
            "REPLY" => {
                let answer = self.calls.remove(&line.id).unwrap().await.unwrap();
                let expected = &line.body["result"]["json"];
                match answer {
                    Ok(json) => same(expected, &Bytes::from(json.get().to_owned()), at),
                    Err(RuntimeError::Refused { status, error }) => {
                        assert_eq!(
                            (expected["status"].as_u64(), &expected["error"]),
                            (Some(status.into()), &error.error.into()),
                            "{at}"
                        );
                    }
                    Err(RuntimeError::Raised(error)) => assert_eq!(expected["error"], error.error, "{at}"),
                    Err(other) => panic!("{at}: {other}"),
                }
            }
            "BYE" => {
                self.connections.clear();
                self.worker.as_ref().unwrap().gone.cancelled().await;
            }
            _ => {}
        }
    }

    /// Has the host do what sends a line.
    async fn provoke(&mut self, line: &Line) {
        match line.kind.as_str() {
            "RUN_START" => {
                let job = self.job(line).await;
                let session = self.worker.as_ref().unwrap().run(&job).unwrap();
                self.sessions.insert(line.id, session);
            }
            "RUN_CANCEL" => self.sessions[&line.id].cancel(line.field("reason")),
            "CALL" => {
                let call = GraphCall {
                    operation: line.field("op"),
                    graph_id: line.field("graph"),
                    args: raw(&line.field::<Value>("args")),
                };
                let worker = self.worker.clone().unwrap();
                self.calls.insert(line.id, self.tasks.spawn(async move { worker.call(&call).await }));
            }
            "DRAIN" => {
                let (worker, grace) = (self.worker.clone().unwrap(), Duration::from_millis(line.field("grace_ms")));
                self.tasks.spawn(async move { worker.stop(grace).await });
            }
            _ => {}
        }
    }

    /// The run of a `RUN_START`, claimed from storage, which therefore has to give the same head.
    async fn job(&mut self, line: &Line) -> RunJob {
        let claimed = self.claimed(line).await;
        self.lease = Some(claimed.lease);
        let json = |field: &str| Some(line.field::<Value>(field)).filter(|value| !value.is_null()).map(|it| raw(&it));
        let nodes = |field: &str| {
            let nodes: Option<Value> = line.field(field);
            nodes.map(|it| if it == serde_json::json!(["*"]) { "*".into() } else { it })
        };
        let context: Option<_> = line.field("context");
        RunJob {
            lease: claimed.lease,
            thread_id: line.field("thread"),
            assistant_id: line.field("assistant"),
            graph_id: line.field("graph"),
            attempt: line.field("attempt"),
            input: json("input"),
            command: json("command"),
            config: line.field("config"),
            context: context.unwrap_or_default(),
            modes: line.field("modes"),
            subgraphs: line.field("subgraphs"),
            durability: line.field("durability"),
            interrupt_before: nodes("before").map(|it| serde_json::from_value(it).unwrap()),
            interrupt_after: nodes("after").map(|it| serde_json::from_value(it).unwrap()),
            head: claimed.head,
            resume: line.field("resume"),
            alone: false,
        }
    }

    async fn claimed(&mut self, line: &Line) -> ClaimedRun {
        let now = self.ambient.now();
        if let Some(lease) = self.lease.take() {
            self.storage.requeue_run(lease, GivenBack::Failed, now).await.unwrap();
        } else {
            let mut new = new_run(line.field("run"), line.field("thread"), now);
            new.create_thread = Some(serde_json::Map::new());
            self.storage.create_run(new).await.unwrap();
        }
        let lease_id = LeaseId(self.ambient.random());
        let claim = ClaimRuns { lease_id, limit: 1, now, until: now + Duration::from_mins(1) };
        self.storage.claim_runs(claim).await.unwrap().runs.remove(0)
    }
}

fn check_end(line: &Line, end: &RunEnd, at: &str) {
    let status = match end.status {
        RunEndStatus::Success => "success",
        RunEndStatus::Error => "error",
        RunEndStatus::Cancelled => "cancelled",
    };
    assert_eq!(line.body["status"], status, "{at}");
    assert_eq!(line.body["next"].as_bool().unwrap_or(false), end.has_next, "{at}");
    let parts =
        [("result", &end.result), ("values", &end.values), ("state", &end.state), ("interrupts", &end.interrupts)];
    for (name, part) in parts {
        match part {
            Some(json) => same(&line.body[name]["json"], &Bytes::from(json.get().to_owned()), at),
            None => assert!(line.body[name].is_null(), "{at}: {name} was not understood"),
        }
    }
    let error = end.error.as_ref().map(|error| (error.error.as_str(), error.message.as_str()));
    let expected = line.body["error"].as_object();
    assert_eq!(expected.map(|it| (it["error"].as_str().unwrap(), it["message"].as_str().unwrap())), error, "{at}");
}

fn same(expected: &Value, got: &Bytes, at: &str) {
    let differences = json_differences(expected, &serde_json::from_slice(got).unwrap());
    assert!(differences.is_empty(), "{at}: {differences:#?}");
}
