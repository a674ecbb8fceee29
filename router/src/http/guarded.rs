//! A client's socket, watched: a client that is silent, drips its request or does not read its answer is disconnected, and
//! one whose request was refused half-sent still gets to read why.
//!
//! One timer a connection, re-armed only when it fires: a request costs two looks at the clock and no timer work.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::clock::{self, Instant};
use holdfast_common::tls::Identity;
use holdfast_common::tls::socket::Socket;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::places::Seat;

/// How long a client is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Longest time without a byte in either direction. Longer than any request may take.
    pub idle: Duration,
    /// Longest time from the first byte of a request to the end of its headers; noticed within twice that.
    pub headers: Duration,
    /// Longest time that what a refused client still sends is read and thrown away.
    pub linger: Duration,
}

/// How the preface of HTTP/2 begins, and no request of HTTP/1: no method begins so.
const PREFACE_START: &[u8; 4] = b"PRI ";

/// Most bytes of a refused request that are thrown away before the connection is cut.
const LINGER_BYTES: usize = 64 << 20;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Caller {
    /// Where.
    pub addr: SocketAddr,
    /// Who, if a certificate was shown.
    pub identity: Option<Identity>,
}

/// What the watch needs to know of the requests on its connection, and they of it.
#[derive(Debug)]
pub(crate) struct Activity {
    caller: Caller,
    seat: Seat,
    /// Requests whose headers have come.
    begun: AtomicU64,
    /// Requests that were answered.
    answered: AtomicU64,
    /// Some request was answered before all of it was read.
    cut_short: AtomicBool,
}

impl Activity {
    /// A connection without requests yet.
    pub(crate) fn of(caller: Caller) -> Self {
        Self {
            caller,
            seat: Seat::default(),
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            cut_short: AtomicBool::new(false),
        }
    }

    /// Who is at the other end.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whom the connection counts for.
    pub(crate) fn seat(&self) -> &Seat {
        &self.seat
    }

    /// The headers of a request have come.
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// A request was answered; `cut_short` if not all of it was read.
    pub(crate) fn answer(&self, cut_short: bool) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if cut_short {
            self.cut_short.store(true, Ordering::Relaxed);
        }
    }
}

/// See the module.
pub(crate) struct Guarded {
    socket: Socket,
    activity: Arc<Activity>,
    patience: Patience,
    alarm: Pin<Box<Sleep>>,
    last_progress: Instant,
    /// When the first byte of a request came whose headers have not, and how many requests had begun before it.
    head_since: Option<(Instant, u64)>,
    /// First bytes that were read to tell the protocol, and are to be read again.
    replay: Bytes,
    /// Of a connection with requests side by side: how many had begun when it last made progress.
    http2: Option<u64>,
    lingering: Option<Lingering>,
}

struct Lingering {
    until: Pin<Box<Sleep>>,
    bytes_left: usize,
}

impl Guarded {
    /// Watches a fresh socket.
    pub(crate) fn new(socket: Socket, activity: Arc<Activity>, patience: Patience) -> Self {
        let now = clock::now();
        Self {
            socket,
            activity,
            patience,
            alarm: Box::pin(clock::sleep(patience.headers)),
            last_progress: now,
            // A fresh connection owes its first request.
            head_since: Some((now, 0)),
            replay: Bytes::new(),
            http2: None,
            lingering: None,
        }
    }

    /// Whether the client of this fresh connection speaks HTTP/2 without having asked: as soon as its first bytes tell.
    ///
    /// # Errors
    /// The client sent nothing in time, or the socket failed.
    pub(crate) async fn speaks_http2(&mut self) -> io::Result<bool> {
        let mut seen = [0; PREFACE_START.len()];
        let mut len = 0;
        while len < seen.len() && seen[..len] == PREFACE_START[..len] {
            match self.read(&mut seen[len..]).await? {
                0 => break,
                more => len += more,
            }
        }
        self.replay = Bytes::copy_from_slice(&seen[..len]);
        let http2 = seen[..len] == *PREFACE_START;
        self.http2 = http2.then_some(0);
        Ok(http2)
    }

    fn progressed(&mut self, read: bool) {
        let begun = self.activity.begun.load(Ordering::Relaxed);
        let between_requests = begun == self.activity.answered.load(Ordering::Relaxed);
        if let Some(before) = self.http2 {
            // Frames that belong to no request keep nothing alive.
            if begun != before || !between_requests {
                (self.http2, self.head_since) = (Some(begun), None);
                self.last_progress = clock::now();
            }
            return;
        }
        self.last_progress = clock::now();
        match self.head_since {
            Some((_, before)) if before == begun => {}
            _ => self.head_since = (read && between_requests).then_some((self.last_progress, begun)),
        }
    }

    /// Whether part of a request's headers has come and the rest has not.
    fn is_within_head(&self) -> bool {
        self.head_since
            .is_some_and(|(_, before)| before == self.activity.begun.load(Ordering::Relaxed))
    }

    /// Called when the socket makes the connection wait: fails it once that was too long.
    fn watch(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.alarm.as_mut().poll(context).is_ready() {
            let now = clock::now();
            let begun = self.activity.begun.load(Ordering::Relaxed);
            let head = self.head_since.filter(|(_, before)| *before == begun);
            let idle_end = self.last_progress + self.patience.idle;
            let end = head.map_or(idle_end, |(since, _)| idle_end.min(since + self.patience.headers));
            if end <= now {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.alarm.as_mut().reset(end.min(now + self.patience.headers));
        }
        Ok(())
    }

    /// Reads and throws away until the client is done, or it has been long enough. A socket closed with unread bytes is
    /// reset, and the reset would overtake the answer on its way to the client.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let patience = self.patience.linger;
        let lingering = self.lingering.get_or_insert_with(|| Lingering {
            until: Box::pin(clock::sleep(patience)),
            bytes_left: LINGER_BYTES,
        });
        let mut scratch = [0; 16 * 1024];
        while lingering.bytes_left > 0 && lingering.until.as_mut().poll(context).is_pending() {
            let mut buffer = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {
                    lingering.bytes_left = lingering.bytes_left.saturating_sub(buffer.filled().len());
                }
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.replay.is_empty() {
            let len = self.replay.len().min(buffer.remaining());
            buffer.put_slice(&self.replay.split_to(len));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.socket).poll_read(context, buffer) {
            Poll::Ready(done) => {
                if buffer.filled().len() > before {
                    self.progressed(true);
                }
                Poll::Ready(done)
            }
            Poll::Pending => match self.watch(context) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }
}

impl Guarded {
    fn wrote(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(done) => {
                self.progressed(false);
                Poll::Ready(done)
            }
            Poll::Pending => match self.watch(context) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.wrote(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.wrote(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.socket).poll_flush(context) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => match self.watch(context) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            },
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.socket).poll_shutdown(context))?;
        if self.activity.cut_short.load(Ordering::Relaxed) || self.is_within_head() {
            ready!(self.poll_linger(context));
        }
        Poll::Ready(Ok(()))
    }
}
