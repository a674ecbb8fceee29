//! Reads of a database that is fjall's or a simulated one.

use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::vec;

use bytes::Bytes;
use fjall::Readable as _;

use super::Keyspace;
use crate::simulation::volume::Rows;

/// A database at one moment.
#[derive(Clone)]
pub enum Snapshot {
    /// Fjall's.
    Real(fjall::Snapshot),
    /// A simulated one.
    Simulated(Arc<BTreeMap<String, Rows>>, u64),
}

/// Rows, in order from either end.
pub enum Iter {
    /// Fjall's.
    Real(fjall::Iter),
    /// A simulated one.
    Simulated(vec::IntoIter<(Bytes, Bytes)>),
}

/// A row.
pub enum Guard {
    /// Fjall's.
    Real(fjall::Guard),
    /// A simulated one.
    Simulated(Bytes, Bytes),
}

/// Reads of a moment.
pub trait Readable {
    /// The value of a key.
    ///
    /// # Errors
    /// The disk's.
    fn get(&self, keyspace: &Keyspace, key: &[u8]) -> fjall::Result<Option<fjall::UserValue>>;

    /// Rows by key.
    fn range<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> Iter;

    /// Rows whose keys begin so.
    fn prefix(&self, keyspace: &Keyspace, prefix: &[u8]) -> Iter;
}

impl Readable for Snapshot {
    fn get(&self, keyspace: &Keyspace, key: &[u8]) -> fjall::Result<Option<fjall::UserValue>> {
        match (self, keyspace) {
            (Self::Real(snapshot), Keyspace::Real(keyspace)) => snapshot.get(keyspace, key),
            (Self::Simulated(all, _), Keyspace::Simulated(_, name)) => Ok(all
                .get(name)
                .and_then(|rows| rows.get(key))
                .cloned()
                .map(Into::into)),
            _ => Ok(None),
        }
    }

    fn range<K: AsRef<[u8]>>(&self, keyspace: &Keyspace, range: impl RangeBounds<K>) -> Iter {
        match (self, keyspace) {
            (Self::Real(snapshot), Keyspace::Real(keyspace)) => Iter::Real(snapshot.range(keyspace, range)),
            (Self::Simulated(all, _), Keyspace::Simulated(_, name)) => {
                all.get(name).map_or_else(nothing, |rows| within(rows, &range))
            }
            _ => nothing(),
        }
    }

    fn prefix(&self, keyspace: &Keyspace, prefix: &[u8]) -> Iter {
        match (self, keyspace) {
            (Self::Real(snapshot), Keyspace::Real(keyspace)) => Iter::Real(snapshot.prefix(keyspace, prefix)),
            (Self::Simulated(all, _), Keyspace::Simulated(_, name)) => {
                let rows = all.get(name).cloned().unwrap_or_default();
                let found = rows.range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded));
                collected(found.take_while(|(key, _)| key.starts_with(prefix)))
            }
            _ => nothing(),
        }
    }
}

impl Snapshot {
    /// The sequence number of its moment.
    pub fn seqno(&self) -> u64 {
        match self {
            Self::Real(snapshot) => snapshot.seqno(),
            Self::Simulated(_, seqno) => *seqno,
        }
    }
}

impl Iterator for Iter {
    type Item = Guard;

    fn next(&mut self) -> Option<Guard> {
        match self {
            Self::Real(rows) => rows.next().map(Guard::Real),
            Self::Simulated(rows) => rows.next().map(|(key, value)| Guard::Simulated(key, value)),
        }
    }
}

impl DoubleEndedIterator for Iter {
    fn next_back(&mut self) -> Option<Guard> {
        match self {
            Self::Real(rows) => rows.next_back().map(Guard::Real),
            Self::Simulated(rows) => rows.next_back().map(|(key, value)| Guard::Simulated(key, value)),
        }
    }
}

impl Guard {
    /// Its key.
    ///
    /// # Errors
    /// The disk's.
    pub fn key(self) -> fjall::Result<fjall::UserKey> {
        match self {
            Self::Real(guard) => guard.key(),
            Self::Simulated(key, _) => Ok(key.into()),
        }
    }

    /// Its key and its value.
    ///
    /// # Errors
    /// The disk's.
    pub fn into_inner(self) -> fjall::Result<fjall::KvPair> {
        match self {
            Self::Real(guard) => guard.into_inner(),
            Self::Simulated(key, value) => Ok((key.into(), value.into())),
        }
    }
}

pub(super) fn within<K: AsRef<[u8]>>(rows: &Rows, range: &impl RangeBounds<K>) -> Iter {
    let bounds = (
        range.start_bound().map(AsRef::as_ref),
        range.end_bound().map(AsRef::as_ref),
    );
    let (Bound::Included(start) | Bound::Excluded(start), Bound::Included(end) | Bound::Excluded(end)) =
        bounds
    else {
        return collected(rows.range::<[u8], _>(bounds));
    };
    // What a map panics at, and fjall answers with nothing.
    if start >= end && !matches!(bounds, (Bound::Included(a), Bound::Included(b)) if a == b) {
        return nothing();
    }
    collected(rows.range::<[u8], _>(bounds))
}

fn collected<'a>(rows: impl Iterator<Item = (&'a Bytes, &'a Bytes)>) -> Iter {
    let rows: Vec<_> = rows.map(|(key, value)| (key.clone(), value.clone())).collect();
    Iter::Simulated(rows.into_iter())
}

fn nothing() -> Iter {
    Iter::Simulated(Vec::new().into_iter())
}
