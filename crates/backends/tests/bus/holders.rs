//! A run that changes hands: attempts at one replica after the other, and readers at all of them.

use std::{sync::Arc, time::Duration};

use threadyard_backends::SharedBusConfig;
use threadyard_core::{
    ambient::Ambient,
    bus::{Closing, EventBus, From, Received},
    stream::EventId,
};
use tokio::time::Instant;

use crate::{Speaker, hear, next, read, replicas, run, some, thread};

#[tokio::test(start_paused = true)]
async fn readers_hear_the_next_attempt_at_another_replica() {
    let (_net, [first, second, third]) = replicas(SharedBusConfig::default()).await;
    let (here, there) = (first.follow(run(1), thread(1), From::Start), third.follow(run(1), thread(1), From::Start));
    hear(first.as_ref(), third.as_ref()).await;
    let mut attempt = Speaker::open(&first, 1);
    attempt.say(&["a"]);
    attempt.hand_over();
    hear(second.as_ref(), first.as_ref()).await;
    let mut attempt = Speaker::open(&second, 1);
    attempt.say(&["b"]);
    attempt.close(Some("1"));
    for reader in [here, there] {
        let heard = read(reader).await;
        assert_eq!((heard.names.concat(), heard.lagged, heard.result), ("ab".into(), false, Some("1".into())));
    }
    assert!(first.subscribe(run(1), From::Now).is_none(), "nothing of it is left where it was before");
}

#[tokio::test(start_paused = true)]
async fn events_that_are_kept_are_numbered_through_over_attempts() {
    let (_net, [first, second, third]) = replicas(SharedBusConfig::default()).await;
    let mut reader = third.follow(run(1), thread(1), From::Start);
    hear(first.as_ref(), third.as_ref()).await;
    let kept = |seq| EventId { epoch_ms: 7, seq };
    let mut attempt = Speaker::open(&first, 1).at(kept(1));
    attempt.say(&["a", "b"]);
    attempt.hand_over();
    let mut attempt = Speaker::open(&second, 1).at(kept(3));
    attempt.say(&["c"]);
    let mut heard = 1;
    while heard < 4 {
        match next(&mut reader).await {
            Received::Events(first, events) => {
                assert_eq!(first, kept(heard));
                heard += events.len() as u64;
            }
            other => panic!("{other:?}"),
        }
    }
    // Something was kept that nobody told: there the reader looks at what is kept.
    attempt.at(kept(9)).say(&["i"]);
    assert!(matches!(next(&mut reader).await, Received::Events(first, _) if first == kept(9)));
}

#[tokio::test(start_paused = true)]
async fn a_follower_may_become_the_holder() {
    let (net, [first, second]) = replicas(SharedBusConfig::default()).await;
    let mut reader = second.follow(run(1), thread(1), From::Start);
    hear(first.as_ref(), second.as_ref()).await;
    let mut attempt = Speaker::open(&first, 1);
    attempt.say(&["a"]);
    assert_eq!(some(&mut reader, 1).await, ["a"]);
    attempt.hand_over();
    let mut attempt = Speaker::open(&second, 1);
    hear(first.as_ref(), second.as_ref()).await;
    let (_, before) = net.carried();
    attempt.say(&["b"]);
    attempt.close(None);
    let heard = read(reader).await;
    assert_eq!((heard.names.concat(), heard.lagged), ("b".into(), false));
    assert_eq!(net.carried().1, before, "nobody elsewhere follows it any more");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_does_not_notice_that_it_is_over_disturbs_nobody() {
    let (_net, [first, second, third]) = replicas(SharedBusConfig::default()).await;
    let reader = third.follow(run(1), thread(1), From::Start);
    hear(first.as_ref(), third.as_ref()).await;
    let (mut lost, mut next) = (Speaker::open(&first, 1), Speaker::open(&second, 1));
    lost.say(&["a"]);
    next.say(&["b"]);
    lost.say(&["c"]);
    hear(third.as_ref(), first.as_ref()).await;
    next.say(&["d"]);
    next.close(Some("1"));
    let heard = read(reader).await;
    let mut names = heard.names.clone();
    names.sort();
    assert_eq!((names.concat(), heard.result), ("abcd".into(), Some("1".into())));
    lost.hand_over();
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_dies_takes_only_what_it_did_not_say() {
    let (_net, [first, second, third]) = replicas(SharedBusConfig::default()).await;
    let mut reader = third.follow(run(1), thread(1), From::Start);
    hear(first.as_ref(), third.as_ref()).await;
    let mut attempt = Speaker::open(&first, 1);
    attempt.say(&["a"]);
    assert_eq!(some(&mut reader, 1).await, ["a"]);
    drop((attempt, first));
    let mut attempt = Speaker::open(&second, 1);
    attempt.say(&["b"]);
    attempt.close(None);
    assert_eq!(read(reader).await.names, ["b"]);
}

#[tokio::test(start_paused = true)]
async fn who_did_not_execute_a_run_does_not_take_its_result_away() {
    let (_net, [holder, other, third]) = replicas(SharedBusConfig::default()).await;
    for answers in [true, false] {
        let n = 1 + u64::from(answers);
        let mut reader = third.follow(run(n), thread(1), From::Start);
        hear(holder.as_ref(), third.as_ref()).await;
        hear(other.as_ref(), third.as_ref()).await;
        let mut speaker = Speaker::open(&holder, n);
        speaker.say(&["a"]);
        assert_eq!(some(&mut reader, 1).await, ["a"]);
        // It looked into storage, where the run had ended.
        other.close(run(n), Closing::default());
        hear(third.as_ref(), other.as_ref()).await;
        if answers {
            speaker.close(Some("1"));
        }
        assert_eq!(read(reader).await.result.is_some(), answers);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_new_learns_at_once_what_others_want() {
    let (net, [first]) = replicas(SharedBusConfig::default()).await;
    let (reader, mut watch) = (first.follow(run(1), thread(1), From::Start), first.watch(thread(1)));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let second: Arc<dyn EventBus> = Arc::new(net.join(SharedBusConfig::default(), Ambient::system()));
    tokio::time::sleep(Duration::from_millis(10)).await;
    let begin = Instant::now();
    for n in [1, 2] {
        let mut speaker = Speaker::open(&second, n);
        speaker.say(&["a"]);
        speaker.close(None);
    }
    assert_eq!(read(reader).await.names, ["a"]);
    assert_eq!((watch.next().await.0, watch.next().await.0), (run(1), run(2)));
    assert!(begin.elapsed() < Duration::from_millis(100));
}
