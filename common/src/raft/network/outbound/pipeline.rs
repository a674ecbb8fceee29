//! A stream of appends with several under way.
//!
//! Two things are done to what openraft asks for.
//!
//! **A commit rides.** With nothing else to send, openraft tells each follower of every commit in an append without
//! entries. Under load that nearly doubles the messages, so such an append is held back for a moment, and is dropped when
//! one with entries comes, which carries the same news or newer.
//!
//! **An acknowledgement waits for the appends that it would stand for.** Of an acknowledged log position openraft takes
//! every append up to it as answered, also one without entries that was sent later and is under way still, and dates the
//! follower's promise by that one. A leader that is paused, finds the answers of two followers when it wakes, commits by
//! the first one and tells the second follower, would then take the second answer, old as it is, as one to what it has
//! only just sent; its lease would seem fresh while another leader may long have been elected. So a position is
//! acknowledged here only once nothing that ends at it is without an answer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt};
use openraft::error::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};

use super::failure::Failure;
use crate::clock;
use crate::proto::raft::Appended;
use crate::raft::network::convert;
use crate::raft::types::{LogId, TypeConfig};

/// Most appends of one stream without an answer. One in flight costs 5–9 % of throughput, more than this gains nothing.
const MAX_IN_FLIGHT: usize = 32;

/// Bytes without an answer from which on the stream waits; a single append may exceed it. Bounds what a follower that
/// catches up has waiting, here and there.
const MAX_BYTES_IN_FLIGHT: usize = 4 * 1024 * 1024;

/// How long an append without entries waits for one that has some: many times the gap between the writes of a range under
/// load, and nothing that anybody would wait for on a follower.
const HOLD: Duration = Duration::from_millis(5);

/// Sends the appends of `input` and yields what they achieved, in order; a result stands for the appends before it that
/// have none of their own. Ends with the input, or after the first result that is no success: what follows then belongs to
/// a log that the follower does not have.
pub(super) struct Pipeline<'s, L: Line, S> {
    line: &'s mut L,
    input: S,
    input_ended: bool,
    /// An append without entries that is held back, and until when.
    held: Option<AppendEntriesRequest<TypeConfig>>,
    hold: Pin<Box<clock::Sleep>>,
    in_flight: VecDeque<Flight<L::Call>>,
    bytes_in_flight: usize,
    over: bool,
}

/// Where appends go.
pub(super) trait Line {
    /// An append under way.
    type Call: Future<Output = Result<Appended, Failure>> + Unpin;

    /// Sends an append, now: what is sent first arrives first. Tells its length on the wire, too.
    fn append(&mut self, rpc: AppendEntriesRequest<TypeConfig>) -> (Self::Call, usize);

    /// Notes a failed append and puts it into openraft's words.
    fn failed(&self, failure: Failure) -> RPCError<TypeConfig>;
}

/// One append without an answer.
struct Flight<C> {
    call: C,
    bytes: usize,
    prev: Option<LogId>,
    last: Option<LogId>,
    /// Whether one without entries that ended at `prev` was dropped for it.
    carries: bool,
}

impl<'s, L, S> Pipeline<'s, L, S>
where
    L: Line,
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    pub(super) fn new(line: &'s mut L, input: S) -> Self {
        let in_flight = VecDeque::new();
        Self {
            line,
            input,
            input_ended: false,
            held: None,
            hold: Box::pin(clock::sleep(HOLD)),
            in_flight,
            bytes_in_flight: 0,
            over: false,
        }
    }

    /// Sends what the input has, as far as the bounds allow.
    fn send_ready(&mut self, context: &mut Context<'_>) {
        while !self.input_ended
            && self.in_flight.len() < MAX_IN_FLIGHT
            && (self.in_flight.is_empty() || self.bytes_in_flight < MAX_BYTES_IN_FLIGHT)
        {
            match self.input.poll_next_unpin(context) {
                Poll::Ready(Some(rpc)) if rpc.entries.is_empty() => self.hold_back(rpc),
                Poll::Ready(Some(rpc)) => {
                    let carries = self.held.take().is_some();
                    self.send(rpc, carries);
                }
                Poll::Ready(None) => self.input_ended = true,
                Poll::Pending => break,
            }
        }
        if self.held.is_some() && (self.input_ended || self.hold.as_mut().poll(context).is_ready()) {
            self.held.take().into_iter().for_each(|rpc| self.send(rpc, false));
        }
    }

    /// A later one replaces it, and does not wait longer for that.
    fn hold_back(&mut self, rpc: AppendEntriesRequest<TypeConfig>) {
        if self.held.replace(rpc).is_none() {
            self.hold.as_mut().reset(clock::now() + HOLD);
        }
    }

    /// Whether something that ends at `position` still waits for its answer, or to be sent.
    fn awaits(&self, position: Option<LogId>) -> bool {
        let held = self.held.as_ref();
        held.is_some_and(|held| held.prev_log_id == position)
            || self
                .in_flight
                .iter()
                .any(|flight| flight.last == position || (flight.carries && flight.prev == position))
    }

    fn send(&mut self, rpc: AppendEntriesRequest<TypeConfig>, carries: bool) {
        let prev = rpc.prev_log_id;
        let last = rpc.entries.last().map(|entry| entry.log_id).or(prev);
        let (call, bytes) = self.line.append(rpc);
        self.bytes_in_flight += bytes;
        self.in_flight.push_back(Flight {
            call,
            bytes,
            prev,
            last,
            carries,
        });
    }
}

impl<L, S> Stream for Pipeline<'_, L, S>
where
    L: Line,
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    type Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        this.send_ready(context);
        while let Some(oldest) = this.in_flight.front_mut() {
            let outcome = ready!(oldest.call.poll_unpin(context));
            let (prev, last) = (oldest.prev, oldest.last);
            this.bytes_in_flight -= oldest.bytes;
            this.in_flight.pop_front();
            let item = outcome
                .and_then(|appended| Ok(convert::stream_result(appended, prev, last)?))
                .map_err(|failure| this.line.failed(failure));
            this.over = !matches!(&item, Ok(Ok(matching)) if *matching == last);
            if this.over || !this.awaits(last) {
                return Poll::Ready(Some(item));
            }
            // There is room for more now.
            this.send_ready(context);
        }
        if this.input_ended {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
#[path = "pipeline_test.rs"]
mod tests;
