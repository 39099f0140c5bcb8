//! What replicas say to each other, and how it is written: a byte for the version, then msgpack.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use threadyard_core::{
    bus::{Closing, From, Topic},
    ids::{RunId, ThreadId},
    stream::{EventId, StreamEvent},
};
use uuid::Uuid;

/// Replicas ignore frames of other versions, so that they can be upgraded one by one.
const VERSION: u8 = 1;

/// Names one server of several, from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct ReplicaId(pub(super) Uuid);

/// Names what one replica says for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct LogId(pub(super) Uuid);

/// Something that one replica says to others.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Frame {
    pub(super) from: ReplicaId,
    pub(super) said: Said,
}

/// What a frame says. Variants are written by their names; a replica that does not know one ignores it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// The sender is new, or was away: it is to be told what is wanted.
    Hello,
    /// Wake these topics; each is a place in `Topic::ALL`.
    Wake(Vec<u8>),
    /// The sender follows these runs.
    Want(Vec<Want>),
    /// The sender does not follow these runs any more.
    Unwant(Vec<RunId>),
    /// The sender watches these threads.
    Watch(Vec<Watch>),
    /// The sender does not watch this thread any more.
    Unwatch(ThreadId),
    /// A run has said this. Only to who wants it.
    Events(Events),
    /// A run has ended. Only to who wants it.
    Closed(Closed),
}

/// A run that is followed elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Want {
    pub(super) run: RunId,
    /// Whether what was said before is wanted too; otherwise only what is said from now on.
    from_start: bool,
    /// How far the follower is. Logs that are not here are unknown to it.
    has: Vec<Place>,
}

/// A place in what one replica says for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) log: LogId,
    /// Counts the events before it.
    pub(super) next: u64,
}

/// A thread that is watched elsewhere.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Watch {
    pub(super) thread: ThreadId,
    /// The sender may have missed runs that began within this time.
    pub(super) missed_ms: u64,
}

/// A part of what a replica says for a run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Events {
    pub(super) run: RunId,
    pub(super) thread: ThreadId,
    pub(super) log: LogId,
    /// Up to where the receiver must have heard everything before, else something was lost on the way.
    pub(super) follows: u64,
    /// The place of the first event. Where it is further on, what is between is not kept any more.
    pub(super) place: u64,
    /// The id of the first event, as milliseconds and number.
    first: (i64, u64),
    said: Vec<(Arc<str>, Bytes)>,
}

/// The end of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Closed {
    pub(super) run: RunId,
    /// What the sender said for the run: its thread, and the place behind the last event.
    pub(super) said: Option<(ThreadId, Place)>,
    result: Option<Bytes>,
}

impl Want {
    pub(super) fn new(run: RunId, from: From, has: Vec<Place>) -> Self {
        Self { run, from_start: from == From::Start, has }
    }

    /// From where in this log to answer, when the sender first wanted the run when the log was at `base`.
    pub(super) fn next_in(&self, log: LogId, base: u64) -> u64 {
        match self.has.iter().find(|place| place.log == log) {
            Some(place) => place.next,
            None if self.from_start => 0,
            None => base,
        }
    }
}

impl Events {
    pub(super) fn new((run, thread): (RunId, ThreadId), at: Place, follows: u64, first: EventId) -> Self {
        let first = (first.epoch_ms, first.seq);
        Self { run, thread, log: at.log, follows, place: at.next, first, said: Vec::new() }
    }

    pub(super) fn with(self, events: &[StreamEvent]) -> Self {
        Self { said: events.iter().map(|event| (event.name.clone(), event.data.clone())).collect(), ..self }
    }

    /// The place behind the last event.
    pub(super) fn end(&self) -> u64 {
        self.place + self.said.len() as u64
    }

    /// The events from this place on, with the id of the first.
    pub(super) fn behind(self, place: u64) -> (EventId, Vec<StreamEvent>) {
        let known = place.saturating_sub(self.place).min(self.said.len() as u64);
        let skip = usize::try_from(known).unwrap_or(usize::MAX);
        let events = self.said.into_iter().skip(skip).map(|(name, data)| StreamEvent { name, data }).collect();
        (EventId { epoch_ms: self.first.0, seq: self.first.1 + known }, events)
    }
}

impl Closed {
    pub(super) fn new(run: RunId, said: Option<(ThreadId, Place)>, closing: &Closing) -> Self {
        Self { run, said, result: closing.result.clone() }
    }

    pub(super) fn closing(self) -> Closing {
        Closing { result: self.result }
    }
}

impl Said {
    pub(super) fn wake(topics: impl IntoIterator<Item = Topic>) -> Self {
        Self::Wake(topics.into_iter().map(|topic| topic as u8).collect())
    }
}

/// Topics that a frame wakes, as far as this version knows them.
pub(super) fn topics(numbers: &[u8]) -> impl Iterator<Item = Topic> {
    numbers.iter().filter_map(|number| Topic::ALL.get(usize::from(*number)).copied())
}

impl Frame {
    pub(super) fn encode(&self) -> Bytes {
        let mut written = vec![VERSION];
        let encoded = self.serialize(&mut rmp_serde::Serializer::new(&mut written));
        debug_assert!(encoded.is_ok(), "frames are plain data");
        written.into()
    }

    /// `None` when another version wrote it.
    pub(super) fn decode(written: &[u8]) -> Option<Self> {
        let (version, rest) = written.split_first()?;
        if *version != VERSION {
            return None;
        }
        rmp_serde::from_slice(rest).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_are_written_and_others_are_ignored() {
        let run = RunId(Uuid::from_u128(1));
        let at = Place { log: LogId(Uuid::from_u128(2)), next: 7 };
        let events = Events::new((run, ThreadId(Uuid::nil())), at, 7, EventId { epoch_ms: 5, seq: 3 }).with(&[
            StreamEvent { name: "a".into(), data: "1".into() },
            StreamEvent { name: "b".into(), data: "2".into() },
        ]);
        let written = Frame { from: ReplicaId(Uuid::nil()), said: Said::Events(events) }.encode();
        let Some(Frame { said: Said::Events(read), .. }) = Frame::decode(&written) else { panic!("{written:?}") };
        assert_eq!((read.end(), read.log), (9, at.log));
        let (first, rest) = read.behind(8);
        assert_eq!((first, &*rest[0].name, rest.len()), (EventId { epoch_ms: 5, seq: 4 }, "b", 1));

        let later = [&[VERSION + 1], &written[1..]].concat();
        for unknown in [later.as_slice(), &[], &[VERSION], &[VERSION, 0xc1], &written[..9]] {
            assert!(Frame::decode(unknown).is_none());
        }
        assert_eq!(topics(&[0, 200, 4]).collect::<Vec<_>>(), [Topic::Runs, Topic::Cancels]);
    }
}
