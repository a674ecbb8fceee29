//! Transactions within one range: conditions, reads and writes at one moment, in one entry.
//!
//! Everything that a transaction writes has one revision, as if it were one write: a commit timestamp. A key occurs at
//! most once in a branch, so its reads see what was there before it, in whatever order they stand.

use holdfast_common::limits::MAX_TXN_BYTES;
use holdfast_common::proto::kv::{self, Act, Committed, Record, Txn, WriteOutcome};

use super::writes::{Current, Entry, holds};
use super::{ApplyError, Reads};
use crate::state::RangeState;

type Answer = Result<WriteOutcome, kv::Error>;

impl<'a> Entry<'a> {
    /// Carries out a transaction, or nothing of it.
    pub(super) fn transact(
        &mut self,
        state: &mut RangeState,
        txn: &'a Txn,
        reads: &impl Reads,
    ) -> Result<Answer, ApplyError> {
        let span = &self.descriptor.span;
        if !txn.keys().all(|key| span.contains(key.as_ref())) {
            return Ok(Err(kv::Error::CrossRange));
        }
        let mut held = true;
        for (key, condition) in &txn.conditions {
            held &= holds(condition, self.meet(key, reads)?.live.as_ref());
        }
        let found = match self.read_branch(txn, held, reads)? {
            Ok(found) => found,
            Err(error) => return Ok(Err(error)),
        };
        let branch = txn.branch(held);
        let revision = if branch.iter().any(|action| action.act.writes()) {
            self.give_revision(state)
        } else {
            state.last_revision
        };
        for action in branch {
            match &action.act {
                Act::Put { value, ttl_ms } => {
                    let met = self.meet(&action.key, reads)?;
                    self.put(state, &action.key, &met, revision, value, *ttl_ms);
                }
                Act::Delete => {
                    let met = self.meet(&action.key, reads)?;
                    self.remove(state, &action.key, &met);
                }
                Act::Get => {}
            }
        }
        Ok(Ok(WriteOutcome::Committed(Box::new(Committed {
            held,
            revision,
            reads: found,
        }))))
    }

    /// The answer to a transaction that was carried out before. What it read is not remembered; it is told again where a
    /// record is as old as the transaction, and so was there when it read.
    pub(super) fn read_again(
        &self,
        txn: &Txn,
        committed: Committed,
        reads: &impl Reads,
    ) -> Result<Answer, ApplyError> {
        let found = match self.read_branch(txn, committed.held, reads)? {
            Ok(found) => found,
            Err(_) => return Ok(Err(kv::Error::ReadsLost)),
        };
        let unchanged = |record: &Option<Record>| {
            record
                .as_ref()
                .is_some_and(|record| record.revision <= committed.revision)
        };
        if !found.iter().all(unchanged) {
            return Ok(Err(kv::Error::ReadsLost));
        }
        Ok(Ok(WriteOutcome::Committed(Box::new(Committed {
            reads: found,
            ..committed
        }))))
    }

    fn read_branch(
        &self,
        txn: &Txn,
        held: bool,
        reads: &impl Reads,
    ) -> Result<Result<Vec<Option<Record>>, kv::Error>, ApplyError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for action in txn.branch(held).iter().filter(|action| !action.act.writes()) {
            let record = self.meet(&action.key, reads)?.live.map(record);
            bytes += record.as_ref().map_or(0, |record| record.value.len());
            if bytes > MAX_TXN_BYTES {
                return Ok(Err(kv::Error::AnswerTooLarge));
            }
            found.push(record);
        }
        Ok(Ok(found))
    }
}

fn record(current: Current) -> Record {
    Record {
        revision: current.header.revision,
        expires_ms: current.header.expires_ms,
        value: current.value,
    }
}
