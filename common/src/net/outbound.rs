//! The sending half of a connection: a buffer that any thread appends frames to, and the task that writes it out.
//!
//! Appending takes no await and no task: it encodes under a mutex and wakes the writer only if that one sleeps. The
//! writer yields once before it writes, so that frames that become ready together leave in one write; socket writes
//! are the largest single cost of small calls. A body of [`LARGE_BODY_BYTES`] or more is queued as it is, not copied.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::error::CloseReason;
use super::frame::{FrameHeader, HEADER_LEN};

/// From this length on a body is written from where it lies.
const LARGE_BODY_BYTES: usize = 16 * 1024;

/// Most pieces handed to one vectored write.
const MAX_SLICES: usize = 32;

/// A buffer that a burst grew beyond this is not kept.
const KEPT_BUFFER_BYTES: usize = 256 * 1024;

/// Why a frame was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushError {
    /// The buffer is at its bound.
    Full,
    /// The connection is closed.
    Closed,
}

/// Frames on their way to the socket.
#[derive(Debug)]
pub(super) struct Outbound {
    queue: Mutex<Queue>,
    /// Wakes the writer.
    work: Notify,
    /// Bytes appended and not yet written to the socket.
    buffered: AtomicUsize,
    /// Bytes from which on [`Outbound::has_room`] is false.
    soft_bound: usize,
    /// Wakes whoever waits for room.
    room: Notify,
    /// Socket writes so far.
    writes: AtomicU64,
    closed: CancellationToken,
}

#[derive(Debug, Default)]
struct Queue {
    /// Complete pieces, each written from where it lies.
    pieces: VecDeque<Bytes>,
    /// The piece that grows.
    tail: BytesMut,
    /// The writer found nothing and waits to be woken.
    writer_sleeps: bool,
    /// Set once, with `closed`, under the lock.
    close_reason: Option<CloseReason>,
}

impl Outbound {
    /// An empty buffer. From `soft_bound` bytes on, streams wait.
    pub(super) fn new(soft_bound: usize) -> Self {
        Self {
            queue: Mutex::default(),
            work: Notify::new(),
            buffered: AtomicUsize::new(0),
            soft_bound,
            room: Notify::new(),
            writes: AtomicU64::new(0),
            closed: CancellationToken::new(),
        }
    }

    /// Appends a frame, unless `bound` bytes are waiting already.
    pub(super) fn push(&self, header: &FrameHeader, body: Bytes, bound: usize) -> Result<(), PushError> {
        let wake = {
            let mut queue = self.queue.lock();
            if queue.close_reason.is_some() {
                return Err(PushError::Closed);
            }
            if self.buffered() >= bound {
                return Err(PushError::Full);
            }
            self.buffered
                .fetch_add(HEADER_LEN + body.len(), Ordering::Relaxed);
            queue.append(header, body);
            std::mem::take(&mut queue.writer_sleeps)
        };
        if wake {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Bytes appended and not yet written.
    pub(super) fn buffered(&self) -> usize {
        self.buffered.load(Ordering::Relaxed)
    }

    /// Whether a stream may append: what is buffered has not reached the soft bound.
    pub(super) fn has_room(&self) -> bool {
        self.buffered() < self.soft_bound
    }

    /// Notified, all waiters at once, when there is room again and when the connection closes.
    pub(super) fn room(&self) -> &Notify {
        &self.room
    }

    /// Socket writes so far: a sign of progress.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Cancelled when the connection closes.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Closes the connection. The first reason given stays; what is buffered is dropped.
    pub(super) fn close(&self, reason: CloseReason) {
        {
            let mut queue = self.queue.lock();
            if queue.close_reason.is_some() {
                return;
            }
            queue.close_reason = Some(reason);
            queue.pieces.clear();
            queue.tail = BytesMut::new();
        }
        self.closed.cancel();
        self.room.notify_waiters();
    }

    /// Why the connection was closed, once it was.
    pub(super) fn close_reason(&self) -> Option<CloseReason> {
        self.queue.lock().close_reason.clone()
    }

    /// Writes what is appended until the connection closes, and closes it when the socket fails.
    pub(super) async fn write_to<W: AsyncWrite + Unpin>(&self, mut socket: W) {
        let failed = tokio::select! {
            biased;
            () = self.closed.cancelled() => None,
            error = self.write_loop(&mut socket) => Some(error),
        };
        if let Some(error) = failed {
            self.close(error.into());
        }
        let _ = socket.shutdown().await;
    }

    async fn write_loop<W: AsyncWrite + Unpin>(&self, socket: &mut W) -> io::Error {
        let mut batch = VecDeque::new();
        loop {
            self.wait_for_work().await;
            tokio::task::yield_now().await;
            self.queue.lock().take_into(&mut batch);
            if let Err(error) = self.write_batch(socket, &mut batch).await {
                return error;
            }
        }
    }

    async fn wait_for_work(&self) {
        loop {
            {
                let mut queue = self.queue.lock();
                if !queue.is_empty() {
                    return;
                }
                queue.writer_sleeps = true;
            }
            self.work.notified().await;
        }
    }

    async fn write_batch<W: AsyncWrite + Unpin>(
        &self,
        socket: &mut W,
        batch: &mut VecDeque<Bytes>,
    ) -> io::Result<()> {
        while let Some(first) = batch.front() {
            let written = if batch.len() == 1 {
                socket.write(first).await?
            } else {
                let mut slices = [IoSlice::new(&[]); MAX_SLICES];
                let count = batch.len().min(MAX_SLICES);
                for (slice, piece) in slices.iter_mut().zip(batch.iter()) {
                    *slice = IoSlice::new(piece);
                }
                socket.write_vectored(&slices[..count]).await?
            };
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            advance(batch, written);
            self.wrote(written);
        }
        // What TLS keeps until it has a record; of plain sockets nothing is kept.
        socket.flush().await
    }

    fn wrote(&self, bytes: usize) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        let before = self.buffered.fetch_sub(bytes, Ordering::Relaxed);
        if before >= self.soft_bound && before - bytes < self.soft_bound {
            self.room.notify_waiters();
        }
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.tail.is_empty() && self.pieces.is_empty()
    }

    fn append(&mut self, header: &FrameHeader, body: Bytes) {
        header.encode_into(body.len(), &mut self.tail);
        if body.len() < LARGE_BODY_BYTES {
            self.tail.extend_from_slice(&body);
        } else {
            self.pieces.push_back(self.tail.split().freeze());
            self.pieces.push_back(body);
        }
    }

    /// Moves everything to `batch`, which is empty.
    fn take_into(&mut self, batch: &mut VecDeque<Bytes>) {
        std::mem::swap(&mut self.pieces, batch);
        if self.tail.is_empty() {
            return;
        }
        let last = self.tail.split().freeze();
        if last.len() > KEPT_BUFFER_BYTES {
            self.tail = BytesMut::new();
        }
        batch.push_back(last);
    }
}

/// Drops the first `written` bytes of `batch`.
fn advance(batch: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = batch.front_mut() {
        if written < first.len() {
            first.advance(written);
            return;
        }
        written -= first.len();
        batch.pop_front();
    }
}

#[cfg(test)]
#[path = "outbound_test.rs"]
mod tests;
