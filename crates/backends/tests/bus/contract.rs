//! What every event bus must do, wherever its readers are.

use std::time::Duration;

use bytes::Bytes;
use threadyard_core::{
    bus::{Closing, From, Received, Topic},
    stream::{EventId, StreamEvent},
};

use crate::{Heard, PATIENCE, Setup, Speaker, next, read, run, some, thread};

macro_rules! on {
    ($place:ident, $kind:expr, $across:expr, [$($test:ident),*]) => {
        mod $place {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::Setup { kind: $kind, across: $across }).await;
            })*
        }
    };
}

macro_rules! on_every_bus {
    ($tests:tt) => {
        on!(local, crate::Kind::Local, false, $tests);
        on!(memory, crate::Kind::Memory, false, $tests);
        on!(memory_across, crate::Kind::Memory, true, $tests);
        on!(redis, crate::Kind::Redis, false, $tests);
        on!(redis_across, crate::Kind::Redis, true, $tests);
        on!(postgres, crate::Kind::Postgres, false, $tests);
        on!(postgres_across, crate::Kind::Postgres, true, $tests);
    };
}

on_every_bus!([
    readers_hear_everything_from_where_they_joined,
    events_that_do_not_follow_on_the_last_are_no_silent_gap,
    who_falls_too_far_behind_is_told,
    only_what_a_reader_still_needs_counts,
    a_wake_between_interest_and_wait_is_not_lost,
    who_watches_a_thread_hears_of_its_runs_in_the_order_they_begin,
    the_next_attempt_goes_on_in_the_same_stream,
    a_reader_may_come_before_anybody_speaks,
    large_events_arrive_whole
]);

fn heard(names: &[&str], last: EventId, result: Option<&'static [u8]>) -> Heard {
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    Heard { names, last: Some(last), lagged: false, result: result.map(Bytes::from_static) }
}

async fn readers_hear_everything_from_where_they_joined(setup: Setup) {
    let buses = setup.buses(1 << 20).await;
    let mut speaker = buses.speaker();
    let third = EventId { seq: speaker.next.seq + 2, ..speaker.next };
    let (from_start, mut witness) = (buses.follow(From::Start), buses.follow(From::Start));
    speaker.say(&["a", "b"]);
    some(&mut witness, 2).await;
    let from_now = buses.follow(From::Now);
    speaker.say(&["c"]);
    speaker.close(Some("1"));
    assert_eq!(read(from_start).await, heard(&["a", "b", "c"], third, Some(b"1")));
    assert_eq!(read(from_now).await, heard(&["c"], third, Some(b"1")));
    assert!(buses.reader.subscribe(run(1), From::Now).is_none());
}

async fn events_that_do_not_follow_on_the_last_are_no_silent_gap(setup: Setup) {
    let buses = setup.buses(1 << 20).await;
    let mut speaker = buses.speaker();
    let first = speaker.next;
    let (mut behind, mut abreast) = (buses.follow(From::Start), buses.follow(From::Start));
    speaker.say(&["a"]);
    assert!(matches!(next(&mut abreast).await, Received::Events(id, _) if id == first));
    let elsewhere = EventId { epoch_ms: first.epoch_ms, seq: 51 };
    speaker.at(elsewhere).say(&["x", "y"]);
    let ids = |received| match received {
        Received::Events(first, events) => (first, events.len()),
        other => panic!("{other:?}"),
    };
    assert_eq!(ids(next(&mut abreast).await), (elsewhere, 2));
    assert!(matches!(next(&mut behind).await, Received::Lagged));
    assert_eq!(ids(next(&mut behind).await), (elsewhere, 2));
    assert_eq!(buses.speaker().next, EventId { seq: 53, ..elsewhere });
}

async fn who_falls_too_far_behind_is_told(setup: Setup) {
    let buses = setup.buses(10).await;
    let mut speaker = buses.speaker();
    let mut reader = buses.follow(From::Now);
    buses.settled().await;
    speaker.say(&["aaaa", "bbbb", "cccc"]);
    assert!(matches!(next(&mut reader).await, Received::Lagged));
    // It goes on with what is left, so that who only waits for the end gets there.
    speaker.close(None);
    assert_eq!(read(reader).await.names, ["cccc"]);
}

async fn only_what_a_reader_still_needs_counts(setup: Setup) {
    let buses = setup.buses(10).await;
    let mut speaker = buses.speaker();
    let mut reader = buses.follow(From::Now);
    buses.settled().await;
    for name in ["aaaa", "bbbb", "cccc"] {
        speaker.say(&[name]);
        assert!(matches!(next(&mut reader).await, Received::Events(_, events) if &*events[0].name == name));
    }
    drop(reader);
    speaker.say(&["dddd"]);
    assert!(buses.holder.subscribe(run(1), From::Now).is_some());
}

async fn a_wake_between_interest_and_wait_is_not_lost(setup: Setup) {
    let buses = setup.buses(10).await;
    let woken = buses.reader.woken(Topic::Runs);
    buses.reader.wake(Topic::Runs);
    woken.await;
    let other = buses.reader.woken(Topic::Deliveries);
    buses.reader.wake(Topic::Runs);
    assert!(tokio::time::timeout(Duration::from_millis(5), other).await.is_err());
}

async fn who_watches_a_thread_hears_of_its_runs_in_the_order_they_begin(setup: Setup) {
    let buses = setup.buses(10).await;
    let mut third = Speaker::open(&buses.holder, 3);
    buses.holder.open(run(2), thread(2));
    let mut first = buses.speaker();
    let (mut watch, other) = (buses.reader.watch(thread(1)), buses.reader.watch(thread(2)));
    buses.settled().await;
    first.say(&["a"]);
    first.say(&["b"]);
    first.close(None);
    let (begun, reader) = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    let said = read(reader).await.names;
    assert_eq!((begun, said), (run(1), vec!["a".to_owned(), "b".to_owned()]), "though its stream is gone by now");
    third.say(&["c"]);
    let (begun, _) = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
    assert_eq!(begun, run(3), "opened before the watch, begun after it");
    drop(other);
    buses.holder.open(run(4), thread(2));
}

async fn the_next_attempt_goes_on_in_the_same_stream(setup: Setup) {
    let buses = setup.buses(1 << 20).await;
    let reader = buses.follow(From::Start);
    buses.settled().await;
    let mut first = buses.speaker();
    first.say(&["a"]);
    first.hand_over();
    let mut second = buses.speaker();
    second.say(&["b"]);
    let mut third = buses.speaker();
    // It was slow to notice that it is over.
    second.hand_over();
    third.say(&["c"]);
    third.close(Some("1"));
    let heard = read(reader).await;
    assert_eq!((heard.names.concat(), heard.lagged, heard.result), ("abc".into(), false, Some("1".into())));
}

async fn a_reader_may_come_before_anybody_speaks(setup: Setup) {
    let buses = setup.buses(1 << 20).await;
    let (all, ended) = (buses.follow(From::Start), buses.reader.follow(run(2), thread(2), From::Now));
    let mut speaker = buses.speaker();
    speaker.say(&["a"]);
    speaker.close(None);
    assert_eq!(read(all).await.names, ["a"]);
    buses.settled().await;
    buses.holder.close(run(2), Closing { result: Some("2".into()) });
    assert_eq!(read(ended).await.result, Some("2".into()), "though nobody ever spoke");
}

async fn large_events_arrive_whole(setup: Setup) {
    let buses = setup.buses(8 << 20).await;
    let mut reader = buses.follow(From::Start);
    buses.settled().await;
    let data = Bytes::from(vec![b'x'; 1 << 20]);
    let large = StreamEvent { name: "values".into(), data: data.clone() };
    buses.holder.append(run(1), buses.speaker().next, vec![large]);
    assert!(matches!(next(&mut reader).await, Received::Events(_, events) if events[0].data == data));
}
