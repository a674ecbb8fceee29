//! The frame codec: pure, no IO, no runtime.
//!
//! A connection is a sequence of frames, each a fixed header of [`HEADER_LEN`] bytes and a body of up to
//! [`MAX_BODY_BYTES`]. `docs/wire.md` gives the layout byte by byte. [`Decoder`] takes frames off the front of a read
//! buffer as they complete; bodies are slices of that buffer, not copies, so a small body kept for long keeps the
//! whole buffer (64 KiB) alive: copy what is to stay.
//!
//! Whatever a peer sends, decoding yields a frame, asks for more bytes, or fails with a [`FrameError`]. After an error
//! the position in the byte stream is lost, and the connection is to be closed.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::ids::ClusterId;

/// The layout version of the header, the first byte of every frame.
pub const FRAME_VERSION: u8 = 1;

/// Length of a header, in bytes.
pub const HEADER_LEN: usize = 28;

/// Largest body of a frame, in bytes: values are up to 8 MiB, and a message may carry one with its envelope, or many
/// small ones up to this much.
pub const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// Largest frame, in bytes.
pub const MAX_FRAME_BYTES: usize = HEADER_LEN + MAX_BODY_BYTES;

/// Bytes of items, headers included, that a stream may have unread before the reader grants more. The last item may
/// exceed it.
pub const STREAM_WINDOW: usize = 1024 * 1024;

/// Room that a header alone is given for its body, in bytes.
const FIRST_BODY_BYTES: usize = 64 * 1024;

/// What a frame is. The numbers are the wire's and are never given a second meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// The first frame of whoever dialed: who it is and what it speaks.
    Hello = 1,
    /// The first frame of whoever was dialed, when it accepts.
    Welcome = 2,
    /// A request: the body is the service's.
    Request = 3,
    /// The one answer to a request.
    Response = 4,
    /// The answer to a request that will be a stream: items follow.
    StreamStart = 5,
    /// One item of a stream.
    StreamItem = 6,
    /// A stream is complete.
    StreamEnd = 7,
    /// A request or a stream failed; with request id 0, the connection is refused.
    Error = 8,
    /// The requester no longer wants the stream.
    Cancel = 9,
    /// The requester consumed this many bytes of the stream: so many more may be sent.
    Credit = 10,
    /// Are you there?
    Ping = 11,
    /// The answer to a ping.
    Pong = 12,
    /// The server is leaving: it answers what it has, and takes no new requests on this connection.
    Goodbye = 13,
}

impl FrameKind {
    /// The kind with this number, if there is one.
    pub fn from_wire(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Request,
            4 => Self::Response,
            5 => Self::StreamStart,
            6 => Self::StreamItem,
            7 => Self::StreamEnd,
            8 => Self::Error,
            9 => Self::Cancel,
            10 => Self::Credit,
            11 => Self::Ping,
            12 => Self::Pong,
            13 => Self::Goodbye,
            _ => return None,
        })
    }
}

/// Everything in a header but the version and the length of the body, which the codec sees to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is.
    pub kind: FrameKind,
    /// Which operation a request asks for; 0 in other frames.
    pub method: u16,
    /// Which request of this connection the frame belongs to, chosen by the requester; 0 = the connection itself.
    pub request_id: u64,
    /// The sender's cluster; [`ClusterId::NONE`] = not known yet.
    pub cluster_id: ClusterId,
    /// Milliseconds that a request has left; 0 = no deadline, and in other frames.
    pub deadline_ms: u32,
}

impl FrameHeader {
    /// A header without method and deadline.
    pub fn new(kind: FrameKind, request_id: u64, cluster_id: ClusterId) -> Self {
        Self {
            kind,
            method: 0,
            request_id,
            cluster_id,
            deadline_ms: 0,
        }
    }

    /// Appends the header of a frame whose body, of `body_len` bytes (at most [`MAX_BODY_BYTES`]), follows.
    pub fn encode_into(&self, body_len: usize, out: &mut BytesMut) {
        debug_assert!(body_len <= MAX_BODY_BYTES, "the sender checks the size of a body");
        out.put_u8(FRAME_VERSION);
        out.put_u8(self.kind as u8);
        out.put_u16(self.method);
        out.put_u32(body_len as u32);
        out.put_u64(self.request_id);
        out.put_u64(self.cluster_id.0);
        out.put_u32(self.deadline_ms);
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// What it is and whom it concerns.
    pub header: FrameHeader,
    /// What it carries, at most [`MAX_BODY_BYTES`].
    pub body: Bytes,
}

impl Frame {
    /// Appends the frame.
    pub fn encode_into(&self, out: &mut BytesMut) {
        out.reserve(HEADER_LEN + self.body.len());
        self.header.encode_into(self.body.len(), out);
        out.extend_from_slice(&self.body);
    }
}

/// The bytes are not frames of this protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The header is of another layout, or the peer speaks another protocol altogether.
    #[error("frame of version {found}, expected {FRAME_VERSION}")]
    Version {
        /// The first byte of the frame.
        found: u8,
    },
    /// No kind has this number.
    #[error("frame of unknown kind {found}")]
    Kind {
        /// The second byte of the frame.
        found: u8,
    },
    /// The body is longer than this connection takes at this point.
    #[error("frame body of {len} bytes, at most {limit} are taken")]
    TooLarge {
        /// Length the header announces.
        len: usize,
        /// What is taken: [`MAX_BODY_BYTES`], far less before the hello.
        limit: usize,
    },
}

/// Takes frames off a byte stream, however it is cut.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    max_body: usize,
}

impl Decoder {
    /// A decoder that refuses bodies longer than `max_body` bytes.
    pub fn new(max_body: usize) -> Self {
        Self {
            max_body: max_body.min(MAX_BODY_BYTES),
        }
    }

    /// Takes the first frame off `buffer` if it is there in full. When only a part is, room for more is reserved, so that a
    /// large body is read into place: three times what has arrived, for its length is but a claim until then.
    ///
    /// # Errors
    /// As soon as the first bytes show that the stream is not made of acceptable frames.
    pub fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        if let Some(&found) = buffer.first()
            && found != FRAME_VERSION
        {
            return Err(FrameError::Version { found });
        }
        if buffer.len() < HEADER_LEN {
            return Ok(None);
        }
        let (header, body_len) = self.header(&buffer[..HEADER_LEN])?;
        let total = HEADER_LEN + body_len;
        if buffer.len() < total {
            let (missing, room) = (total - buffer.len(), buffer.capacity() - buffer.len());
            if room < missing.min(FIRST_BODY_BYTES) {
                buffer.reserve(missing.min(FIRST_BODY_BYTES.max(3 * buffer.len())));
            }
            return Ok(None);
        }
        buffer.advance(HEADER_LEN);
        let body = if body_len == 0 {
            Bytes::new()
        } else {
            buffer.split_to(body_len).freeze()
        };
        Ok(Some(Frame { header, body }))
    }

    fn header(&self, mut bytes: &[u8]) -> Result<(FrameHeader, usize), FrameError> {
        let _version = bytes.get_u8();
        let number = bytes.get_u8();
        let kind = FrameKind::from_wire(number).ok_or(FrameError::Kind { found: number })?;
        let method = bytes.get_u16();
        let len = bytes.get_u32() as usize;
        if len > self.max_body {
            return Err(FrameError::TooLarge {
                len,
                limit: self.max_body,
            });
        }
        let request_id = bytes.get_u64();
        let cluster_id = ClusterId(bytes.get_u64());
        let deadline_ms = bytes.get_u32();
        Ok((
            FrameHeader {
                kind,
                method,
                request_id,
                cluster_id,
                deadline_ms,
            },
            len,
        ))
    }
}

#[cfg(test)]
#[path = "frame_test.rs"]
mod tests;
