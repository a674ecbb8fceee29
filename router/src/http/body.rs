//! Bodies: reading a request's within bounds of size, time and memory, and sending a response's.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use holdfast_common::clock::{self, Instant};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use super::budget::{Budget, Reservation};
use super::problem::{Code, Problem};

/// Bodies up to this size, bytes, are not counted: the bound on connections bounds them.
pub(crate) const SMALL_BYTES: usize = 16 * 1024;

/// Bounds on reading a request's body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadLimits {
    /// Most bytes.
    pub bytes: usize,
    /// Longest wait for the next byte.
    pub idle: Duration,
    /// Longest time for all of it.
    pub total: Duration,
}

/// A request's body, and the room that it takes.
#[derive(Debug)]
pub(crate) struct Received {
    /// The body.
    pub bytes: Bytes,
    /// Held while the request is served.
    pub room: Option<Reservation>,
}

impl Received {
    /// An empty body.
    pub(crate) fn nothing() -> Self {
        Self {
            bytes: Bytes::new(),
            room: None,
        }
    }
}

/// Reads a request's body. One that is announced as too large is refused before a byte of it is read or, under `Expect:
/// 100-continue`, asked for; one of unknown length as soon as it turns out to be.
pub(crate) async fn read(
    body: &mut Incoming,
    limits: ReadLimits,
    budget: &Budget,
) -> Result<Received, Problem> {
    let announced = body
        .size_hint()
        .exact()
        .map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if announced == Some(0) || body.is_end_stream() {
        return Ok(Received::nothing());
    }
    if announced.is_some_and(|bytes| bytes > limits.bytes) {
        return Err(too_large(limits.bytes));
    }
    let mut reading = Reading {
        received: BytesMut::new(),
        room: None,
        limits,
        budget,
    };
    reading.make_room(announced.unwrap_or(0))?;
    let total_deadline = clock::now() + limits.total;
    while let Some(data) = next_data(body, limits.idle, total_deadline).await? {
        // The usual body is small and comes in one piece, which is taken as it is.
        if reading.received.is_empty() && body.is_end_stream() && data.len() <= limits.bytes {
            return Ok(Received {
                bytes: data,
                room: reading.room,
            });
        }
        reading.append(&data, announced)?;
    }
    Ok(Received {
        bytes: reading.received.freeze(),
        room: reading.room,
    })
}

async fn next_data(body: &mut Incoming, idle: Duration, deadline: Instant) -> Result<Option<Bytes>, Problem> {
    loop {
        match next_frame(body, idle, deadline).await? {
            None => return Ok(None),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                // Trailers mean nothing here.
                Err(_) => continue,
            },
            Some(Err(error)) => {
                return Err(Problem::new(
                    Code::InvalidBody,
                    format!("the body can't be read: {error}"),
                ));
            }
        }
    }
}

/// Ends at the next poll, which it asks for. Unlike tokio's `yield_now` it does not go by way of the IO driver.
async fn next_poll() {
    let mut asked = false;
    poll_fn(|context| {
        if asked {
            return Poll::Ready(());
        }
        asked = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

type NextFrame = Option<Result<Frame<Bytes>, hyper::Error>>;

async fn next_frame(body: &mut Incoming, idle: Duration, deadline: Instant) -> Result<NextFrame, Problem> {
    let mut frame = body.frame();
    if let Poll::Ready(frame) = futures::poll!(&mut frame) {
        return Ok(frame);
    }
    // Being asked, the connection hands over what it has read already, which mostly is all there is: no timer for that.
    next_poll().await;
    let deadline = deadline.min(clock::now() + idle);
    let timely = clock::timeout_at(deadline, frame).await;
    timely.map_err(|_| Problem::new(Code::RequestTimeout, "the body did not arrive in time"))
}

fn too_large(limit: usize) -> Problem {
    Problem::new(Code::ValueTooLarge, format!("the body has at most {limit} bytes"))
}

/// A body of several pieces on its way.
struct Reading<'a> {
    received: BytesMut,
    room: Option<Reservation>,
    limits: ReadLimits,
    budget: &'a Budget,
}

impl Reading<'_> {
    fn append(&mut self, data: &[u8], announced: Option<usize>) -> Result<(), Problem> {
        let len = self.received.len() + data.len();
        if len > self.limits.bytes {
            return Err(too_large(self.limits.bytes));
        }
        if announced.is_none() {
            self.make_room(len)?;
        }
        if self.received.is_empty() {
            self.received.reserve(announced.unwrap_or(data.len()));
        }
        self.received.extend_from_slice(data);
        Ok(())
    }

    /// Sees that a body of `len` bytes has its room.
    fn make_room(&mut self, len: usize) -> Result<(), Problem> {
        if len <= SMALL_BYTES {
            return Ok(());
        }
        match &mut self.room {
            None => self.room = Some(self.budget.reserve(len).ok_or_else(Problem::no_room)?),
            Some(room) => {
                let more = len.saturating_sub(room.bytes());
                room.grow(more).then_some(()).ok_or_else(Problem::no_room)?;
            }
        }
        Ok(())
    }
}

/// A response's body.
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// All of it is there; taken when it is sent.
    Full(Option<Bytes>),
    /// It is made as it is sent, no faster than the client reads.
    Stream(BoxStream<'static, Bytes>),
}

impl Body {
    /// A body that is there.
    pub(crate) fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() {
            Self::Empty
        } else {
            Self::Full(Some(bytes))
        }
    }

    /// A body that is there, and the room that it takes until its last byte is written.
    pub(crate) fn held(bytes: Bytes, room: Reservation) -> Self {
        Self::full(Bytes::from_owner(Held { bytes, _room: room }))
    }

    /// A body that comes in pieces, none of them empty.
    pub(crate) fn stream(pieces: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self::Stream(pieces.boxed())
    }

    /// Its length, if that is known.
    pub(crate) fn known_len(&self) -> Option<usize> {
        match self {
            Self::Empty => Some(0),
            Self::Full(bytes) => Some(bytes.as_ref().map_or(0, Bytes::len)),
            Self::Stream(_) => None,
        }
    }
}

/// Bytes that give their room back when they are dropped.
struct Held {
    bytes: Bytes,
    _room: Reservation,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(pieces) => pieces
                .poll_next_unpin(context)
                .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty | Self::Full(None))
    }

    fn size_hint(&self) -> SizeHint {
        self.known_len()
            .map_or_else(SizeHint::new, |len| SizeHint::with_exact(len as u64))
    }
}
