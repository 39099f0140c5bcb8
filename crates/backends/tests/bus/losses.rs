//! Frames that are lost, come late, or mean nothing here.

use std::time::Duration;

use threadyard_backends::SharedBusConfig;
use threadyard_core::bus::{Closing, From, Received};

use crate::{Speaker, hear, next, read, replicas, run, some, thread};

#[tokio::test(start_paused = true)]
async fn what_is_lost_on_the_way_is_asked_for_again() {
    let (net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    let mut reader = other.follow(run(1), thread(1), From::Start);
    hear(holder.as_ref(), other.as_ref()).await;
    let mut speaker = Speaker::open(&holder, 1);
    for (names, lost) in [(&["a"][..], 1), (&["b"], 0), (&["c", "d"], 2), (&["e"], 0), (&["f"], 0)] {
        net.lose_next(lost);
        speaker.say(names);
        hear(other.as_ref(), holder.as_ref()).await;
    }
    assert_eq!(some(&mut reader, 6).await.concat(), "abcdef");
}

#[tokio::test(start_paused = true)]
async fn the_end_is_heard_though_everything_before_was_lost() {
    let (net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    for lost in 1..=3 {
        let n = 10 + lost as u64;
        let reader = other.follow(run(n), thread(1), From::Start);
        hear(holder.as_ref(), other.as_ref()).await;
        let mut speaker = Speaker::open(&holder, n);
        net.lose_next(lost);
        speaker.say(&["a"]);
        speaker.say(&["b"]);
        speaker.close(Some("1"));
        let heard = read(reader).await;
        assert_eq!((heard.names.concat(), heard.result), ("ab".into(), Some("1".into())), "{lost} lost");
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_late_hears_what_is_still_kept() {
    let (_net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    let mut speaker = Speaker::open(&holder, 1);
    speaker.say(&["a", "b"]);
    let mut middle = other.follow(run(1), thread(1), From::Start);
    assert_eq!(some(&mut middle, 2).await.concat(), "ab");
    drop(middle);
    speaker.close(Some("1"));
    tokio::time::sleep(Duration::from_secs(30)).await;
    let heard = read(other.follow(run(1), thread(1), From::Start)).await;
    assert_eq!((heard.names.concat(), heard.lagged, heard.result), ("ab".into(), false, Some("1".into())));
    let heard = read(other.follow(run(1), thread(1), From::Now)).await;
    assert_eq!((heard.names.concat(), heard.result), (String::new(), Some("1".into())));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_keeps_any_more_is_no_silent_gap() {
    let config = SharedBusConfig { kept_bytes: 7, ..SharedBusConfig::default() };
    let (net, [holder, other]) = replicas(config).await;
    let mut speaker = Speaker::open(&holder, 1);
    speaker.say(&["aa", "bb", "cc"]);
    let late = other.follow(run(1), thread(1), From::Start);
    assert!(read(late).await.lagged);

    let mut reader = other.follow(run(2), thread(1), From::Start);
    hear(holder.as_ref(), other.as_ref()).await;
    let mut speaker = Speaker::open(&holder, 2);
    speaker.say(&["a"]);
    assert_eq!(some(&mut reader, 1).await, ["a"]);
    net.lose_next(1);
    speaker.say(&["bb", "cc"]);
    speaker.say(&["dd"]);
    speaker.close(Some("1"));
    assert!(matches!(next(&mut reader).await, Received::Lagged));
    let heard = read(reader).await;
    assert_eq!((heard.names.concat(), heard.result), ("dd".into(), Some("1".into())), "it goes on with what there is");
}

#[tokio::test(start_paused = true)]
async fn the_end_is_heard_though_nobody_can_fill_the_gap_before_it() {
    let (net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    let mut reader = other.follow(run(1), thread(1), From::Start);
    hear(holder.as_ref(), other.as_ref()).await;
    let mut speaker = Speaker::open(&holder, 1);
    net.lose_next(1);
    speaker.say(&["a"]);
    speaker.close(Some("1"));
    hear(other.as_ref(), holder.as_ref()).await;
    let asks = async {
        // The holder dies before it is asked.
        drop(holder);
        (next(&mut reader).await, next(&mut reader).await)
    };
    let (first, second) = asks.await;
    let answered = matches!(first, Received::Events(..)) || matches!(first, Received::Lagged);
    assert!(answered && matches!(second, Received::Closed(Closing { result: Some(_) })), "{first:?}, {second:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_is_unheard_when_nobody_holds_it() {
    let (_net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    let (held, pending) = (run(1), run(2));
    holder.open(held, thread(1));
    let _silent = other.follow(held, thread(1), From::Now);
    let unheard = other.follow(pending, thread(1), From::Now);
    assert!(other.unheard().is_empty(), "it takes some time");
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(other.unheard(), [pending]);
    assert!(holder.unheard().is_empty());
    // Storage says that it has ended.
    other.close(pending, Closing::default());
    assert!(other.unheard().is_empty());
    assert_eq!(read(unheard).await.names, Vec::<String>::new());
    drop(holder);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(other.unheard(), [held]);
}

#[tokio::test(start_paused = true)]
async fn frames_of_other_versions_are_ignored() {
    let (net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    for frame in [&b""[..], b"\x02\x92", b"\x01", b"\x01\xc1", b"\xff\xff\xff"] {
        net.inject(frame);
    }
    hear(holder.as_ref(), other.as_ref()).await;
    hear(other.as_ref(), holder.as_ref()).await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_wire_loses_nothing() {
    let (net, [holder, other]) = replicas(SharedBusConfig::default()).await;
    net.delay(Duration::from_millis(700));
    let reader = other.follow(run(1), thread(1), From::Start);
    let mut speaker = Speaker::open(&holder, 1);
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        speaker.say(&[name]);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    speaker.close(Some("1"));
    let heard = read(reader).await;
    assert_eq!((heard.names.concat(), heard.result), ("abcdefgh".into(), Some("1".into())));
}
