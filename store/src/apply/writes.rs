//! Applying writes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use holdfast_common::key::Key;
use holdfast_common::proto::kv::{self, Act, Action, Committed, Condition, Mutation, Once, WriteOutcome};
use holdfast_common::range::Descriptor;
use holdfast_common::revision::Revision;

use super::{Answer, Applied, ApplyError, Reads, WriteAnswers};
use crate::command::Write;
use crate::engine::{Batch, KeyHash};
use crate::failpoint;
use crate::keys;
use crate::record::{Header, MAX_HEADER_BYTES};
use crate::sessions::{Admission, WriteName};
use crate::state::{Merge, RangeState};
use crate::tokens;

/// When a writer whose name a range has no room to remember may come again, milliseconds.
const TOKENS_RETRY_MS: u32 = 1_000;

/// Applies the writes of the entry at `index`.
pub(super) fn apply(
    state: &mut RangeState,
    index: u64,
    stamp: Revision,
    writes: &[Write],
    reads: &impl Reads,
) -> Result<Applied, ApplyError> {
    if state.merge != Merge::No && !failpoint::merge_fence_is_ignored() {
        return Ok(refuse_while_merging(state, writes));
    }
    let next = state.last_revision.advance_to(stamp);
    let mut entry = Entry {
        index,
        now_ms: next.millis(),
        next,
        rows: Rows::for_writes(writes),
        forgotten: Vec::new(),
        token_rows: Batch::default(),
        descriptor: state.descriptor.clone(),
    };
    state.tokens.expire(entry.now_ms, &mut entry.token_rows);
    let mut answers = WriteAnswers::with_capacity(writes.len());
    for write in writes {
        answers.push(entry.write(state, write, reads)?);
    }
    // The entry's time has passed even if it changed nothing: what has expired for it stays expired.
    state.last_revision = state.last_revision.max(next);

    let mut rows = entry.rows.into_batch();
    rows.append(entry.token_rows);
    for forgotten in entry
        .forgotten
        .into_iter()
        .filter(|forgotten| *forgotten != index)
    {
        rows.delete(Bytes::copy_from_slice(&keys::outcomes(
            state.identity.range,
            forgotten,
        )));
    }
    if let Some(row) = state.sessions.row(index) {
        rows.put_first(
            Bytes::copy_from_slice(&keys::outcomes(state.identity.range, index)),
            row,
        );
    }
    Ok(Applied {
        rows,
        answer: Answer::Writes(answers),
        effects: Vec::new(),
    })
}

/// Refuses the writes of an entry behind a freeze, and leaves no trace of them. The neighbour that takes the range over inherits its
/// state as of the freeze; a replica that has applied more of the log by then has to have the very same, or the neighbour's
/// replicas would differ from there on.
fn refuse_while_merging(state: &RangeState, writes: &[Write]) -> Applied {
    let mut answers = WriteAnswers::with_capacity(writes.len());
    for write in writes {
        answers.push(Err(if state.descriptor.span.contains(write.key.as_ref()) {
            kv::Error::NotReady("the range is being merged".to_owned())
        } else {
            kv::Error::StaleEpoch {
                current: vec![Descriptor::clone(&state.descriptor)],
            }
        }));
    }
    Applied {
        rows: Batch::default(),
        answer: Answer::Writes(answers),
        effects: Vec::new(),
    }
}

/// The entry under way.
pub(super) struct Entry<'a> {
    index: u64,
    /// The moment of all its writes: expiry is decided by it, never by a replica's clock.
    pub(super) now_ms: u64,
    /// The revision of its next write that changes something.
    next: Revision,
    rows: Rows<'a>,
    /// Entries whose outcomes are all forgotten.
    forgotten: Vec<u64>,
    /// Tokens remembered and forgotten.
    token_rows: Batch,
    pub(super) descriptor: Arc<Descriptor>,
}

/// What a write meets under its key.
pub(super) struct Met {
    /// The record's length as stored, also when it has expired.
    stored_len: Option<usize>,
    /// The record, unless it has expired.
    pub(super) live: Option<Current>,
}

/// A record that has not expired.
pub(super) struct Current {
    pub(super) header: Header,
    pub(super) value: Bytes,
}

impl<'a> Entry<'a> {
    fn write(
        &mut self,
        state: &mut RangeState,
        write: &'a Write,
        reads: &impl Reads,
    ) -> Result<Result<WriteOutcome, kv::Error>, ApplyError> {
        if !self.descriptor.span.contains(write.key.as_ref()) && !failpoint::bounds_are_unchecked() {
            return Ok(Err(kv::Error::StaleEpoch {
                current: vec![Descriptor::clone(&self.descriptor)],
            }));
        }
        let name = WriteName {
            session: write.session,
            sequence: write.sequence,
            finished_below: write.finished_below,
        };
        match state
            .sessions
            .admit(name, self.index, self.now_ms, &mut self.forgotten)
        {
            Admission::Repeated(_) if failpoint::outcomes_are_forgotten() => {}
            Admission::Repeated(outcome) => return self.repeat(write, outcome, reads),
            Admission::Retired => return Ok(Err(kv::Error::Retired)),
            Admission::New => {}
        }
        let answer = match &write.once {
            None => self.carry_out(state, write, reads)?,
            Some(once) => self.once(state, write, once, reads)?,
        };
        if let Ok(outcome) = &answer {
            let kept = without_reads(outcome);
            state
                .sessions
                .remember(name, self.index, kept, &mut self.forgotten);
        }
        Ok(answer)
    }

    /// A write under a client's name: carried out unless that was done before.
    fn once(
        &mut self,
        state: &mut RangeState,
        write: &'a Write,
        once: &Once,
        reads: &impl Reads,
    ) -> Result<Result<WriteOutcome, kv::Error>, ApplyError> {
        let (key, fingerprint) = (write.key.as_bytes(), write.fingerprint());
        match state
            .tokens
            .admit(key, once, fingerprint, self.now_ms, &mut self.token_rows)
        {
            tokens::Admission::Repeated(_) if failpoint::outcomes_are_forgotten() => {}
            tokens::Admission::Repeated(outcome) => return self.repeat(write, outcome, reads),
            tokens::Admission::Reused => return Ok(Err(kv::Error::TokenReused)),
            tokens::Admission::Full => {
                return Ok(Err(kv::Error::Busy {
                    retry_after_ms: TOKENS_RETRY_MS,
                }));
            }
            tokens::Admission::New => {}
        }
        let answer = self.carry_out(state, write, reads)?;
        if let Ok(outcome) = &answer {
            state
                .tokens
                .remember(key, once, fingerprint, self.now_ms, outcome, &mut self.token_rows);
        }
        Ok(answer)
    }

    /// What a write that was decided before is answered.
    fn repeat(
        &self,
        write: &Write,
        outcome: WriteOutcome,
        reads: &impl Reads,
    ) -> Result<Result<WriteOutcome, kv::Error>, ApplyError> {
        match (&write.mutation, outcome) {
            (Mutation::Txn(txn), WriteOutcome::Committed(committed)) => {
                self.read_again(txn, *committed, reads)
            }
            (_, outcome) => Ok(Ok(outcome)),
        }
    }

    fn carry_out(
        &mut self,
        state: &mut RangeState,
        write: &'a Write,
        reads: &impl Reads,
    ) -> Result<Result<WriteOutcome, kv::Error>, ApplyError> {
        let met = match &write.mutation {
            Mutation::Txn(txn) => return self.transact(state, txn, reads),
            Mutation::Put { .. } | Mutation::Delete => self.meet(&write.key, reads)?,
        };
        let present = met.live.as_ref().map(|current| current.header.revision);
        if !holds(&write.condition, met.live.as_ref()) {
            return Ok(Ok(WriteOutcome::ConditionFailed(present)));
        }
        Ok(Ok(match &write.mutation {
            Mutation::Put { value, ttl_ms } => {
                let revision = self.give_revision(state);
                self.put(state, &write.key, &met, revision, value, *ttl_ms);
                if present.is_some() {
                    WriteOutcome::Replaced(revision)
                } else {
                    WriteOutcome::Created(revision)
                }
            }
            Mutation::Delete | Mutation::Txn(_) => {
                self.remove(state, &write.key, &met);
                // An expired record is removed all the same, but to the writer there was none.
                if present.is_some() {
                    WriteOutcome::Deleted(self.give_revision(state))
                } else {
                    WriteOutcome::WasAbsent
                }
            }
        }))
    }

    /// What is there, as the writes before this one left it.
    pub(super) fn meet(&self, key: &Key, reads: &impl Reads) -> Result<Met, ApplyError> {
        let Some(stored) = self.rows.current(key, reads)? else {
            return Ok(Met {
                stored_len: None,
                live: None,
            });
        };
        let (header, header_len) = Header::read(&stored)?;
        let live = (!header.is_expired(self.now_ms)).then(|| Current {
            header,
            value: stored.slice(header_len..),
        });
        Ok(Met {
            stored_len: Some(stored.len()),
            live,
        })
    }

    pub(super) fn put(
        &mut self,
        state: &mut RangeState,
        key: &'a Key,
        met: &Met,
        revision: Revision,
        value: &[u8],
        ttl_ms: u64,
    ) {
        uncount(state, key, met);
        let expires_ms = if ttl_ms == 0 {
            0
        } else {
            self.now_ms.saturating_add(ttl_ms)
        };
        let length = self.rows.put(key, Header { revision, expires_ms }, value);
        let bytes = (key.as_bytes().len() + length) as u64;
        state.size_bytes = state.size_bytes.saturating_add(bytes);
        state.keys = state.keys.saturating_add(1);
    }

    pub(super) fn remove(&mut self, state: &mut RangeState, key: &'a Key, met: &Met) {
        uncount(state, key, met);
        if met.stored_len.is_some() {
            self.rows.delete(key);
        }
    }

    pub(super) fn give_revision(&mut self, state: &mut RangeState) -> Revision {
        let revision = self.next;
        self.next = revision.next();
        state.last_revision = revision;
        revision
    }
}

/// Takes what is there off the range's size.
fn uncount(state: &mut RangeState, key: &Key, met: &Met) {
    if let Some(stored_len) = met.stored_len {
        let length = (key.as_bytes().len() + stored_len) as u64;
        state.size_bytes = state.size_bytes.saturating_sub(length);
        state.keys = state.keys.saturating_sub(1);
    }
}

pub(super) fn holds(condition: &Condition, current: Option<&Current>) -> bool {
    match condition {
        Condition::None => true,
        Condition::Absent => current.is_none(),
        Condition::Exists => current.is_some(),
        Condition::Revision(revision) => current.is_some_and(|current| current.header.revision == *revision),
        Condition::Value(value) => current.is_some_and(|current| current.value == *value),
    }
}

/// What is remembered of an outcome.
fn without_reads(outcome: &WriteOutcome) -> WriteOutcome {
    match outcome {
        WriteOutcome::Committed(committed) => WriteOutcome::Committed(Box::new(Committed {
            held: committed.held,
            revision: committed.revision,
            reads: Vec::new(),
        })),
        other => other.clone(),
    }
}

/// The entry's rows, built in one piece of memory: an entry with a thousand writes makes one allocation for them, and
/// pins neither the entry nor the frame that it came in.
struct Rows<'a> {
    memory: BytesMut,
    made: Vec<Made>,
    /// The newest row of each key; empty when there is but one write.
    newest: HashMap<&'a [u8], usize, KeyHash>,
    many: bool,
}

/// Where in the memory a row lies: key and record follow each other.
struct Made {
    start: usize,
    key_end: usize,
    /// None for a removal.
    end: Option<usize>,
}

impl<'a> Rows<'a> {
    fn for_writes(writes: &[Write]) -> Self {
        let row = |key: &Key, value: usize| 1 + key.as_bytes().len() + MAX_HEADER_BYTES + value;
        let memory = writes.iter().map(|write| match &write.mutation {
            Mutation::Put { value, .. } => row(&write.key, value.len()),
            Mutation::Delete => row(&write.key, 0),
            Mutation::Txn(txn) => {
                let branch = |actions: &[Action]| -> usize {
                    let length = |action: &Action| match &action.act {
                        Act::Put { value, .. } => row(&action.key, value.len()),
                        Act::Delete => row(&action.key, 0),
                        Act::Get => 0,
                    };
                    actions.iter().map(length).sum()
                };
                branch(&txn.then).max(branch(&txn.otherwise))
            }
        });
        let many = writes.len() > 1;
        Self {
            memory: BytesMut::with_capacity(memory.sum()),
            made: Vec::with_capacity(writes.len()),
            newest: HashMap::with_capacity_and_hasher(if many { writes.len() } else { 0 }, KeyHash::fixed()),
            many,
        }
    }

    /// The stored record of a key, as the writes before this one left it.
    fn current(&self, key: &impl AsRef<[u8]>, reads: &impl Reads) -> Result<Option<Bytes>, ApplyError> {
        if self.many
            && let Some(&at) = self.newest.get(key.as_ref())
        {
            let made = &self.made[at];
            return Ok(made
                .end
                .map(|end| Bytes::copy_from_slice(&self.memory[made.key_end..end])));
        }
        Ok(reads.get(keys::RecordKey::new(key.as_ref()).as_ref())?)
    }

    /// Returns the length of the record.
    fn put(&mut self, key: &'a impl AsRef<[u8]>, header: Header, value: &[u8]) -> usize {
        let (start, key_end) = self.put_key(key.as_ref());
        header.put(&mut self.memory);
        self.memory.extend_from_slice(value);
        let end = self.memory.len();
        self.push(
            key.as_ref(),
            Made {
                start,
                key_end,
                end: Some(end),
            },
        );
        end - key_end
    }

    fn delete(&mut self, key: &'a impl AsRef<[u8]>) {
        let (start, key_end) = self.put_key(key.as_ref());
        self.push(
            key.as_ref(),
            Made {
                start,
                key_end,
                end: None,
            },
        );
    }

    fn put_key(&mut self, key: &[u8]) -> (usize, usize) {
        let start = self.memory.len();
        keys::put_record(&mut self.memory, key);
        (start, self.memory.len())
    }

    fn push(&mut self, key: &'a [u8], made: Made) {
        if self.many {
            self.newest.insert(key, self.made.len());
        }
        self.made.push(made);
    }

    fn into_batch(self) -> Batch {
        let memory = self.memory.freeze();
        let mut batch = Batch::with_capacity(self.made.len() + 4);
        for Made { start, key_end, end } in self.made {
            let key = memory.slice(start..key_end);
            match end {
                Some(end) => batch.put(key, memory.slice(key_end..end)),
                None => batch.delete(key),
            }
        }
        batch
    }
}
