//! Messages of any size as frames of a bounded size.
//!
//! gRPC refuses a message above its limit (eRaft's replication stopped for good at 4 MB: B6), so what is larger is
//! cut into parts. Streams keep order, but in the simulator a part may be lost or overtaken: then the whole message
//! is lost, which every protocol above can bear.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

/// The most that one frame carries. With its header it stays far below gRPC's 4 MiB.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// The most that one message may have; a peer that announces more is refused.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// One part of a message.
#[derive(Clone, PartialEq, prost::Message)]
struct Part {
    /// Names the message on its stream.
    #[prost(uint64, tag = "1")]
    message: u64,
    #[prost(uint32, tag = "2")]
    part: u32,
    #[prost(uint32, tag = "3")]
    parts: u32,
    #[prost(bytes = "bytes", tag = "4")]
    payload: Bytes,
}

/// Cuts messages into frames.
#[derive(Clone, Debug, Default)]
pub struct Splitter {
    messages: u64,
}

impl Splitter {
    /// The frames of `message`.
    pub fn split(&mut self, message: &impl prost::Message) -> Vec<Bytes> {
        self.messages += 1;
        let mut rest = Bytes::from(message.encode_to_vec());
        let parts = rest.len().div_ceil(FRAME_PAYLOAD_BYTES_MAX).max(1) as u32;
        (0..parts)
            .map(|part| {
                let payload = rest.split_to(rest.len().min(FRAME_PAYLOAD_BYTES_MAX));
                Part { message: self.messages, part, parts, payload }.encode_to_vec().into()
            })
            .collect()
    }
}

/// Puts frames together again.
#[derive(Clone, Debug, Default)]
pub struct Joiner {
    message: u64,
    parts: u32,
    buffer: BytesMut,
}

impl Joiner {
    /// Takes one frame; a message if it is complete. Parts that do not follow each other are dropped.
    pub fn join(&mut self, frame: Bytes) -> Result<Option<Bytes>, String> {
        let part = Part::decode(frame).map_err(|error| format!("a frame that does not decode: {error}"))?;
        if part.parts == 1 {
            return Ok(Some(part.payload));
        }
        if part.part == 0 {
            *self = Self { message: part.message, parts: 0, buffer: BytesMut::new() };
        } else if part.message != self.message || part.part != self.parts {
            *self = Self::default();
            return Ok(None);
        }
        if self.buffer.len() + part.payload.len() > MESSAGE_BYTES_MAX {
            return Err(format!("a message of more than {MESSAGE_BYTES_MAX} bytes"));
        }
        self.parts = part.part + 1;
        self.buffer.extend_from_slice(&part.payload);
        if self.parts < part.parts {
            return Ok(None);
        }
        Ok(Some(std::mem::take(self).buffer.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::raft as pb;

    fn large(byte: u8) -> pb::KeyValue {
        pb::KeyValue { key: Bytes::new(), value: vec![byte; 2 * FRAME_PAYLOAD_BYTES_MAX + 5].into() }
    }

    #[test]
    fn eraft_b06_large_messages_are_cut_and_joined() {
        let (mut splitter, mut joiner) = (Splitter::default(), Joiner::default());
        for byte in [1, 2] {
            let frames = splitter.split(&large(byte));
            assert_eq!(frames.len(), 3);
            let joined: Vec<Bytes> = frames.into_iter().filter_map(|f| joiner.join(f).unwrap()).collect();
            assert_eq!(joined, vec![Bytes::from(large(byte).encode_to_vec())]);
        }
        let frames = splitter.split(&pb::KeyValue::default());
        assert_eq!(joiner.join(frames[0].clone()), Ok(Some(Bytes::new())));
    }

    #[test]
    fn a_message_with_a_lost_or_overtaken_part_is_lost_as_a_whole() {
        let (mut splitter, mut joiner) = (Splitter::default(), Joiner::default());
        let (first, second) = (splitter.split(&large(1)), splitter.split(&large(2)));
        for frame in [&first[0], &first[2], &first[1], &second[1], &second[2], &first[1]] {
            assert_eq!(joiner.join(frame.clone()), Ok(None));
        }
        let joined: Vec<_> = second.iter().filter_map(|f| joiner.join(f.clone()).unwrap()).collect();
        assert_eq!(joined.len(), 1);
        assert!(joiner.join(Bytes::from_static(&[0xff; 9])).is_err());
    }
}
