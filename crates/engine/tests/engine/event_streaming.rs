//! Event streaming: the tape of a thread, for readers that come early, late, or back.

use std::time::Duration;

use serde_json::{Value, json};
use threadyard_backends::LocalBusConfig;
use threadyard_core::{
    cancel::CancelAction,
    event_streaming::{BLOCK, EventFilter},
    ids::{RunId, ThreadId},
    json::{Object, raw},
    runs::{MultitaskStrategy, RunStatus},
    runtime::StopReason,
    testkit::ScriptedRun,
};
use threadyard_engine::{Answers, Error, ForkRun, RunRequest, StartRun, Tape};

use crate::{SOON, Stage, request};

const CHANNELS: [&str; 4] = ["lifecycle", "values", "input", "custom"];

pub(crate) fn all() -> EventFilter {
    EventFilter { channels: CHANNELS.map(str::to_owned).to_vec(), ..EventFilter::default() }
}

pub(crate) fn start(strategy: MultitaskStrategy) -> StartRun {
    let input = Some(raw(&json!({ "a": 1 })));
    let (config, metadata) = (Object::new(), Object::new());
    StartRun {
        assistant: "echo".into(),
        input,
        config,
        metadata,
        multitask_strategy: strategy,
        of_request: Object::new(),
    }
}

/// Keeps tokio's time still, however slow the machine is, so that nothing here is given up. Paused time alone would fly
/// while storage is at work.
struct StillTime {
    _held: std::sync::mpsc::Sender<()>,
}

impl StillTime {
    fn begin() -> Self {
        tokio::time::pause();
        let (held, let_go) = std::sync::mpsc::channel();
        // Time does not fly as long as something blocks.
        tokio::task::spawn_blocking(move || let_go.recv_timeout(SOON));
        Self { _held: held }
    }
}

/// Whether something is not done for a moment.
async fn waits(it: &mut (impl Future + Unpin)) -> bool {
    tokio::select! {
        _ = it => false,
        _ = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(50))) => true,
    }
}

async fn begin(stage: &Stage, thread: ThreadId) -> (RunId, ScriptedRun) {
    let run = stage.engine.start_run(thread, start(MultitaskStrategy::Enqueue)).await.unwrap();
    (run, stage.runtime.next_run().await)
}

pub(crate) fn say(run: &ScriptedRun, data: &Value) {
    let params = json!({ "namespace": [], "timestamp": 1, "data": data });
    // Members in the order of the wire.
    let text = format!(r#"{{"type":"event","method":"values","params":{params}}}"#);
    run.say("values", &serde_json::value::RawValue::from_string(text).unwrap());
}

/// The next events: their ids, numbers, and what they say.
pub(crate) async fn hear(tape: &mut Tape, count: usize) -> Vec<(String, u64, Value)> {
    let mut heard = Vec::new();
    while heard.len() < count {
        for event in tokio::time::timeout(SOON, tape.next()).await.unwrap().unwrap() {
            let mut text = Vec::new();
            event.write(&mut text);
            let told: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!((&told["event_id"], &told["seq"]), (&json!(event.id), &json!(event.seq)));
            assert!(told["method"] == event.method && told["type"] == "event");
            heard.push((event.id, event.seq, told["params"]["data"].clone()));
        }
    }
    heard
}

pub(crate) fn lifecycle(event: &str) -> Value {
    json!({ "event": event, "graph_name": "echo" })
}

pub(crate) fn data(heard: &[(String, u64, Value)]) -> Vec<Value> {
    heard.iter().map(|(_, _, data)| data.clone()).collect()
}

#[tokio::test]
async fn early_and_late_readers_hear_the_same_tape_of_all_runs() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let mut early = stage.engine.read_tape(thread, all(), 0).await.unwrap();
    let mut ids = Vec::new();
    for n in [1, 2] {
        let (id, run) = begin(&stage, thread).await;
        say(&run, &json!({ "n": n }));
        run.succeed(&json!({}));
        ids.push(id);
    }
    let heard = hear(&mut early, 6).await;
    let each = |n| [lifecycle("running"), json!({ "n": n }), lifecycle("completed")];
    assert_eq!(data(&heard), [each(1), each(2)].concat());
    let numbers: Vec<_> = heard.iter().map(|(_, seq, _)| *seq).collect();
    assert_eq!(numbers, [1, 3, 4, BLOCK + 1, BLOCK + 3, BLOCK + 4], "2 is the attempt, which no channel has");
    assert_eq!(heard[1].0, format!("{}:3", ids[0]));
    // Clients find the run of a lifecycle in its id.
    assert_eq!(heard[5].0, format!("synth:{}:{}", ids[1], BLOCK + 4));

    assert_eq!(hear(&mut stage.engine.read_tape(thread, all(), 0).await.unwrap(), 6).await, heard);
    assert_eq!(hear(&mut stage.engine.read_tape(thread, all(), 3).await.unwrap(), 4).await, heard[2..]);
    assert_eq!(hear(&mut stage.engine.read_tape(thread, all(), BLOCK + 3).await.unwrap(), 1).await, heard[5..]);
}

#[tokio::test]
async fn who_comes_from_behind_the_end_begins_at_the_end() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let mut nowhere = stage.engine.read_tape(thread, all(), u64::MAX).await.unwrap();
    let (_, run) = begin(&stage, thread).await;
    say(&run, &json!(1));
    assert_eq!(data(&hear(&mut nowhere, 2).await), [lifecycle("running"), json!(1)]);
    let mut behind = stage.engine.read_tape(thread, all(), 9 * BLOCK).await.unwrap();
    run.succeed(&json!({}));
    begin(&stage, thread).await;
    assert_eq!(data(&hear(&mut behind, 1).await), [lifecycle("running")]);
}

#[tokio::test]
async fn readers_that_share_a_tape_hear_everything_in_order_and_each_event_once() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let of = |channel: &str| EventFilter { channels: vec![channel.to_owned()], ..EventFilter::default() };
    let mut tape = stage.engine.read_tape(thread, of("lifecycle"), 0).await.unwrap();
    let (_, run) = begin(&stage, thread).await;
    say(&run, &json!(1));
    assert_eq!(data(&hear(&mut tape, 1).await), [lifecycle("running")]);
    let mut tape = tape.joined(all(), 1).await.unwrap();
    say(&run, &json!(2));
    run.succeed(&json!({}));
    let heard = hear(&mut tape, 3).await;
    assert_eq!(data(&heard), [json!(1), json!(2), lifecycle("completed")], "who was there hears no more again");
    // Whoever joins hears what was before, and who was there does not.
    let mut tape = tape.joined(of("values"), 0).await.unwrap();
    assert_eq!(data(&hear(&mut tape, 2).await), [json!(1), json!(2)]);
    tape.leave(1);
    let (_, run) = begin(&stage, thread).await;
    say(&run, &json!(3));
    run.succeed(&json!({}));
    tape.leave(1);
    assert_eq!(data(&hear(&mut tape, 2).await), [lifecycle("running"), lifecycle("completed")]);
}

#[tokio::test]
async fn a_reader_goes_on_behind_its_last_event_under_the_next_server() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let mut tape = stage.engine.read_tape(thread, all(), 0).await.unwrap();
    let (id, mut first) = begin(&stage, thread).await;
    say(&first, &json!(1));
    say(&first, &json!(2));
    let before = hear(&mut tape, 3).await;
    tokio::join!(first.stopped(), stage.engine.stop(Duration::ZERO));
    let Stage { storage, _folder: folder, .. } = stage;

    let stage = Stage::set_on(storage, folder, LocalBusConfig::default(), |_| {}).await;
    let second = stage.runtime.next_run().await;
    let mut tape = stage.engine.read_tape(thread, all(), before[1].1).await.unwrap();
    say(&second, &json!(3));
    second.succeed(&json!({}));
    let after = hear(&mut tape, 3).await;
    assert_eq!(data(&after), [json!(2), json!(3), lifecycle("completed")], "it runs once");
    assert_eq!(after[0], before[2]);
    stage.until(thread, id, RunStatus::Success).await;
    let whole = hear(&mut stage.engine.read_tape(thread, all(), 0).await.unwrap(), 5).await;
    assert_eq!(whole, [&before[..], &after[1..]].concat());
}

#[tokio::test]
async fn ends_are_told_as_what_they_are() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let mut tape = stage.engine.read_tape(thread, all(), 0).await.unwrap();
    let (_, run) = begin(&stage, thread).await;
    run.raise("ValueError", "too bad");
    let failed = json!({ "event": "failed", "graph_name": "echo", "error": "too bad" });
    assert_eq!(data(&hear(&mut tape, 2).await)[1], failed);
    for action in [CancelAction::Interrupt, CancelAction::Rollback] {
        let (id, mut run) = begin(&stage, thread).await;
        hear(&mut tape, 1).await;
        let stop = async { assert_ne!(run.stopped().await, StopReason::Drain) };
        let (cancelled, ()) = tokio::join!(stage.engine.cancel_run(thread, id, action, false), stop);
        cancelled.unwrap();
        assert_eq!(data(&hear(&mut tape, 1).await), [lifecycle("interrupted")], "{action:?}");
    }
}

#[tokio::test]
async fn a_run_that_is_cancelled_before_it_begins_says_its_end_to_who_listens_and_to_who_comes_late() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let mut tape = stage.engine.read_tape(thread, all(), 0).await.unwrap();
    let (first, running) = begin(&stage, thread).await;
    let asked = RunRequest { event_streaming: true, stream_resumable: true, ..request() };
    let waiting = stage.run_on(thread, asked).await.run.run_id;
    stage.engine.cancel_run(thread, waiting, CancelAction::Interrupt, false).await.unwrap();
    running.succeed(&json!({}));
    let heard = hear(&mut tape, 3).await;
    assert_eq!(data(&heard), [lifecycle("running"), lifecycle("completed"), lifecycle("interrupted")]);
    assert!(heard[1].0.contains(&first.to_string()) && heard[2].0.contains(&waiting.to_string()));
    assert_eq!(hear(&mut stage.engine.read_tape(thread, all(), 0).await.unwrap(), 3).await, heard);
}

#[tokio::test]
async fn the_tree_of_a_run_has_the_graphs_that_told_of_themselves() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let none = stage.engine.graph_tree(thread, None).await;
    assert_eq!(none, Err(Error::NotFound("run")));
    let (id, run) = begin(&stage, thread).await;
    let started = json!({ "event": "started", "graph_name": "inner", "namespace": ["child:1"] });
    let params = json!({ "namespace": ["child:1"], "timestamp": 1, "data": started });
    let text = format!(r#"{{"type":"event","method":"lifecycle","params":{params}}}"#);
    run.say("lifecycle|child:1", &serde_json::value::RawValue::from_string(text).unwrap());
    let mut tape = stage.engine.read_tape(thread, all(), 0).await.unwrap();
    hear(&mut tape, 2).await;
    let child = json!({ "namespace": ["child:1"], "status": "started", "graph_name": "inner" });
    let tree = |status: &str| json!({ "namespace": [], "status": status, "graph_name": "echo", "children": [child] });
    let seen = async |run| json!(stage.engine.graph_tree(thread, run).await.unwrap());
    assert_eq!(seen(None).await, tree("running"));
    run.succeed(&json!({}));
    hear(&mut tape, 1).await;
    // What goes on is meant before what is only newer.
    let ordinary = stage.run_on(thread, request()).await.run.run_id;
    stage.runtime.next_run().await.succeed(&json!({}));
    stage.until(thread, ordinary, RunStatus::Success).await;
    assert_eq!(seen(Some(id)).await, tree("completed"));
    assert_eq!(seen(None).await, json!({ "namespace": [], "status": "completed", "graph_name": "echo" }));
}

#[tokio::test]
async fn a_fork_is_of_a_checkpoint_that_is_there() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let fork = |id: &str| ForkRun {
        checkpoint_id: id.to_owned(),
        input: None,
        config: Object::new(),
        of_request: Object::new(),
    };
    assert_eq!(stage.engine.fork_run(thread, fork("x")).await, Err(Error::NotFound("checkpoint")));
}

#[tokio::test]
async fn a_run_waits_for_the_end_of_another_before_its_strategy_is_applied() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let (_, first) = begin(&stage, thread).await;
    let (engine, reject) = (stage.engine.clone(), start(MultitaskStrategy::Reject));
    let time = StillTime::begin();
    let second = engine.start_run(thread, reject.clone());
    tokio::pin!(second);
    assert!(waits(&mut second).await);
    first.succeed(&json!({}));
    second.await.unwrap();
    stage.runtime.next_run().await;
    drop(time);
    assert!(matches!(stage.engine.start_run(thread, reject).await, Err(Error::Conflict(_))));
}

#[tokio::test]
async fn runs_that_others_began_are_heard_while_they_go_on() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let mut tape = stage.engine.read_tape(thread, all(), 0).await.unwrap();
    let started = stage.run_on(thread, request()).await;
    let run = stage.runtime.next_run().await;
    run.say("values|child:1", &json!({ "a": 1, "__interrupt__": [{ "id": "i", "value": "why?" }] }));
    run.say("custom", &json!({ "step": 1 }));
    run.succeed(&json!({}));
    let heard = hear(&mut tape, 5).await;
    let asked = json!({ "interrupt_id": "i", "payload": "why?", "value": "why?" });
    let said = json!({ "payload": { "step": 1 } });
    assert_eq!(data(&heard), [lifecycle("running"), json!({ "a": 1 }), asked, said, lifecycle("completed")]);
    assert_eq!(heard[0].0, format!("synth:{}:start", started.run.run_id));
    stage.run_on(thread, request()).await;
    stage.runtime.next_run().await.pause(&json!({}));
    assert_eq!(data(&hear(&mut tape, 2).await), [lifecycle("running"), lifecycle("interrupted")]);
}

#[tokio::test]
async fn what_ended_runs_of_others_said_is_for_who_reads_from_the_start() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let resumable = RunRequest { stream_resumable: true, ..request() };
    let ordinary = stage.run_on(thread, resumable).await.run.run_id;
    let run = stage.runtime.next_run().await;
    run.say("values", &json!({ "a": 1 }));
    run.succeed(&json!({}));
    stage.until(thread, ordinary, RunStatus::Success).await;
    let (id, run) = begin(&stage, thread).await;
    run.succeed(&json!({}));
    stage.until(thread, id, RunStatus::Success).await;
    let whole = hear(&mut stage.engine.read_tape(thread, all(), 0).await.unwrap(), 5).await;
    let of_each = [lifecycle("running"), lifecycle("completed")];
    assert_eq!(data(&whole), [&of_each[..1], &[json!({ "a": 1 })], &of_each[1..], &of_each[..]].concat());
    let mut late = stage.engine.read_tape(thread, all(), whole[3].1).await.unwrap();
    assert_eq!(hear(&mut late, 1).await, whole[4..]);
    // Who joins a tape hears them, and who was there does not hear them again.
    let of_values = EventFilter { channels: vec!["values".to_owned()], ..EventFilter::default() };
    let mut joined = late.joined(of_values, 0).await.unwrap();
    assert_eq!(hear(&mut joined, 1).await, whole[1..2]);
}

#[tokio::test]
async fn what_runs_that_others_began_stream_is_heard_in_the_words_of_the_protocol() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let channels = ["updates", "messages", "tasks", "checkpoints", "input"].map(str::to_owned).to_vec();
    let filter = EventFilter { channels, ..EventFilter::default() };
    let mut tape = stage.engine.read_tape(thread, filter, 0).await.unwrap();
    let started = stage.run_on(thread, request()).await;
    let run = stage.runtime.next_run().await;
    let config = |id: &str| json!({ "configurable": { "checkpoint_id": id } });
    let asked = json!([{ "id": "i", "value": "why?" }]);
    run.say("updates|child:1", &json!({ "ask": { "a": 1 }, "__interrupt__": asked }));
    run.say("values", &json!({ "__interrupt__": asked }));
    run.say("tasks", &json!({ "id": "t", "name": "ask" }));
    let metadata = json!({ "step": 2, "source": "loop" });
    run.say("checkpoints", &json!({ "config": config("c2"), "parent_config": config("c1"), "metadata": metadata }));
    run.say("messages", &json!([{ "type": "AIMessageChunk", "id": "m", "content": "hi" }, { "langgraph_node": "n" }]));
    run.succeed(&json!({}));
    let heard = hear(&mut tape, 9).await;
    let said = |data: Value| {
        let mut said = json!({ "id": "m", "run_id": "m" });
        said.as_object_mut().unwrap().extend(data.as_object().unwrap().clone());
        said
    };
    let text = |text: &str| json!({ "type": "text", "text": text });
    let expected = [
        json!({ "node": "ask", "values": { "a": 1 } }),
        json!({ "interrupt_id": "i", "payload": "why?", "value": "why?" }),
        json!({ "id": "t", "name": "ask" }),
        json!({ "id": "c2", "parent_id": "c1", "step": 2, "source": "loop" }),
        said(json!({ "event": "message-start", "role": "ai" })),
        said(json!({ "event": "content-block-start", "index": 0, "content": text("") })),
        said(json!({ "event": "content-block-delta", "index": 0, "delta": { "type": "text-delta", "text": "hi" } })),
        said(json!({ "event": "content-block-finish", "index": 0, "content": text("hi") })),
        said(json!({ "event": "message-finish" })),
    ];
    assert_eq!(data(&heard), expected);
    let ids: std::collections::HashSet<_> = heard.iter().map(|(id, _, _)| id.clone()).collect();
    assert!(ids.len() == heard.len() && ids.iter().all(|id| id.contains(&started.run.run_id.to_string())));
}

#[tokio::test]
async fn an_answer_is_for_an_interrupt_that_waits_and_is_used_once() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let (_, run) = begin(&stage, thread).await;
    let id = "0123456789abcdef0123456789abcdef";
    run.end(threadyard_core::runtime::RunEnd {
        has_next: true,
        interrupts: Some(raw(&json!({ "task": [{ "id": id, "value": "why?" }] }))),
        ..threadyard_core::testkit::run_end(threadyard_core::runtime::RunEndStatus::Success)
    });
    let answers = |id: &str| Answers {
        responses: vec![(id.to_owned(), raw(&json!("because")))],
        update: None,
        goto: None,
        config: Object::new(),
        metadata: Object::new(),
        of_request: Object::new(),
    };
    assert_eq!(stage.engine.answer(thread, answers("other")).await, Err(Error::NotFound("interrupt")));
    let _time = StillTime::begin();
    let (once, twice) = tokio::join!(stage.engine.answer(thread, answers(id)), async {
        let run = stage.runtime.next_run().await;
        let command: Value = serde_json::from_str(run.job.command.as_ref().unwrap().get()).unwrap();
        assert_eq!(command, json!({ "resume": { id: "because" }, "update": null, "goto": null }));
        let again = stage.engine.answer(thread, answers(id));
        tokio::pin!(again);
        assert!(waits(&mut again).await);
        run.succeed(&json!({}));
        again.await
    });
    assert!(once.is_ok());
    assert_eq!(twice, Err(Error::NotFound("interrupt")));
    let heard = hear(&mut stage.engine.read_tape(thread, all(), 0).await.unwrap(), 5).await;
    // Others who show the question stop asking.
    let answered = json!({ "interrupt_ids": [id] });
    let of_both =
        [lifecycle("running"), lifecycle("interrupted"), lifecycle("running"), answered, lifecycle("completed")];
    assert_eq!(data(&heard), of_both);
}

#[tokio::test]
async fn a_strict_answer_to_what_does_not_wait_fails_its_run_and_leaves_the_thread_as_it_was() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let (open, other) = ("0123456789abcdef0123456789abcdef", "f123456789abcdef0123456789abcdef");
    let (first, run) = begin(&stage, thread).await;
    run.end(threadyard_core::runtime::RunEnd {
        has_next: true,
        interrupts: Some(raw(&json!({ "task": [{ "id": open, "value": "why?" }] }))),
        ..threadyard_core::testkit::run_end(threadyard_core::runtime::RunEndStatus::Success)
    });
    stage.until(thread, first, RunStatus::Success).await;
    let answer =
        |id: &str| RunRequest { command: Some(raw(&json!({ "resume": { id: 1 } }))), strict_resume: true, ..request() };
    let refused = stage.run_on(thread, answer(other)).await;
    let error = stage.result(refused).await["__error__"].clone();
    assert_eq!(error["error"], "UnknownInterruptError");
    assert!([open, other].iter().all(|id| error["message"].as_str().unwrap().contains(id)));
    assert_eq!(stage.thread_status(thread).await, threadyard_core::threads::ThreadStatus::Interrupted);
    stage.run_on(thread, answer(open)).await;
    stage.runtime.next_run().await.succeed(&json!({}));
}

#[tokio::test]
async fn input_on_a_thread_that_waits_is_the_answer() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let (_, run) = begin(&stage, thread).await;
    run.end(threadyard_core::runtime::RunEnd {
        has_next: true,
        interrupts: Some(raw(&json!({ "task": [{ "id": "i", "value": "why?" }] }))),
        ..threadyard_core::testkit::run_end(threadyard_core::runtime::RunEndStatus::Success)
    });
    let (_, run) = begin(&stage, thread).await;
    assert_eq!(run.job.command.as_ref().unwrap().get(), r#"{"resume":{"a":1}}"#);
    assert!(run.job.input.is_none());
}
