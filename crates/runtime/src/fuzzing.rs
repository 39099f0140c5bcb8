//! What must hold of frames, whatever a worker says: a target of `fuzz`, which a test gives the kept corpus, too.

use bytes::{BufMut, BytesMut};
use serde::de::IgnoredAny;

use crate::{
    frame::{Frame, FrameError},
    protocol::{self, CpPut, CpWrites, Hello, Log, kind},
};

/// A stream of frames is read as the same however it arrives, is written as it was read, and no body is too much for
/// whoever reads that kind. The first byte says in how large pieces the others arrive.
pub fn frames(data: &[u8]) {
    let Some((&piece, wire)) = data.split_first() else { return };
    let whole = decoded(wire, wire.len().max(1));
    assert_eq!(whole, decoded(wire, usize::from(piece).max(1)), "in pieces of {piece}");
    let mut written = BytesMut::new();
    for frame in &whole.0 {
        frame.encode(&mut written);
        understood(frame);
    }
    assert_eq!(written, wire[..written.len()], "what is read is written as the same");
}

fn decoded(wire: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let (mut input, mut frames) = (BytesMut::new(), Vec::new());
    for piece in wire.chunks(piece) {
        input.put_slice(piece);
        loop {
            match Frame::decode(&mut input) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// Reads a body as its kind is read; that it makes no sense is an answer as well.
fn understood(frame: &Frame) {
    let body = &frame.body;
    match frame.kind {
        kind::EVENT => drop(protocol::events(body.clone())),
        kind::END => drop(protocol::run_end(body)),
        kind::HELLO => drop(protocol::read::<Hello>(body)),
        kind::LOG => drop(protocol::read::<Log>(body)),
        kind::CP_PUT => drop(protocol::read::<CpPut>(body)),
        kind::CP_WRITES => drop(protocol::read::<CpWrites>(body)),
        kind::REPLY => drop(crate::connection::refusal(body)),
        _ => drop(protocol::read::<IgnoredAny>(body)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn what_must_hold_of_the_corpus_does() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/frames");
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(!files.is_empty());
        for file in files {
            super::frames(&std::fs::read(file).unwrap());
        }
    }
}
