//! What both ends of a connection share: reading frames, answering pings, noticing that the peer is gone.
//!
//! A connection is two tasks. One reads: it hands every frame to an [`Endpoint`] (the client's or the server's side)
//! in order, and tells it when a socket read is used up. The other writes what anyone appended to [`Outbound`]. Either
//! closing the [`Outbound`] or the end of the reading task ends both.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::error::CloseReason;
use super::frame::{Decoder, Frame, FrameHeader, FrameKind, MAX_BODY_BYTES};
use super::hello::{ClusterIdCell, MAX_HELLO_BYTES};
use super::outbound::{Outbound, PushError};
use crate::clock;

/// Size of a read buffer: a socket read takes up to this much, more while a large body arrives.
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// A read is not begun with less room than this.
const MIN_READ_BYTES: usize = 8 * 1024;

/// When to ask a silent peer for a sign of life, and when to give it up.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Silence after which a ping is sent, and the beat at which silence is measured.
    pub interval: Duration,
    /// Beats without a sign of life after which the connection is closed.
    pub misses: u32,
}

impl Default for KeepAlive {
    /// A peer that stops answering is given up after four to five seconds.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            misses: 4,
        }
    }
}

/// One side's handling of the frames of a connection, on the task that reads them.
pub(super) trait Endpoint {
    /// Takes one frame. An error closes the connection.
    fn frame(&self, frame: Frame) -> Result<(), CloseReason>;

    /// All frames of one socket read were taken.
    fn read_done(&self) {}
}

/// The state of one connection that both sides have.
#[derive(Debug)]
pub(super) struct Wire {
    /// The sending half.
    pub(super) outbound: Outbound,
    cluster: ClusterIdCell,
    /// A peer for which this many bytes wait is disconnected.
    hard_bound: usize,
    /// Socket reads so far: a sign of life.
    reads: AtomicU64,
}

impl Wire {
    pub(super) fn new(cluster: ClusterIdCell, soft_bound: usize, hard_bound: usize) -> Self {
        Self {
            outbound: Outbound::new(soft_bound),
            cluster,
            hard_bound,
            reads: AtomicU64::new(0),
        }
    }

    /// A header of this process's cluster.
    pub(super) fn header(&self, kind: FrameKind, request_id: u64) -> FrameHeader {
        FrameHeader::new(kind, request_id, self.cluster.get())
    }

    /// Appends a frame that must not be withheld: if the peer leaves too much unread, it is disconnected instead.
    pub(super) fn push(&self, kind: FrameKind, request_id: u64, body: Bytes) {
        let pushed = self
            .outbound
            .push(&self.header(kind, request_id), body, self.hard_bound);
        if pushed == Err(PushError::Full) {
            self.outbound.close(CloseReason::NotReading {
                buffered: self.outbound.buffered(),
            });
        }
    }

    /// Takes the frames that mean the same on both sides.
    pub(super) fn common_frame(&self, frame: &Frame) -> Result<(), CloseReason> {
        match frame.header.kind {
            FrameKind::Ping => self.push(FrameKind::Pong, 0, Bytes::new()),
            FrameKind::Pong => {}
            _ => return Err(CloseReason::Unexpected("a frame that this side never receives")),
        }
        Ok(())
    }

    /// Hands frames to `endpoint` until the peer leaves or breaks the protocol.
    pub(super) async fn read_frames<R: AsyncRead + Unpin>(
        &self,
        reader: &mut FrameReader<R>,
        endpoint: &impl Endpoint,
    ) -> CloseReason {
        loop {
            if let Err(reason) = self.take_buffered(reader, endpoint) {
                return reason;
            }
            if let Err(reason) = reader.fill().await {
                return reason;
            }
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take_buffered<R: AsyncRead + Unpin>(
        &self,
        reader: &mut FrameReader<R>,
        endpoint: &impl Endpoint,
    ) -> Result<(), CloseReason> {
        let mut any = false;
        while let Some(frame) = reader.decoder.decode(&mut reader.buffer)? {
            any = true;
            endpoint.frame(frame)?;
        }
        if any {
            endpoint.read_done();
        }
        Ok(())
    }

    /// Pings the peer when it is silent; returns when it gave no sign of life for too long.
    pub(super) async fn keep_alive(&self, config: KeepAlive) -> CloseReason {
        let mut beats = clock::every(config.interval);
        let mut pulse = Pulse::default();
        loop {
            beats.tick().await;
            let backlog = self.outbound.buffered() > 0;
            pulse.beat(
                self.reads.load(Ordering::Relaxed),
                self.outbound.writes(),
                backlog,
            );
            if pulse.missed >= config.misses {
                return CloseReason::Silent;
            }
            if pulse.missed > 0 {
                self.push(FrameKind::Ping, 0, Bytes::new());
            }
        }
    }
}

/// Counts the beats in which the peer gave no sign of life. Beats, not time: a process that was itself stopped for a
/// minute finds one beat missed, not sixty, and gives the peer the chance to answer.
#[derive(Debug, Default)]
struct Pulse {
    reads: u64,
    writes: u64,
    missed: u32,
}

impl Pulse {
    /// `reads` and `writes` are totals so far, `backlog` tells whether written bytes still wait for the socket. While
    /// a backlog shrinks, the ping itself may be waiting in it, and the peer can't be blamed for not answering.
    fn beat(&mut self, reads: u64, writes: u64, backlog: bool) {
        if reads != self.reads {
            self.missed = 0;
        } else if !(backlog && writes != self.writes) {
            self.missed += 1;
        }
        (self.reads, self.writes) = (reads, writes);
    }
}

/// Reads frames from a socket.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    socket: R,
    buffer: BytesMut,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// A reader for a stranger: it takes no body longer than a hello's.
    pub(super) fn new(socket: R) -> Self {
        Self {
            socket,
            buffer: BytesMut::new(),
            decoder: Decoder::new(MAX_HELLO_BYTES),
        }
    }

    /// The next frame, for the handshake.
    pub(super) async fn next(&mut self) -> Result<Frame, CloseReason> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.buffer)? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Takes bodies of every size from now on.
    pub(super) fn trust(&mut self) {
        self.decoder = Decoder::new(MAX_BODY_BYTES);
    }

    async fn fill(&mut self) -> Result<(), CloseReason> {
        if self.buffer.capacity() - self.buffer.len() < MIN_READ_BYTES {
            self.buffer.reserve(READ_BUFFER_BYTES);
        }
        match self.socket.read_buf(&mut self.buffer).await {
            Ok(0) => Err(CloseReason::PeerLeft),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_and_forgiven_when_something_is_read() {
        let mut pulse = Pulse::default();
        for expected in 1..=3 {
            pulse.beat(0, 0, false);
            assert_eq!(pulse.missed, expected);
        }
        pulse.beat(1, 0, false);
        assert_eq!(pulse.missed, 0);
    }

    #[test]
    fn a_shrinking_backlog_is_no_silence_but_a_stuck_one_is() {
        let mut pulse = Pulse::default();
        pulse.beat(0, 1, true);
        assert_eq!(pulse.missed, 0);
        pulse.beat(0, 1, true);
        assert_eq!(pulse.missed, 1);
    }

    #[test]
    fn small_writes_into_a_dead_socket_are_no_sign_of_life() {
        let mut pulse = Pulse::default();
        pulse.beat(0, 1, false);
        pulse.beat(0, 2, false);
        assert_eq!(pulse.missed, 2);
    }
}
