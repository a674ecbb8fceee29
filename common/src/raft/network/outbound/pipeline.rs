//! A stream of appends with several under way.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::{FutureExt, Stream, StreamExt};
use openraft::error::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};

use super::peer::{AppendCall, PeerReplica};
use crate::raft::network::convert;
use crate::raft::types::{LogId, TypeConfig};

/// Most appends of one stream without an answer. One in flight costs 5–9 % of throughput, more than this gains nothing.
const MAX_IN_FLIGHT: usize = 32;

/// Bytes without an answer from which on the stream waits; a single append may exceed it. Bounds what a follower that
/// catches up has waiting, here and there.
const MAX_BYTES_IN_FLIGHT: usize = 4 * 1024 * 1024;

/// Sends the appends of `input` and yields their results in the same order. Ends with the input, or after the first
/// result that is no success: what follows then belongs to a log that the follower does not have.
pub(super) struct Pipeline<'s, S> {
    peer: &'s mut PeerReplica,
    input: S,
    input_ended: bool,
    in_flight: VecDeque<Flight>,
    bytes_in_flight: usize,
    over: bool,
}

/// One append without an answer.
struct Flight {
    call: AppendCall,
    bytes: usize,
    prev: Option<LogId>,
    last: Option<LogId>,
}

impl<'s, S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin> Pipeline<'s, S> {
    pub(super) fn new(peer: &'s mut PeerReplica, input: S) -> Self {
        let in_flight = VecDeque::new();
        Self {
            peer,
            input,
            input_ended: false,
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
                Poll::Ready(Some(rpc)) => self.send(rpc),
                Poll::Ready(None) => self.input_ended = true,
                Poll::Pending => return,
            }
        }
    }

    fn send(&mut self, rpc: AppendEntriesRequest<TypeConfig>) {
        let prev = rpc.prev_log_id;
        let last = rpc.entries.last().map(|entry| entry.log_id).or(prev);
        let (call, bytes) = self.peer.append(rpc);
        self.bytes_in_flight += bytes;
        self.in_flight.push_back(Flight {
            call,
            bytes,
            prev,
            last,
        });
    }
}

impl<S> Stream for Pipeline<'_, S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Unpin,
{
    type Item = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        this.send_ready(context);
        let Some(oldest) = this.in_flight.front_mut() else {
            return if this.input_ended {
                Poll::Ready(None)
            } else {
                Poll::Pending
            };
        };
        let outcome = ready!(oldest.call.poll_unpin(context));
        let (prev, last) = (oldest.prev, oldest.last);
        this.bytes_in_flight -= oldest.bytes;
        this.in_flight.pop_front();
        let item = outcome
            .and_then(|appended| Ok(convert::stream_result(appended, prev, last)?))
            .map_err(|failure| this.peer.append_failed(failure));
        this.over = !matches!(&item, Ok(Ok(matching)) if *matching == last);
        Poll::Ready(Some(item))
    }
}
