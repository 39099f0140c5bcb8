//! How frames travel in PostgreSQL's notifications, which are short texts: small ones together, large ones in parts.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{frames::ReplicaId, wire::To};

/// So much fits into one: with a header, in base64, within 7,999 bytes.
const ROOM: usize = 5_900;
/// Larger frames are not put together: a sender that says so is not one of ours.
const LARGEST: usize = 256 << 20;
/// The first byte says what follows.
const WHOLE: u8 = 0;
const PART: u8 = 1;

/// The name of the channel for these replicas. Names are short, prefixes need not be.
pub(super) fn channel(prefix: &str, to: To) -> String {
    let digest = Sha256::digest(prefix.as_bytes());
    let of = u64::from_be_bytes(std::array::from_fn(|n| digest[n]));
    match to {
        To::All => format!("threadyard_{of:016x}_all"),
        To::One(ReplicaId(id)) => format!("ty_{of:016x}_{}", id.simple()),
    }
}

/// Turns frames into notifications.
pub(super) struct Packer {
    replica: ReplicaId,
    /// Counts the frames that went out in parts.
    parted: u64,
}

/// A notification: its channel, and its text.
pub(super) type Notification = (To, String);

impl Packer {
    pub(super) fn new(replica: ReplicaId) -> Self {
        Self { replica, parted: 0 }
    }

    /// Packs frames in their order; neighbours for the same replicas share a notification.
    pub(super) fn pack(&mut self, frames: &[(To, Bytes)]) -> Vec<Notification> {
        let mut packed: Vec<(To, BytesMut)> = Vec::new();
        for (to, frame) in frames {
            if frame.len() + 5 > ROOM {
                self.part(*to, frame, &mut packed);
                continue;
            }
            let has_room = |(last, body): &&mut (To, BytesMut)| {
                last == to && body[0] == WHOLE && body.len() + 4 + frame.len() <= ROOM
            };
            let mut body = match packed.pop_if(|last| has_room(&last)) {
                Some((_, body)) => body,
                None => BytesMut::from(&[WHOLE][..]),
            };
            body.put_u32(length(frame.len()));
            body.put_slice(frame);
            packed.push((*to, body));
        }
        packed.into_iter().map(|(to, body)| (to, STANDARD_NO_PAD.encode(body))).collect()
    }

    fn part(&mut self, to: To, frame: &Bytes, packed: &mut Vec<(To, BytesMut)>) {
        self.parted += 1;
        for (n, chunk) in frame.chunks(ROOM - 33).enumerate() {
            let mut body = BytesMut::with_capacity(ROOM);
            body.put_u8(PART);
            body.put_slice(self.replica.0.as_bytes());
            body.put_u64(self.parted);
            body.put_u32(length(n * (ROOM - 33)));
            body.put_u32(length(frame.len()));
            body.put_slice(chunk);
            packed.push((to, body));
        }
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// Turns notifications back into frames.
#[derive(Default)]
pub(super) struct Unpacker {
    /// What each replica has begun to say in parts.
    begun: HashMap<Uuid, (u64, BytesMut)>,
}

impl Unpacker {
    /// The frames that are complete now. What can't be read, or misses a part, is skipped.
    pub(super) fn unpack(&mut self, text: &str) -> Vec<Bytes> {
        let Ok(body) = STANDARD_NO_PAD.decode(text) else { return Vec::new() };
        let mut body = Bytes::from(body);
        match body.try_get_u8() {
            Ok(WHOLE) => std::iter::from_fn(|| whole(&mut body)).collect(),
            Ok(PART) => self.part(body).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    fn part(&mut self, mut body: Bytes) -> Option<Bytes> {
        let sender = Uuid::from_u128(body.try_get_u128().ok()?);
        let number = body.try_get_u64().ok()?;
        let (place, size) = (body.try_get_u32().ok()? as usize, body.try_get_u32().ok()? as usize);
        if place == 0 && size <= LARGEST {
            self.begun.insert(sender, (number, BytesMut::with_capacity(size)));
        }
        let (begun, frame) = self.begun.get_mut(&sender)?;
        if *begun != number || frame.len() != place {
            return None;
        }
        frame.put_slice(&body);
        if frame.len() < size {
            return None;
        }
        self.begun.remove(&sender).map(|(_, frame)| frame.freeze())
    }
}

fn whole(body: &mut Bytes) -> Option<Bytes> {
    let length = body.try_get_u32().ok()? as usize;
    (length <= body.len()).then(|| body.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: To = To::One(ReplicaId(Uuid::from_u128(7)));

    fn frame(byte: u8, bytes: usize) -> Bytes {
        Bytes::from(vec![byte; bytes])
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let frames = [
            (To::All, frame(1, 10)),
            (To::All, frame(2, 0)),
            (ONE, frame(3, 20_000)),
            (ONE, frame(4, ROOM - 5)),
            (ONE, frame(5, ROOM - 4)),
            (To::All, frame(6, 3)),
        ];
        let packed = Packer::new(ReplicaId(Uuid::from_u128(1))).pack(&frames);
        assert!(packed.iter().all(|(_, text)| text.len() < 8_000));
        assert_eq!(packed.iter().filter(|(to, _)| *to == To::All).count(), 2, "the first two share one");
        let mut receiver = Unpacker::default();
        let unpacked: Vec<_> = packed.iter().flat_map(|(_, text)| receiver.unpack(text)).collect();
        assert_eq!(unpacked, frames.map(|(_, frame)| frame));
        assert!(receiver.begun.is_empty());
    }

    #[test]
    fn a_frame_that_misses_a_part_is_skipped() {
        let mut sender = Packer::new(ReplicaId(Uuid::from_u128(1)));
        let mut packed = sender.pack(&[(ONE, frame(1, 20_000)), (ONE, frame(2, 20_000))]);
        packed.remove(1);
        let mut receiver = Unpacker::default();
        let unpacked: Vec<_> = packed.iter().flat_map(|(_, text)| receiver.unpack(text)).collect();
        assert_eq!(unpacked, [frame(2, 20_000)]);
        for garbage in ["", "?", "AA", "AAAAAAk", "AQ"] {
            assert!(receiver.unpack(garbage).is_empty(), "{garbage}");
        }
    }

    #[test]
    fn channels_have_names_that_postgresql_takes() {
        let long = "p".repeat(200);
        assert!(channel(&long, To::All).len() < 64 && channel(&long, ONE).len() < 64);
        assert_ne!(channel("a", To::All), channel("b", To::All));
    }
}
