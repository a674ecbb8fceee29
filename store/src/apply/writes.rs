//! Applying writes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use holdfast_common::proto::kv::{self, Condition, Mutation, WriteOutcome};
use holdfast_common::range::Descriptor;
use holdfast_common::revision::Revision;

use super::{Answer, Applied, ApplyError, Reads, WriteAnswers};
use crate::command::Write;
use crate::engine::{Batch, KeyHash};
use crate::keys;
use crate::record::{Header, MAX_HEADER_BYTES};
use crate::sessions::{Admission, WriteName};
use crate::state::{Merge, RangeState};

/// Applies the writes of the entry at `index`.
pub(super) fn apply(
    state: &mut RangeState,
    index: u64,
    stamp: Revision,
    writes: &[Write],
    reads: &impl Reads,
) -> Result<Applied, ApplyError> {
    let next = state.last_revision.advance_to(stamp);
    let mut entry = Entry {
        index,
        now_ms: next.millis(),
        next,
        rows: Rows::for_writes(writes),
        forgotten: Vec::new(),
        descriptor: state.descriptor.clone(),
    };
    let mut answers = WriteAnswers::with_capacity(writes.len());
    for write in writes {
        answers.push(entry.write(state, write, reads)?);
    }
    // The entry's time has passed even if it changed nothing: what has expired for it stays expired.
    state.last_revision = state.last_revision.max(next);

    let mut rows = entry.rows.into_batch();
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

/// The entry under way.
struct Entry<'a> {
    index: u64,
    /// The moment of all its writes: expiry is decided by it, never by a replica's clock.
    now_ms: u64,
    /// The revision of its next write that changes something.
    next: Revision,
    rows: Rows<'a>,
    /// Entries whose outcomes are all forgotten.
    forgotten: Vec<u64>,
    descriptor: Arc<Descriptor>,
}

/// The record that a write meets, unless it has expired.
struct Current<'r> {
    header: Header,
    value: &'r [u8],
}

impl<'a> Entry<'a> {
    fn write(
        &mut self,
        state: &mut RangeState,
        write: &'a Write,
        reads: &impl Reads,
    ) -> Result<Result<WriteOutcome, kv::Error>, ApplyError> {
        if !self.descriptor.span.contains(write.key.as_ref()) {
            return Ok(Err(kv::Error::StaleEpoch {
                current: vec![Descriptor::clone(&self.descriptor)],
            }));
        }
        if state.merge != Merge::No {
            return Ok(Err(kv::Error::NotReady("the range is being merged".to_owned())));
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
            Admission::Repeated(outcome) => return Ok(Ok(outcome)),
            Admission::Retired => return Ok(Err(kv::Error::Retired)),
            Admission::New => {}
        }
        let outcome = self.decide(state, write, reads)?;
        state
            .sessions
            .remember(name, self.index, outcome, &mut self.forgotten);
        Ok(Ok(outcome))
    }

    fn decide(
        &mut self,
        state: &mut RangeState,
        write: &'a Write,
        reads: &impl Reads,
    ) -> Result<WriteOutcome, ApplyError> {
        let stored = self.rows.current(&write.key, reads)?;
        let live = match &stored {
            Some(stored) => {
                let (header, header_len) = Header::read(stored)?;
                (!header.is_expired(self.now_ms)).then_some(Current {
                    header,
                    value: &stored[header_len..],
                })
            }
            None => None,
        };
        if !holds(&write.condition, live.as_ref()) {
            return Ok(WriteOutcome::ConditionFailed(
                live.map(|current| current.header.revision),
            ));
        }
        let key_len = write.key.as_bytes().len() as u64;
        if let Some(stored) = &stored {
            state.size_bytes = state.size_bytes.saturating_sub(key_len + stored.len() as u64);
            state.keys = state.keys.saturating_sub(1);
        }
        match &write.mutation {
            Mutation::Put { value, ttl_ms } => {
                let revision = self.give_revision(state);
                let expires_ms = if *ttl_ms == 0 {
                    0
                } else {
                    self.now_ms.saturating_add(*ttl_ms)
                };
                let length = self.rows.put(&write.key, Header { revision, expires_ms }, value);
                state.size_bytes += key_len + length as u64;
                state.keys += 1;
                Ok(if live.is_some() {
                    WriteOutcome::Replaced(revision)
                } else {
                    WriteOutcome::Created(revision)
                })
            }
            Mutation::Delete => {
                if stored.is_some() {
                    self.rows.delete(&write.key);
                }
                // An expired record is removed all the same, but to the writer there was none.
                Ok(if live.is_some() {
                    WriteOutcome::Deleted(self.give_revision(state))
                } else {
                    WriteOutcome::WasAbsent
                })
            }
        }
    }

    fn give_revision(&mut self, state: &mut RangeState) -> Revision {
        let revision = self.next;
        self.next = revision.next();
        state.last_revision = revision;
        revision
    }
}

fn holds(condition: &Condition, current: Option<&Current<'_>>) -> bool {
    match condition {
        Condition::None => true,
        Condition::Absent => current.is_none(),
        Condition::Exists => current.is_some(),
        Condition::Revision(revision) => current.is_some_and(|current| current.header.revision == *revision),
        Condition::Value(value) => current.is_some_and(|current| current.value == value),
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
        let memory = writes.iter().map(|write| {
            let value = if let Mutation::Put { value, .. } = &write.mutation {
                value.len()
            } else {
                0
            };
            1 + write.key.as_bytes().len() + MAX_HEADER_BYTES + value
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
