//! What replicas say to each other, and what they don't.

use std::time::Duration;

use threadyard_backends::SharedBusConfig;
use threadyard_core::bus::{From, Topic};

use crate::{PATIENCE, Speaker, hear, read, replicas, run, some, thread};

/// Longer than a reader's absence needs to be known.
const SOON: Duration = Duration::from_millis(20);

#[tokio::test(start_paused = true)]
async fn no_event_leaves_a_replica_that_nobody_asked_for() {
    let (net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    let (_, before) = net.carried();
    let here = holder.follow(run(1), thread(1), From::Start);
    let elsewhere = other.follow(run(2), thread(2), From::Start);
    let watch = other.watch(thread(3));
    // As one does who asks for a run and does not wait for it.
    drop(other.follow(run(1), thread(1), From::Start));
    tokio::time::sleep(SOON).await;
    let mut speaker = Speaker::open(&holder, 1);
    speaker.say(&["a"]);
    speaker.close(None);
    assert_eq!(read(here).await.names, ["a"]);
    tokio::time::sleep(SOON).await;
    assert_eq!(net.carried().1, before);
    drop((elsewhere, watch));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_nobody_reads_any_more_is_not_followed() {
    let (net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    let (one, mut two) = (other.follow(run(1), thread(1), From::Start), other.follow(run(1), thread(1), From::Start));
    hear(holder.as_ref(), other.as_ref()).await;
    let mut speaker = Speaker::open(&holder, 1);
    drop(one);
    speaker.say(&["a"]);
    assert_eq!(some(&mut two, 1).await, ["a"]);
    drop(two);
    tokio::time::sleep(SOON).await;
    let (_, before) = net.carried();
    speaker.say(&["b"]);
    tokio::time::sleep(SOON).await;
    assert_eq!(net.carried().1, before);
    assert!(other.subscribe(run(1), From::Now).is_none() && other.unheard().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_a_replica_wants_is_remembered_as_long_as_it_lives() {
    let (net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    let (mut reader, mut watch) = (other.follow(run(1), thread(1), From::Start), other.watch(thread(1)));
    let mut speaker = Speaker::open(&holder, 1);
    tokio::time::sleep(Duration::from_mins(5)).await;
    speaker.say(&["a"]);
    assert_eq!(some(&mut reader, 1).await, ["a"]);
    let mut second = Speaker::open(&holder, 2);
    second.say(&["b"]);
    let (first, mut told) = (watch.next().await.0, watch.next().await);
    assert_eq!((first, told.0, some(&mut told.1, 1).await), (run(1), run(2), vec!["b".to_owned()]));

    drop((reader, watch, told));
    drop(other);
    tokio::time::sleep(Duration::from_mins(1)).await;
    let (_, before) = net.carried();
    speaker.say(&["c"]);
    Speaker::open(&holder, 3).say(&["d"]);
    tokio::time::sleep(SOON).await;
    assert_eq!(net.carried().1, before);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_readers_cost_one_frame() {
    let (net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    let mut readers: Vec<_> = (0..200).map(|_| other.follow(run(1), thread(1), From::Start)).collect();
    hear(holder.as_ref(), other.as_ref()).await;
    let (_, before) = net.carried();
    let mut speaker = Speaker::open(&holder, 1);
    speaker.say(&["a"]);
    for reader in &mut readers {
        assert_eq!(some(reader, 1).await, ["a"]);
    }
    assert_eq!(net.carried().1, before + 1);
}

#[tokio::test(start_paused = true)]
async fn many_wakes_of_a_topic_are_one() {
    let (net, [first, second]) = replicas(SharedBusConfig::default()).await;
    let (here, there) = (first.woken(Topic::Cancels), second.woken(Topic::Cancels));
    let (before, _) = net.carried();
    for _ in 0..100 {
        first.wake_others(Topic::Cancels);
        first.wake_others(Topic::Runs);
    }
    tokio::time::timeout(PATIENCE, there).await.unwrap();
    assert_eq!(net.carried().0, before + 1);
    assert!(tokio::time::timeout(SOON, here).await.is_err(), "it was for others");
}

#[tokio::test(start_paused = true)]
async fn each_watch_hears_each_run_once() {
    let (_net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    let (mut one, mut two) = (other.watch(thread(1)), other.watch(thread(1)));
    hear(holder.as_ref(), other.as_ref()).await;
    for n in 1..=3 {
        let mut speaker = Speaker::open(&holder, n);
        speaker.say(&["a"]);
        tokio::time::sleep(Duration::from_secs(10)).await;
        speaker.close(None);
    }
    for n in 1..=3 {
        for watch in [&mut one, &mut two] {
            let (begun, reader) = tokio::time::timeout(PATIENCE, watch.next()).await.unwrap();
            assert_eq!((begun, read(reader).await.names), (run(n), vec!["a".to_owned()]));
        }
    }
    drop(two);
    Speaker::open(&holder, 4).say(&["b"]);
    assert_eq!(tokio::time::timeout(PATIENCE, one.next()).await.unwrap().0, run(4));
}

#[tokio::test]
async fn a_bus_that_is_dropped_ends_its_tasks() {
    let (net, [first, second]) = replicas(SharedBusConfig::default()).await;
    let reader = second.follow(run(1), thread(1), From::Start);
    assert_eq!(net.connected(), 2);
    drop(second);
    let ended = async {
        while net.connected() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
    drop((first, reader));
}
