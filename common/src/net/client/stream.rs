//! Reading a stream.
//!
//! Items wait in an [`Inbox`] until they are polled for. It never holds more than the window and one item: the peer
//! may send only what was granted, and more is granted as items are taken out.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures::Stream;
use parking_lot::Mutex;

use super::conn::ClientConn;
use super::link::Link;
use super::pending::{NewCall, Outcome, Waiter};
use crate::clock::Instant;
use crate::net::error::Error;
use crate::net::frame::{HEADER_LEN, STREAM_WINDOW};

/// Consumed bytes are granted back when they are this many.
const GRANT_BYTES: usize = STREAM_WINDOW / 2;

/// Where the task that reads the connection leaves what belongs to a stream.
#[derive(Debug)]
pub(super) struct Inbox(Mutex<State>);

#[derive(Debug)]
struct State {
    begun: bool,
    items: VecDeque<Bytes>,
    /// How the stream ended, once it did; reported after the items.
    end: Option<Result<(), Error>>,
    /// Bytes that the peer may still send; the last item may overdraw it.
    granted: i64,
    /// Bytes consumed and not granted back yet.
    consumed: usize,
    waker: Option<Waker>,
}

/// The next item, and how many bytes to grant for what was consumed.
type Taken = (Result<Bytes, Error>, Option<u32>);

/// The peer sent more of a stream than it was granted.
#[derive(Debug)]
pub(super) struct Overrun;

impl Inbox {
    fn new() -> Self {
        Self(Mutex::new(State {
            begun: false,
            items: VecDeque::new(),
            end: None,
            granted: STREAM_WINDOW as i64,
            consumed: 0,
            waker: None,
        }))
    }

    /// The peer begins the stream.
    pub(super) fn begin(&self) {
        self.change(|state| state.begun = true);
    }

    /// An item arrived.
    pub(super) fn item(&self, body: Bytes) -> Result<(), Overrun> {
        self.change(|state| {
            if state.granted <= 0 {
                return Err(Overrun);
            }
            state.granted -= cost(&body) as i64;
            state.items.push_back(body);
            Ok(())
        })
    }

    /// The peer ended the stream, and it is complete.
    pub(super) fn complete(&self) {
        self.change(|state| state.end = Some(Ok(())));
    }

    /// The stream ends with an error, or is one answer.
    pub(super) fn finish(&self, outcome: Outcome) {
        self.change(|state| {
            state.begun |= outcome.is_ok();
            state.end = Some(outcome.map(|body| state.items.push_back(body)));
        });
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (changed, waker) = {
            let mut state = self.0.lock();
            (change(&mut state), state.waker.take())
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        changed
    }

    fn is_ended(&self) -> bool {
        self.0.lock().end.is_some()
    }

    fn poll_begun(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.0.lock();
        if state.begun {
            return Poll::Ready(Ok(()));
        }
        match state.end.clone() {
            Some(end) => Poll::Ready(end),
            None => state.wait(context),
        }
    }

    fn poll_item(&self, context: &mut Context<'_>) -> Poll<Option<Taken>> {
        let mut state = self.0.lock();
        if let Some(body) = state.items.pop_front() {
            state.consumed += cost(&body);
            let grant = (state.consumed >= GRANT_BYTES && state.end.is_none()).then(|| {
                let bytes = std::mem::take(&mut state.consumed);
                state.granted += bytes as i64;
                bytes as u32
            });
            return Poll::Ready(Some((Ok(body), grant)));
        }
        match &mut state.end {
            Some(end) => {
                let error = std::mem::replace(end, Ok(())).err();
                Poll::Ready(error.map(|error| (Err(error), None)))
            }
            None => state.wait(context),
        }
    }
}

impl State {
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => self.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

/// What an item takes of the window. Its header counts, so that empty items are bounded too.
fn cost(body: &Bytes) -> usize {
    HEADER_LEN + body.len()
}

/// Sends the request for a stream.
pub(super) fn open(link: &Arc<Link>, method: u16, body: Bytes, deadline: Instant) -> OpenStream {
    let inbox = Arc::new(Inbox::new());
    let origin = link.submit(NewCall {
        method,
        body,
        deadline,
        waiter: Waiter::Stream(inbox.clone()),
    });
    OpenStream(Some(ResponseStream { inbox, origin }))
}

/// A stream that is being opened: answers when the peer has begun it, or with the reason why not.
#[must_use = "dropping it cancels the stream"]
#[derive(Debug)]
pub struct OpenStream(Option<ResponseStream>);

impl Future for OpenStream {
    type Output = Result<ResponseStream, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(stream) = self.0.as_ref() else {
            return Poll::Pending;
        };
        let begun = std::task::ready!(stream.inbox.poll_begun(context));
        match (begun, self.0.take()) {
            (Ok(()), Some(stream)) => Poll::Ready(Ok(stream)),
            (Err(error), _) => Poll::Ready(Err(error)),
            (Ok(()), None) => Poll::Pending,
        }
    }
}

/// The items of a stream, in order. It ends after the last one, or with an error: an end without error means that
/// nothing is missing. Dropping it tells the peer to stop.
#[must_use = "dropping it cancels the stream"]
#[derive(Debug)]
pub struct ResponseStream {
    inbox: Arc<Inbox>,
    /// The connection and the request, if it was sent.
    origin: Option<(Arc<ClientConn>, u64)>,
}

impl Stream for ResponseStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = std::task::ready!(self.inbox.poll_item(context));
        Poll::Ready(next.map(|(item, grant)| {
            if let (Some(bytes), Some((conn, id))) = (grant, &self.origin) {
                conn.grant(*id, bytes);
            }
            item
        }))
    }
}

impl Drop for ResponseStream {
    fn drop(&mut self) {
        if let Some((conn, id)) = &self.origin
            && !self.inbox.is_ended()
        {
            conn.cancel(*id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn a_peer_that_sends_more_than_granted_is_found_out() {
        let inbox = Inbox::new();
        let item = Bytes::from(vec![0; STREAM_WINDOW]);
        assert!(inbox.item(item.clone()).is_ok());
        assert!(inbox.item(item).is_err());
    }

    #[test]
    fn what_is_consumed_is_granted_back_in_lots() {
        let inbox = Inbox::new();
        let third = Bytes::from(vec![0; STREAM_WINDOW / 3]);
        for _ in 0..3 {
            inbox.item(third.clone()).expect("within the window");
        }
        let mut granted = Vec::new();
        for _ in 0..3 {
            let Poll::Ready(Some((Ok(_), grant))) = inbox.poll_item(&mut context()) else {
                panic!("an item")
            };
            granted.push(grant);
        }
        assert_eq!(
            granted,
            [None, Some(2 * (HEADER_LEN + STREAM_WINDOW / 3) as u32), None]
        );
        assert!(inbox.poll_item(&mut context()).is_pending());
    }

    #[test]
    fn the_error_comes_after_the_items_and_once() {
        let inbox = Inbox::new();
        inbox.begin();
        inbox
            .item(Bytes::from_static(b"item"))
            .expect("within the window");
        inbox.finish(Err(Error::Closed));
        let next = || match inbox.poll_item(&mut context()) {
            Poll::Ready(next) => next.map(|(item, _)| item),
            Poll::Pending => panic!("the stream has ended"),
        };
        assert_eq!(next(), Some(Ok(Bytes::from_static(b"item"))));
        assert_eq!(next(), Some(Err(Error::Closed)));
        assert_eq!(next(), None);
    }
}
