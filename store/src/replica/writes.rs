//! The write path at a leader: from the queue into the log and back to whoever waits.
//!
//! No task is made for a write, nor for an entry. Writes join the queue on the task that read them from their
//! connection; that task proposes when it has handed over all that it read. The outcome of an entry comes back on the task
//! that applied it: it answers each writer, and proposes what has gathered meanwhile.
//!
//! What openraft reports means, by its source:
//! - the entry's answer: it was applied, here, and the answer says what became of each write;
//! - `ForwardToLeader`: nothing was appended. It comes from the one check before anything is, so each write may safely be
//!   sent elsewhere, or, when only the lease had expired, be proposed again;
//! - `LogEntryDiscarded`: the entry left this log before it was applied here; another leader may have committed it;
//! - no outcome at all, when the core stops: the same.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use holdfast_common::clock::{self, Instant};
use holdfast_common::net::Reply;
use holdfast_common::proto;
use holdfast_common::proto::kv::{Error, ExplainedWrite, WriteOutcome};
use holdfast_common::raft::types::{Callback, Command as Encoded, TypeConfig};
use holdfast_common::revision::Revision;
use openraft::errors::{ClientWriteError, ForwardReason, LinearizableReadError, RaftError};
use openraft::raft::ClientWriteResult;
use openraft::raft::linearizable_read::LinearizerOption;

use super::Replica;
use super::queue::Full;
use crate::command::{Write, encode_writes};
use crate::failpoint;
use crate::memory::Held;
use crate::metrics::{self, Op, Outcome, Proposed};

/// When a writer that was turned away for too much waiting may come again, milliseconds.
const BUSY_RETRY_MS: u32 = 20;

/// A write and whoever waits for its outcome.
pub(crate) struct Waiting {
    /// The write.
    pub write: Write,
    /// Whether it is answered with what it took.
    pub is_explained: bool,
    /// Who is told.
    pub reply: Reply,
    /// When nobody listens any more.
    pub deadline: Option<Instant>,
    /// When it came.
    pub arrived: Instant,
    /// Its part of the store's room for writes, until it is answered.
    pub _held: Held,
}

impl Waiting {
    fn answer(self, result: &Result<WriteOutcome, Error>) {
        failpoint::answer(self.reply, proto::encode(result));
    }

    fn is_late(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// Writes of one entry, each with its size in it.
type Batch = Vec<(usize, Waiting)>;

impl Replica {
    /// Lets an admitted write wait for the next [`propose`](Self::propose); answers it at once when too much waits.
    pub(crate) fn enqueue(&self, waiting: Waiting) {
        let size = waiting.write.encoded_len();
        let pushed = self.writes.lock().push(size, waiting);
        if let Err(Full(turned_away)) = pushed {
            answer_all(
                [turned_away],
                &Error::Busy {
                    retry_after_ms: BUSY_RETRY_MS,
                },
            );
        }
    }

    /// Proposes what waits, as far as entries in flight allow.
    pub(crate) fn propose(self: &Arc<Self>) {
        loop {
            let Some(batch) = self.writes.lock().take_entry() else {
                return;
            };
            let now = clock::now();
            let mut in_flight = InFlight {
                replica: self.clone(),
                batch,
                proposed: now,
            };
            in_flight.drop_late(now);
            if in_flight.batch.is_empty() {
                continue;
            }
            self.send(in_flight);
        }
    }

    /// Answers everything that waits with `error`; entries in flight are not touched.
    pub(crate) fn turn_away(&self, error: &Error) {
        let all = self.writes.lock().remove(|_| true);
        answer_all(all, error);
    }

    /// Answers what waits and nobody listens for any more.
    pub(crate) fn turn_away_late(&self, now: Instant) {
        let late = self.writes.lock().remove(|waiting| waiting.is_late(now));
        answer_all(late, &late_error());
    }

    /// How many writes wait to be proposed.
    pub(crate) fn waiting_writes(&self) -> usize {
        self.writes.lock().len()
    }

    fn send(&self, in_flight: InFlight) {
        let first = in_flight.batch.first().map(|(_, waiting)| waiting.arrived);
        metrics::proposed(
            in_flight.batch.len(),
            in_flight.proposed - first.unwrap_or(in_flight.proposed),
        );
        let writes = in_flight.batch.iter().map(|(_, waiting)| &waiting.write);
        let entry = Encoded(encode_writes(Revision::at_millis(clock::wall_ms()), writes));
        let callback = Callback::timed(move |result, committed| in_flight.land(result, committed));
        let raft = self.raft.clone();
        // The core's queue has room in all but the worst moments; only then the rest is left to a task.
        let mut sending = Box::pin(async move { raft.client_write_ff(entry, Some(callback)).await });
        match sending.as_mut().now_or_never() {
            // When the core has stopped, the callback was dropped, and with it the writes were answered.
            Some(_) => {}
            None => drop(tokio::spawn(sending)),
        }
    }

    /// A quorum's acknowledgement renews the lease that openraft asks for before it appends; then what was held is
    /// proposed. This happens to the first write after an election, or after a pause.
    async fn renew_lease(self: Arc<Self>) {
        let renewed = self
            .raft
            .get_read_linearizer(LinearizerOption::new(None, true))
            .await;
        match renewed {
            Ok(_) => {}
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => {
                self.turn_away(&self.not_leader())
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                self.turn_away(&Error::NotReady(
                    "the range's leader does not reach a majority".to_owned(),
                ));
            }
            Err(RaftError::Fatal(_)) => self.turn_away(&stopping()),
        }
        self.writes.lock().release();
        self.propose();
    }
}

/// An entry between proposal and answer. Dropped without an outcome, it answers that none is known.
struct InFlight {
    replica: Arc<Replica>,
    batch: Batch,
    proposed: Instant,
}

impl InFlight {
    fn drop_late(&mut self, now: Instant) {
        if !self.batch.iter().any(|(_, waiting)| waiting.is_late(now)) {
            return;
        }
        let (late, kept): (Batch, Batch) = self
            .batch
            .drain(..)
            .partition(|(_, waiting)| waiting.is_late(now));
        self.batch = kept;
        answer_all(late.into_iter().map(|(_, waiting)| waiting), &late_error());
    }

    fn land(mut self, result: ClientWriteResult<TypeConfig>, committed: Option<Instant>) {
        let replica = self.replica.clone();
        match result {
            Ok(response) => {
                self.observe(committed, response.data.1);
                self.answer(&response.data.0);
            }
            Err(ClientWriteError::ForwardToLeader(forward)) => self.never_appended(&forward.reason),
            // Dropping says that the outcome is unknown. The last two are for changes of membership.
            Err(ClientWriteError::LogEntryDiscarded(_))
            | Err(ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)) => {}
        }
        drop(self);
        replica.propose();
    }

    /// Its last stages: until it was committed, until applying it began, and that.
    fn observe(&self, committed: Option<Instant>, applying: Duration) {
        if let Some(committed) = committed {
            metrics::committed(committed.saturating_duration_since(self.proposed));
            metrics::apply_waited(committed.elapsed().saturating_sub(applying));
        }
    }

    fn answer(&mut self, answer: &[u8]) {
        let outcomes = match proto::decode::<Vec<Result<WriteOutcome, Error>>>(answer) {
            Ok(outcomes) if outcomes.len() == self.batch.len() => outcomes,
            other => {
                let found = other.map(|outcomes| outcomes.len());
                tracing::error!(range = %self.replica.range, ?found, "an entry's answer does not match its writes");
                return;
            }
        };
        metrics::proposal_ended(Proposed::Applied);
        if let Some((_, first)) = self.batch.first() {
            metrics::op_took(Op::Write, first.arrived.elapsed());
        }
        let writes = self.batch.iter().map(|(_, waiting)| &waiting.write);
        let sized = writes.map(|write| (write.key.as_bytes().as_ref(), write.data_len()));
        self.replica.load.write(sized);
        let mut ok = 0;
        let (replica, proposed, writes_in_entry) = (self.replica.id, self.proposed, outcomes.len() as u32);
        for ((_, waiting), outcome) in self.batch.drain(..).zip(&outcomes) {
            match outcome {
                Ok(_) => ok += 1,
                Err(error) => metrics::ops(Op::Write, Outcome::of(error), 1),
            }
            if !waiting.is_explained {
                waiting.answer(outcome);
                continue;
            }
            let explained = outcome.clone().map(|outcome| ExplainedWrite {
                outcome,
                replica,
                writes_in_entry,
                queue_us: (proposed - waiting.arrived).as_micros() as u64,
                commit_us: proposed.elapsed().as_micros() as u64,
            });
            waiting.reply.send(proto::encode(&explained));
        }
        metrics::ops(Op::Write, Outcome::Ok, ok);
    }

    fn never_appended(&mut self, reason: &ForwardReason) {
        metrics::proposal_ended(Proposed::Refused);
        let batch = std::mem::take(&mut self.batch);
        if *reason == ForwardReason::LeaseExpired {
            let mut queue = self.replica.writes.lock();
            queue.put_back(batch);
            if queue.hold() {
                tokio::spawn(self.replica.clone().renew_lease());
            }
            return;
        }
        let error = self.replica.not_leader();
        answer_all(batch.into_iter().map(|(_, waiting)| waiting), &error);
        self.replica.turn_away(&error);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if !self.batch.is_empty() {
            metrics::proposal_ended(Proposed::Unknown);
            answer_all(
                self.batch.drain(..).map(|(_, waiting)| waiting),
                &Error::OutcomeUnknown,
            );
        }
        self.replica.writes.lock().landed();
    }
}

fn answer_all(waiting: impl IntoIterator<Item = Waiting>, error: &Error) {
    let body = proto::encode(&Err::<WriteOutcome, _>(error.clone()));
    let mut count = 0;
    for waiting in waiting {
        waiting.reply.send(body.clone());
        count += 1;
    }
    if count > 0 {
        metrics::ops(Op::Write, Outcome::of(error), count);
    }
}

fn late_error() -> Error {
    Error::NotReady("the deadline passed before the write was proposed".to_owned())
}

pub(super) fn stopping() -> Error {
    Error::NotReady("the replica is stopping".to_owned())
}
