//! A stream of appends with several under way, of which a commit is told in passing.
//!
//! With nothing else to send, openraft tells each follower of every commit in an append without entries. Under load that
//! nearly doubles the messages, so such an append is held back here, and is dropped when one with entries comes, which
//! carries the same news or newer. (etcd's raft tells of every commit at once; TiKV has its own wait for the next entry or
//! heartbeat, `skip_bcast_commit`, but for those of entries that change a region.)

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{FutureExt, Stream, StreamExt};
use openraft::error::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};

use super::failure::Failure;
use super::news::{BRIEF, News};
use crate::clock::{self, Instant};
use crate::proto::raft::Appended;
use crate::raft::network::convert;
use crate::raft::types::{LogId, TypeConfig};

/// Most appends of one stream without an answer. One in flight costs 5–9 % of throughput, more than this gains nothing.
const MAX_IN_FLIGHT: usize = 32;

/// Bytes without an answer from which on the stream waits; a single append may exceed it. Bounds what a follower that
/// catches up has waiting, here and there.
const MAX_BYTES_IN_FLIGHT: usize = 4 * 1024 * 1024;

/// Sends the appends of `input` and yields what those that were sent achieved, in order. Ends with the input, or after the
/// first result that is no success: what follows then belongs to a log that the follower does not have.
pub(super) struct Pipeline<'s, L: Line, S> {
    line: &'s mut L,
    input: S,
    input_ended: bool,
    news: News,
    /// An append without entries that is held back, and until when.
    held: Option<(AppendEntriesRequest<TypeConfig>, Instant)>,
    /// Rings then, or before: what is held is mostly dropped, and setting an alarm anew for each costs more than one that
    /// rings in vain now and then.
    alarm: Pin<Box<clock::Sleep>>,
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
}

impl<'s, L, S> Pipeline<'s, L, S>
where
    L: Line,
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    pub(super) fn new(line: &'s mut L, input: S, news: News) -> Self {
        let in_flight = VecDeque::new();
        Self {
            line,
            input,
            input_ended: false,
            news,
            held: None,
            alarm: Box::pin(clock::sleep(BRIEF)),
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
                    self.held = None;
                    self.send(rpc);
                }
                Poll::Ready(None) => self.input_ended = true,
                Poll::Pending => break,
            }
        }
        if self.is_due(context)
            && let Some((rpc, _)) = self.held.take()
        {
            self.send(rpc);
        }
    }

    /// A later one replaces it, and does not wait longer for that.
    fn hold_back(&mut self, rpc: AppendEntriesRequest<TypeConfig>) {
        let mut until = clock::now() + self.news.hold(&rpc);
        if let Some((_, earlier)) = &self.held {
            until = until.min(*earlier);
        }
        self.held = Some((rpc, until));
        if self.alarm.is_elapsed() || until < self.alarm.deadline() {
            self.alarm.as_mut().reset(until);
        }
    }

    /// Whether something is held back that has to go now.
    fn is_due(&mut self, context: &mut Context<'_>) -> bool {
        let Some((_, until)) = self.held else {
            return false;
        };
        while !self.input_ended && self.alarm.as_mut().poll(context).is_ready() {
            if until <= clock::now() {
                return true;
            }
            self.alarm.as_mut().reset(until);
        }
        self.input_ended
    }

    fn send(&mut self, rpc: AppendEntriesRequest<TypeConfig>) {
        self.news.sent(&rpc);
        let prev = rpc.prev_log_id;
        let last = rpc.entries.last().map(|entry| entry.log_id).or(prev);
        let (call, bytes) = self.line.append(rpc);
        self.bytes_in_flight += bytes;
        self.in_flight.push_back(Flight {
            call,
            bytes,
            prev,
            last,
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
        if let Some(oldest) = this.in_flight.front_mut() {
            let outcome = ready!(oldest.call.poll_unpin(context));
            let (prev, last) = (oldest.prev, oldest.last);
            this.bytes_in_flight -= oldest.bytes;
            this.in_flight.pop_front();
            let item = outcome
                .and_then(|appended| Ok(convert::stream_result(appended, prev, last)?))
                .map_err(|failure| this.line.failed(failure));
            this.over = !matches!(&item, Ok(Ok(matching)) if *matching == last);
            return Poll::Ready(Some(item));
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
