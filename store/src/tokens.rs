//! Idempotency keys: what clients' names for writes stand for, remembered in the replicated state for a while.
//!
//! A router numbers its writes ([`crate::sessions`]), so that *it* can send one twice. A client that repeats a request does
//! so by another router, or minutes later, and names it itself: by a token. The first write under a token is applied, and
//! its outcome remembered with a fingerprint of what it asked for. A repetition is answered with that outcome and changes
//! nothing; another write under the same token is refused.
//!
//! A token belongs to the key that the write is about. Its row lies in the order of user keys beside the records
//! ([`keys::token`]), so a split or a merge moves no row, and a snapshot takes those of its span. Every decision derives
//! from entries alone; what is rebuilt from the rows equals what was in memory.
//!
//! Bounds, for each range: [`MAX_TOKENS`] tokens and [`MAX_BYTES`]. Beyond them the ones that would be forgotten first are
//! forgotten early, but none before [`LEAST_MS`]; rather is a new write turned away. A client that writes a lot numbers its
//! tokens and says which are done ([`numbered`]): then only those under way are remembered.

mod numbered;

use std::collections::{BTreeMap, BTreeSet};

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_common::proto::kv::{Once, WriteOutcome};

use crate::codec::Reader;
use crate::damage::Damage;
use crate::engine::Batch;
use crate::keys;
use crate::sessions::{outcome_code, outcome_of};
use numbered::Clients;

/// Most tokens that a range remembers.
pub const MAX_TOKENS: usize = 32_768;
/// Most bytes that they take, about.
pub const MAX_BYTES: usize = 12 << 20;
/// A token is remembered for so long, or for its window if that is shorter, whatever else comes; milliseconds.
pub const LEAST_MS: u64 = 120_000;

/// Tokens that one entry forgets because their window has passed.
const MAX_FORGOTTEN: usize = 256;
/// Tokens that one write forgets because their client is done with them.
const MAX_DONE: usize = 256;
/// What a token takes beside its bytes and those of its key.
const OVERHEAD_BYTES: usize = 280;

const ROW_VERSION: u8 = 1;
/// Of a row that says below which number its client is done.
const NUMBERED_ROW_VERSION: u8 = 2;
const WHAT: &str = "token row";

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    known: BTreeMap<Name, Remembered>,
    /// By when they are forgotten.
    by_end: BTreeSet<(u64, Name)>,
    clients: Clients,
    bytes: usize,
}

/// A token, and the user key that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    key: Bytes,
    token: Bytes,
}

impl Name {
    fn cost(&self) -> usize {
        self.key.len() + self.token.len() + OVERHEAD_BYTES
    }

    fn row(&self) -> Bytes {
        keys::token(&self.key, &self.token)
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Remembered {
    fingerprint: u128,
    /// When it was applied, milliseconds, by the range's revisions.
    since_ms: u64,
    /// From when on it may be forgotten, milliseconds.
    until_ms: u64,
    /// Below which number its client was done by then; 0 when it did not say.
    done: u64,
    outcome: WriteOutcome,
}

/// What may be done with a write that has a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Apply it and remember the outcome.
    New,
    /// It was applied, with this outcome.
    Repeated(WriteOutcome),
    /// The token stands for another write, or its client has said that it will not be sent again.
    Reused,
    /// Nothing may be forgotten for it yet.
    Full,
}

impl PartialEq for Tokens {
    /// The rest is derived.
    fn eq(&self, other: &Self) -> bool {
        self.known == other.known
    }
}

impl Tokens {
    /// Forgets what need not be remembered any more at `now_ms`, some of it if that is much.
    pub fn expire(&mut self, now_ms: u64, rows: &mut Batch) {
        for _ in 0..MAX_FORGOTTEN {
            match self.by_end.first() {
                Some((until_ms, _)) if *until_ms <= now_ms => self.forget_first(rows),
                _ => return,
            }
        }
    }

    /// Decides about a write of `key` under a token, and makes room for it if it is new.
    pub fn admit(
        &mut self,
        key: &[u8],
        once: &Once,
        fingerprint: u128,
        now_ms: u64,
        rows: &mut Batch,
    ) -> Admission {
        let name = name(key, &once.token);
        match self.known.get(&name) {
            Some(known) if known.until_ms <= now_ms => self.forget(&name, rows),
            Some(known) if known.fingerprint == fingerprint => {
                return Admission::Repeated(known.outcome.clone());
            }
            Some(_) => return Admission::Reused,
            None if self.clients.is_done(&name.token) => return Admission::Reused,
            None => {}
        }
        while self.known.len() >= MAX_TOKENS || self.bytes + name.cost() > MAX_BYTES {
            let first = self.by_end.first().and_then(|(_, first)| self.known.get(first));
            match first {
                Some(first) if now_ms >= first.until_ms.min(first.since_ms.saturating_add(LEAST_MS)) => {
                    self.forget_first(rows);
                }
                _ => return Admission::Full,
            }
        }
        Admission::New
    }

    /// Remembers the outcome of a write that [`Self::admit`] found new.
    pub fn remember(
        &mut self,
        key: &[u8],
        once: &Once,
        fingerprint: u128,
        now_ms: u64,
        outcome: &WriteOutcome,
        rows: &mut Batch,
    ) {
        let (kind, revision) = outcome_code(outcome);
        let remembered = Remembered {
            fingerprint,
            since_ms: now_ms,
            until_ms: now_ms.saturating_add(once.window_ms.max(1)),
            done: numbered::number(&once.token).map_or(0, |number| once.done.min(number)),
            // Of a transaction, what is read back from the row: not what it read.
            outcome: outcome_of(kind, revision).unwrap_or_else(|| outcome.clone()),
        };
        let name = name(key, &once.token);
        rows.put(name.row(), encode(&remembered));
        let done = remembered.done;
        self.insert(name, remembered);
        for _ in 0..MAX_DONE {
            match self.clients.first_below(&once.token, done).cloned() {
                Some(finished) => self.forget(&finished, rows),
                None => return,
            }
        }
    }

    /// Takes out those of the keys from `at` on: they belong to the right part of a split. What clients are done with, both
    /// parts know; `start` is the first key of the left one.
    #[must_use]
    pub fn split_off(&mut self, start: &[u8], at: &[u8], rows: &mut Batch) -> Self {
        let whole = std::mem::take(self);
        let mut left = whole.known.clone();
        let right = left.split_off(&name(at, &[]));
        *self = Self::of(left);
        let mut right = Self::of(right);
        for (prefix, floor, names) in whole.clients.floors() {
            let says = names.filter_map(|name| whole.known.get(name));
            let Some(last) = says
                .filter(|row| row.done == floor)
                .max_by_key(|row| row.until_ms)
            else {
                continue;
            };
            for (part, first) in [(&mut *self, start), (&mut right, at)] {
                if part.clients.floor(prefix) < floor {
                    let name = name(first, &numbered::marker(prefix, floor));
                    let marker = Remembered {
                        fingerprint: 0,
                        outcome: WriteOutcome::WasAbsent,
                        ..last.clone()
                    };
                    rows.put(name.row(), encode(&marker));
                    part.insert(name, marker);
                }
            }
        }
        right
    }

    /// Takes over those of a range that this one merges with. There may be more than the bounds allow; what is too much goes
    /// as new ones come.
    pub fn absorb(&mut self, other: Self) {
        for (name, remembered) in other.known {
            self.insert(name, remembered);
        }
    }

    /// Rebuilds the state from its rows.
    ///
    /// # Errors
    /// A row does not decode.
    pub fn rebuild(rows: impl IntoIterator<Item = (Bytes, Bytes)>) -> Result<Self, Damage> {
        let mut tokens = Self::default();
        for (key, row) in rows {
            let (key, token) = keys::token_of_row(&key).ok_or_else(|| Damage::new(WHAT, "not its key"))?;
            tokens.insert(Name { key, token }, decode(row)?);
        }
        Ok(tokens)
    }

    /// What holds of every table, of a range with this span.
    pub fn validate(&self, span: &holdfast_common::key::Span) -> Result<(), String> {
        if let Some(name) = self.known.keys().find(|name| !span.contains(&name.key)) {
            return Err(format!("a token of a key outside the range: {name:?}"));
        }
        if self.by_end.len() != self.known.len() {
            return Err("tokens are miscounted".into());
        }
        let mut fresh = Clients::default();
        for (name, remembered) in &self.known {
            fresh.insert(name, remembered.done);
        }
        if fresh != self.clients {
            return Err("what clients are done with is miscounted".into());
        }
        Ok(())
    }

    fn of(known: BTreeMap<Name, Remembered>) -> Self {
        let mut tokens = Self::default();
        for (name, remembered) in known {
            tokens.insert(name, remembered);
        }
        tokens
    }

    /// In place of one of the same name, if there is one.
    fn insert(&mut self, name: Name, remembered: Remembered) {
        self.take(&name);
        self.by_end.insert((remembered.until_ms, name.clone()));
        self.clients.insert(&name, remembered.done);
        self.bytes += name.cost();
        self.known.insert(name, remembered);
    }

    /// Whether it was known.
    fn take(&mut self, name: &Name) -> bool {
        let Some(known) = self.known.remove(name) else {
            return false;
        };
        self.by_end.remove(&(known.until_ms, name.clone()));
        self.clients.remove(name, known.done);
        self.bytes -= name.cost();
        true
    }

    fn forget_first(&mut self, rows: &mut Batch) {
        if let Some((_, name)) = self.by_end.first().cloned() {
            self.forget(&name, rows);
        }
    }

    fn forget(&mut self, name: &Name, rows: &mut Batch) {
        if self.take(name) {
            rows.delete(name.row());
        }
    }
}

/// A copy: the bytes given are part of a whole entry.
fn name(key: &[u8], token: &[u8]) -> Name {
    Name {
        key: Bytes::copy_from_slice(key),
        token: Bytes::copy_from_slice(token),
    }
}

fn encode(remembered: &Remembered) -> Bytes {
    let (kind, revision) = outcome_code(&remembered.outcome);
    let mut row = BytesMut::with_capacity(50);
    row.put_u8(if remembered.done > 0 {
        NUMBERED_ROW_VERSION
    } else {
        ROW_VERSION
    });
    row.put_u128_le(remembered.fingerprint);
    row.put_u64_le(remembered.since_ms);
    row.put_u64_le(remembered.until_ms);
    row.put_u8(kind);
    row.put_u64_le(revision.0);
    if remembered.done > 0 {
        row.put_u64_le(remembered.done);
    }
    row.freeze()
}

fn decode(row: Bytes) -> Result<Remembered, Damage> {
    let mut reader = Reader::new(row, WHAT);
    let version = reader.u8()?;
    if !(ROW_VERSION..=NUMBERED_ROW_VERSION).contains(&version) {
        let known = format!("{ROW_VERSION} to {NUMBERED_ROW_VERSION}");
        return Err(reader.damage(format!("version {version}, this build reads {known}")));
    }
    let (low, high) = (reader.u64()?, reader.u64()?);
    let (since_ms, until_ms) = (reader.u64()?, reader.u64()?);
    let (kind, revision) = (reader.u8()?, holdfast_common::revision::Revision(reader.u64()?));
    let outcome = outcome_of(kind, revision).ok_or_else(|| reader.damage(format!("outcome {kind}")))?;
    let done = if version == NUMBERED_ROW_VERSION {
        reader.u64()?
    } else {
        0
    };
    if version == NUMBERED_ROW_VERSION && done == 0 {
        return Err(reader.damage("done with nothing, and says so"));
    }
    reader.end()?;
    Ok(Remembered {
        done,
        fingerprint: u128::from(high) << 64 | u128::from(low),
        since_ms,
        until_ms,
        outcome,
    })
}

#[cfg(test)]
#[path = "tokens_test.rs"]
mod tests;
