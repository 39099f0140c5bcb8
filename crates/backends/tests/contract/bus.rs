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
    LocalBus::new(LocalBusConfig { max_bytes }, ambient().0)
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
                names.extend(events.into_iter().map(|event| event.name.to_string()));
            }
            Received::Lagged => return (names, last, true),
            Received::Closed(_) => return (names, last, false),
        }
    }
}

/// Adds events behind those that the stream has.
fn append(bus: &LocalBus, names: &[&str]) {
    let next = bus.open(run(1), thread(1));
    bus.append(run(1), next, events(names));
}

#[tokio::test]
async fn readers_hear_everything_from_where_they_joined() {
    let bus = bus(1 << 20);
    let first = bus.open(run(1), thread(1));
    let from_start = bus.subscribe(run(1), From::Start).unwrap();
    append(&bus, &["a", "b"]);
    let from_now = bus.subscribe(run(1), From::Now).unwrap();
    append(&bus, &["c"]);
    bus.close(run(1), Closing { result: Some(Bytes::from_static(b"1")) });
    assert!(bus.subscribe(run(1), From::Now).is_none());
    let third = EventId { seq: first.seq + 2, ..first };
    for (reader, heard) in [(from_start, vec!["a", "b", "c"]), (from_now, vec!["c"])] {
        let (names, last, lagged) = read(reader).await;
        assert_eq!((names, last, lagged), (heard.into_iter().map(str::to_owned).collect(), Some(third), false));
    }
}

#[tokio::test]
async fn events_that_do_not_follow_on_the_last_are_no_silent_gap() {
    let bus = bus(1 << 20);
    let next = bus.open(run(1), thread(1));
    let (mut behind, mut abreast) =
        (bus.subscribe(run(1), From::Start).unwrap(), bus.subscribe(run(1), From::Start).unwrap());
    append(&bus, &["a"]);
    assert!(matches!(abreast.next().await, Received::Events(first, _) if first == next));
    let elsewhere = EventId { epoch_ms: 7, seq: 51 };
    bus.append(run(1), elsewhere, events(&["x", "y"]));
    assert!(matches!(behind.next().await, Received::Lagged));
    for reader in [&mut behind, &mut abreast] {
        assert!(
            matches!(reader.next().await, Received::Events(first, events) if first == elsewhere && events.len() == 2)
        );
    }
    assert_eq!(bus.open(run(1), thread(1)), EventId { seq: 53, ..elsewhere });
}

#[tokio::test]
async fn who_falls_too_far_behind_is_told() {
    let bus = bus(10);
    bus.open(run(1), thread(1));
    let mut reader = bus.subscribe(run(1), From::Now).unwrap();
    append(&bus, &["aaaa", "bbbb", "cccc"]);
    assert!(matches!(reader.next().await, Received::Lagged));
    // It goes on with what is left, so that who only waits for the end gets there.
    bus.close(run(1), Closing::default());
    assert_eq!(read(reader).await.0, ["cccc"]);
}

#[tokio::test]
async fn only_what_a_reader_still_needs_counts() {
    let bus = bus(10);
    bus.open(run(1), thread(1));
    let mut reader = bus.subscribe(run(1), From::Now).unwrap();
    for name in ["aaaa", "bbbb", "cccc"] {
        append(&bus, &[name]);
        assert!(matches!(reader.next().await, Received::Events(_, events) if &*events[0].name == name));
    }
    drop(reader);
    append(&bus, &["dddd"]);
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
async fn who_watches_a_thread_hears_of_its_runs_in_the_order_they_begin() {
    let bus = bus(10);
    for (n, of) in [(3, 1), (2, 2), (1, 1)] {
        bus.open(run(n), thread(of));
    }
    let (mut watch, other) = (bus.watch(thread(1)), bus.watch(thread(2)));
    append(&bus, &["a"]);
    append(&bus, &["b"]);
    bus.close(run(1), Closing::default());
    let (first, reader) = watch.next().await;
    let said = read(reader).await.0;
    assert_eq!((first, said), (run(1), vec!["a".to_owned(), "b".to_owned()]), "though its stream is gone by now");
    let third = StreamEvent { name: "c".into(), data: "1".into() };
    bus.append(run(3), bus.open(run(3), thread(1)), vec![third]);
    assert_eq!(watch.next().await.0, run(3), "opened before the watch, begun after it");
    drop(other);
    bus.open(run(4), thread(2));
}
