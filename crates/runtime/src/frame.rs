//! Frames of the worker protocol: `u32 length, u8 kind, u64 id, body`, little-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The most bytes a body may have.
const MAX_BODY: usize = 1 << 30;
const HEADER: usize = 13;

/// One message of the protocol, its body not yet understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) id: u64,
    pub(crate) body: Bytes,
}

/// A frame that can't be right.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {0} bytes is over the limit")]
    TooLarge(usize),
    #[error("a frame ends too early")]
    Truncated,
    #[error("a body makes no sense: {0}")]
    Body(String),
}

impl Frame {
    /// Writes the frame behind what is in `out`.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        out.reserve(HEADER + self.body.len());
        out.put_u32_le(u32::try_from(self.body.len()).unwrap_or(u32::MAX));
        out.put_u8(self.kind);
        out.put_u64_le(self.id);
        out.put_slice(&self.body);
    }

    /// Takes the first frame from `input`, if all of it is there.
    pub(crate) fn decode(input: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some((mut length, _)) = input.split_first_chunk::<4>().map(|(length, rest)| (&length[..], rest)) else {
            return Ok(None);
        };
        let length = length.get_u32_le() as usize;
        if length > MAX_BODY {
            return Err(FrameError::TooLarge(length));
        }
        if input.len() < HEADER + length {
            return Ok(None);
        }
        let mut frame = input.split_to(HEADER + length).freeze();
        frame.advance(4);
        let kind = frame.get_u8();
        let id = frame.get_u64_le();
        Ok(Some(Self { kind, id, body: frame }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_read_as_they_are_written_however_they_arrive() {
        let frames = [
            Frame { kind: 12, id: 7, body: Bytes::from_static(b"hello") },
            Frame { kind: 19, id: u64::MAX, body: Bytes::new() },
        ];
        let mut wire = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut wire);
        }
        let (mut input, mut read) = (BytesMut::new(), Vec::new());
        for byte in wire {
            input.put_u8(byte);
            read.extend(Frame::decode(&mut input).unwrap());
        }
        assert_eq!(read, frames);
        assert!(input.is_empty());
    }

    #[test]
    fn an_absurd_length_is_refused_before_it_is_waited_for() {
        let mut input = BytesMut::from(&[0xff; 13][..]);
        assert_eq!(Frame::decode(&mut input), Err(FrameError::TooLarge(0xffff_ffff)));
    }
}
