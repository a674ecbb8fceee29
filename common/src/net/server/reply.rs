//! Answering a request: once, or with a stream.
//!
//! A stream is sent no faster than it is read: the requester grants bytes as it consumes items
//! ([`STREAM_WINDOW`] to begin with), so a slow reader holds up its own stream and no other traffic on the connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use bytes::Bytes;
use tokio::sync::Notify;

use super::conn::ServerConn;
use crate::net::error::ErrorCode;
use crate::net::frame::{FrameKind, HEADER_LEN, MAX_BODY_BYTES, STREAM_WINDOW};

/// The right, and the duty, to answer one request. Dropped unused, it answers [`ErrorCode::Abandoned`], so that no
/// caller waits in vain.
#[must_use = "dropping a reply answers with an error"]
#[derive(Debug)]
pub struct Reply {
    conn: Arc<ServerConn>,
    request_id: u64,
    /// Bytes that the request counts for among those in flight.
    request_bytes: usize,
    answered: bool,
}

impl Reply {
    pub(super) fn new(conn: Arc<ServerConn>, request_id: u64, request_bytes: usize) -> Self {
        Self {
            conn,
            request_id,
            request_bytes,
            answered: false,
        }
    }

    /// Answers. From any thread, without waiting; if the requester is gone, the answer goes nowhere. A body longer
    /// than [`MAX_BODY_BYTES`] is a bug of the service and is answered as [`ErrorCode::Internal`].
    pub fn send(mut self, body: Bytes) {
        if body.len() > MAX_BODY_BYTES {
            return self.fail(ErrorCode::Internal, "the answer is too large for a frame");
        }
        self.answer(FrameKind::Response, body);
    }

    /// Answers with an error. `message` is for people and is cut after 1 KiB.
    pub fn fail(mut self, code: ErrorCode, message: &str) {
        self.answer(FrameKind::Error, code.encode(message));
    }

    /// Never answers, as if the network had lost it: the requester waits until its time is over.
    #[cfg(feature = "failpoints")]
    pub fn lose(mut self) {
        self.answered = true;
        self.conn.request_done(self.request_bytes);
    }

    /// Begins a stream, before the service acts on the request. Where too many are open already, the requester is
    /// refused, and the stream is closed from the start.
    pub fn into_stream(mut self) -> StreamReply {
        let flow = Arc::new(Flow::default());
        match self.conn.open_stream(self.request_id, &flow) {
            Ok(()) => self.answer(FrameKind::StreamStart, Bytes::new()),
            Err((code, message)) => {
                flow.close();
                self.answer(FrameKind::Error, code.encode(message));
            }
        }
        StreamReply {
            conn: self.conn.clone(),
            request_id: self.request_id,
            flow,
        }
    }

    fn answer(&mut self, kind: FrameKind, body: Bytes) {
        self.answered = true;
        self.conn.request_done(self.request_bytes);
        self.conn.wire.push(kind, self.request_id, body);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            let body = ErrorCode::Abandoned.encode("the service let go of the request without an answer");
            self.answer(FrameKind::Error, body);
        }
    }
}

/// The stream has no reader any more: the peer cancelled it or left, or the server shuts down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream is closed")]
pub struct Closed;

/// Why an item was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError {
    /// The reader has as much unread as it may have; the item comes back.
    #[error("the reader of the stream is behind")]
    Full(Bytes),
    /// There is no reader any more.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// An answer in pieces. Dropped without [`finish`](Self::finish) or [`fail`](Self::fail) it ends with
/// [`ErrorCode::Abandoned`], so that a cut stream never passes for a whole one.
#[must_use = "dropping a stream ends it with an error"]
#[derive(Debug)]
pub struct StreamReply {
    conn: Arc<ServerConn>,
    request_id: u64,
    flow: Arc<Flow>,
}

impl StreamReply {
    /// Sends an item, at most [`MAX_BODY_BYTES`] long, when the reader has consumed enough of the earlier ones.
    ///
    /// # Errors
    /// There is no reader any more.
    pub async fn send(&mut self, mut body: Bytes) -> Result<(), Closed> {
        let (conn, flow) = (self.conn.clone(), self.flow.clone());
        loop {
            let mut credit = std::pin::pin!(flow.changed.notified());
            let mut room = std::pin::pin!(conn.wire.outbound.room().notified());
            // Both listen before the check, so that what changes after it is not missed.
            credit.as_mut().enable();
            room.as_mut().enable();
            match self.try_send(body) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Closed(closed)) => return Err(closed),
                Err(TrySendError::Full(unsent)) => body = unsent,
            }
            tokio::select! {
                () = credit => {}
                () = room => {}
            }
        }
    }

    /// Sends an item if that is possible at once. Never waits.
    ///
    /// # Errors
    /// The reader is behind, or gone. An item longer than [`MAX_BODY_BYTES`] closes the stream.
    pub fn try_send(&mut self, body: Bytes) -> Result<(), TrySendError> {
        if body.len() > MAX_BODY_BYTES {
            self.end(
                FrameKind::Error,
                ErrorCode::Internal.encode("the item is too large for a frame"),
            );
        }
        if self.is_closed() {
            return Err(Closed.into());
        }
        if !self.flow.has_credit() || !self.conn.wire.outbound.has_room() {
            return Err(TrySendError::Full(body));
        }
        self.flow.spend(HEADER_LEN + body.len());
        self.conn.wire.push(FrameKind::StreamItem, self.request_id, body);
        Ok(())
    }

    /// Ends the stream: it is complete.
    pub fn finish(self) {
        self.end(FrameKind::StreamEnd, Bytes::new());
    }

    /// Ends the stream with an error. `message` is for people and is cut after 1 KiB.
    pub fn fail(self, code: ErrorCode, message: &str) {
        self.end(FrameKind::Error, code.encode(message));
    }

    /// Whether there is no reader any more.
    pub fn is_closed(&self) -> bool {
        self.flow.closed.load(Ordering::Acquire)
    }

    /// Returns when there is no reader any more.
    pub async fn closed(&self) {
        loop {
            let mut changed = std::pin::pin!(self.flow.changed.notified());
            changed.as_mut().enable();
            if self.is_closed() {
                return;
            }
            changed.await;
        }
    }

    /// Sends the last frame, if the stream is still open.
    fn end(&self, kind: FrameKind, body: Bytes) {
        if self.flow.close() {
            self.conn.forget_stream(self.request_id);
            self.conn.wire.push(kind, self.request_id, body);
        }
    }
}

impl Drop for StreamReply {
    fn drop(&mut self) {
        self.end(
            FrameKind::Error,
            ErrorCode::Abandoned.encode("the service let go of the stream"),
        );
    }
}

/// What the reader of a stream allows.
#[derive(Debug)]
pub(super) struct Flow {
    /// Bytes that may be sent; the last item may overdraw it.
    credit: AtomicI64,
    closed: AtomicBool,
    /// Notified, all waiters at once, when either changes.
    changed: Notify,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            credit: AtomicI64::new(STREAM_WINDOW as i64),
            closed: AtomicBool::new(false),
            changed: Notify::new(),
        }
    }
}

impl Flow {
    /// The reader consumed `bytes` more.
    pub(super) fn grant(&self, bytes: u32) {
        self.credit.fetch_add(i64::from(bytes), Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Closes the stream; false if it was closed already.
    pub(super) fn close(&self) -> bool {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        self.changed.notify_waiters();
        first
    }

    fn has_credit(&self) -> bool {
        self.credit.load(Ordering::Acquire) > 0
    }

    fn spend(&self, bytes: usize) {
        self.credit.fetch_sub(bytes as i64, Ordering::AcqRel);
    }
}
