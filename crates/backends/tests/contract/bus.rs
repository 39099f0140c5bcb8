//! The event bus.

use std::time::Duration;

use bytes::Bytes;
use threadyard_backends::{LocalBus, LocalBusConfig};
use threadyard_core::{
    bus::{Closing, EventBus, From, Received, Subscription, Topic},
    stream::{EventId, StreamEvent},
    testkit::ambient,
};

use crate::{run, thread};

fn bus(max_bytes: usize) -> LocalBus {
    LocalBus::new(LocalBusConfig { max_bytes, keep: Duration::from_mins(1) }, ambient().0)
}

fn events(names: &[&str]) -> Vec<StreamEvent> {
    names.iter().map(|name| StreamEvent { name: (*name).into(), data: Bytes::from_static(b"{}") }).collect()
}

/// Reads to the end: the names that were heard, the last id, and whether the stream lagged.
async fn read(mut reader: Box<dyn Subscription>) -> (Vec<String>, Option<EventId>, bool) {
    let (mut names, mut last) = (Vec::new(), None);
    loop {
        match reader.next().await {
            Received::Events(first, events) => {
                last = Some(EventId { seq: first.seq + events.len() as u64 - 1, ..first });
                names.extend(events.into_iter().map(|event| event.name.into_string()));
            }
            Received::Lagged => return (names, last, true),
            Received::Closed(_) => return (names, last, false),
        }
    }
}

#[tokio::test]
async fn replay_and_live_events_follow_without_gap_or_duplicate() {
    let bus = bus(1 << 20);
    bus.open(run(1), thread(1), true);
    bus.append(run(1), events(&["a", "b"]));
    let from_start = bus.subscribe(run(1), From::After(EventId::START)).unwrap();
    let from_now = bus.subscribe(run(1), From::Now).unwrap();
    bus.append(run(1), events(&["c"]));
    bus.close(run(1), Closing::default());
    let (names, last, _) = read(from_start).await;
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(read(from_now).await.0, ["c"]);
    let second = EventId { seq: 2, ..last.unwrap() };
    assert_eq!(read(bus.subscribe(run(1), From::After(second)).unwrap()).await.0, ["c"]);
    assert!(read(bus.subscribe(run(1), From::After(last.unwrap())).unwrap()).await.0.is_empty());
}

#[tokio::test]
async fn a_stream_that_is_not_kept_is_gone_after_its_end() {
    let bus = bus(1 << 20);
    bus.open(run(1), thread(1), false);
    let reader = bus.subscribe(run(1), From::Now).unwrap();
    bus.append(run(1), events(&["a"]));
    bus.close(run(1), Closing { result: Some(Bytes::from_static(b"1")) });
    assert!(bus.subscribe(run(1), From::Now).is_none());
    assert_eq!(read(reader).await.0, ["a"]);
}

#[tokio::test]
async fn who_falls_too_far_behind_is_told() {
    let bus = bus(10);
    bus.open(run(1), thread(1), false);
    let mut reader = bus.subscribe(run(1), From::Now).unwrap();
    bus.append(run(1), events(&["aaaa", "bbbb", "cccc"]));
    assert!(matches!(reader.next().await, Received::Lagged));
    // It goes on with what is left, so that who only waits for the end gets there.
    bus.close(run(1), Closing::default());
    assert_eq!(read(reader).await.0, ["cccc"]);
}

#[tokio::test]
async fn only_what_a_reader_still_needs_counts() {
    let bus = bus(10);
    bus.open(run(1), thread(1), false);
    let mut reader = bus.subscribe(run(1), From::Now).unwrap();
    for name in ["aaaa", "bbbb", "cccc"] {
        bus.append(run(1), events(&[name]));
        assert!(matches!(reader.next().await, Received::Events(_, events) if &*events[0].name == name));
    }
    drop(reader);
    bus.append(run(1), events(&["dddd"]));
    assert!(bus.subscribe(run(1), From::Now).is_some());
}

#[tokio::test]
async fn a_wake_between_interest_and_wait_is_not_lost() {
    let bus = bus(10);
    let woken = bus.woken(Topic::Runs);
    bus.wake(Topic::Runs);
    woken.await;
    let other = bus.woken(Topic::Deliveries);
    bus.wake(Topic::Runs);
    assert!(tokio::time::timeout(Duration::from_millis(5), other).await.is_err());
}

#[tokio::test]
async fn who_watches_a_thread_hears_of_its_runs() {
    let bus = bus(10);
    let (mut watch, other) = (bus.watch(thread(1)), bus.watch(thread(2)));
    bus.open(run(1), thread(1), false);
    bus.open(run(1), thread(1), false);
    bus.open(run(2), thread(2), false);
    bus.open(run(3), thread(1), false);
    bus.append(run(1), events(&["a"]));
    bus.close(run(1), Closing::default());
    let (first, reader) = watch.next().await;
    assert_eq!((first, read(reader).await.0), (run(1), vec!["a".to_owned()]), "though its stream is gone by now");
    assert_eq!(watch.next().await.0, run(3));
    drop(other);
    bus.open(run(4), thread(2), false);
}
