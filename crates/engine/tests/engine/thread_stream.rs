//! Following a thread behind an event, for readers that come back.

use std::time::Duration;

use serde_json::{Value, json};
use threadyard_core::{ids::ThreadId, stream::EventId};
use threadyard_engine::{RunRequest, StartedRun, ThreadStream, ThreadStreamMode};

use crate::{SOON, Stage, json_of, request};

async fn follow(stage: &Stage, thread: ThreadId, last: Option<EventId>) -> ThreadStream {
    stage.engine.follow_thread(thread, vec![ThreadStreamMode::RunModes], last).await.unwrap()
}

/// The next events, each with its id.
async fn hear(stream: &mut ThreadStream, count: usize) -> Vec<(EventId, Value)> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let (first, events) = tokio::time::timeout(SOON, stream.next()).await.unwrap();
        let ids = (first.seq..).map(|seq| EventId { seq, ..first });
        heard.extend(ids.zip(events.iter().map(|event| json_of(&event.data))));
    }
    heard
}

async fn says_nothing(stream: &mut ThreadStream) -> bool {
    tokio::time::timeout(Duration::from_millis(50), stream.next()).await.is_err()
}

#[tokio::test]
async fn who_comes_back_to_a_thread_hears_what_followed_of_all_its_resumable_runs() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let mut early = follow(&stage, thread, None).await;
    let resumable = || RunRequest { stream_resumable: true, ..request() };
    for n in 1..=2 {
        let started = stage.run_on(thread, resumable()).await;
        let run = stage.runtime.next_run().await;
        run.say("values", &json!(n));
        run.succeed(&json!({}));
        stage.result(started).await;
        stage.advance(Duration::from_secs(1));
    }
    // That it begins, its values, and that it is done, of each.
    let whole = hear(&mut early, 6).await;
    assert_eq!((&whole[1].1, &whole[4].1), (&json!(1), &json!(2)));
    assert_eq!(hear(&mut follow(&stage, thread, Some(EventId::START)).await, 6).await, whole);
    for place in 0..5 {
        let mut late = follow(&stage, thread, Some(whole[place].0)).await;
        assert_eq!(hear(&mut late, 5 - place).await, whole[place + 1..], "behind {place}");
    }
    assert!(says_nothing(&mut follow(&stage, thread, Some(whole[5].0)).await).await);

    // The next is heard by who has everything so far, and what it says before anybody comes as well.
    let mut late = follow(&stage, thread, Some(whole[5].0)).await;
    let StartedRun { run: third, .. } = stage.run_on(thread, resumable()).await;
    let run = stage.runtime.next_run().await;
    run.say("values", &json!(3));
    let begun = json!({ "run_id": third.run_id, "attempt": 1 });
    let heard = hear(&mut late, 2).await;
    assert_eq!((&heard[0].1, &heard[1].1), (&begun, &json!(3)));
    let mut later = follow(&stage, thread, Some(whole[4].0)).await;
    assert_eq!(hear(&mut later, 3).await, [&whole[5..], &heard[..]].concat());
    run.say("values", &json!(4));
    run.succeed(&json!({}));
    for reader in [&mut late, &mut later] {
        let rest = hear(reader, 2).await;
        assert_eq!(rest[0].1, json!(4));
    }
}

#[tokio::test]
async fn who_comes_back_in_the_middle_of_a_run_that_is_not_kept_hears_the_rest_of_it() {
    let stage = Stage::set().await;
    let thread = stage.thread().await;
    let mut early = follow(&stage, thread, None).await;
    let started = stage.run_on(thread, request()).await;
    let run = stage.runtime.next_run().await;
    for n in 1..=3 {
        run.say("values", &json!(n));
    }
    let before = hear(&mut early, 4).await;
    let mut late = follow(&stage, thread, Some(before[1].0)).await;
    assert_eq!(hear(&mut late, 2).await, before[2..]);
    run.succeed(&json!({}));
    let done = json!({ "run_id": started.run.run_id, "status": "run_done" });
    assert_eq!(hear(&mut late, 1).await[0].1, done);
    assert!(says_nothing(&mut follow(&stage, thread, Some(before[1].0)).await).await, "nothing of it is kept");
}
