//! Views: the database at one moment.

use std::fmt;

use bytes::Bytes;
use holdfast_common::raft::lsm::{self, Keyspace, Readable as _, Snapshot};
use tokio::sync::watch;

use super::error::Error;
use crate::keys::Interval;

/// The database at one moment: whole batches, and every batch that was written before the view was asked for.
///
/// A view pins the memory and the tables of its moment, so hold it for seconds at most and never across the network.
#[derive(Clone)]
pub struct View {
    snapshot: Snapshot,
    data: Keyspace,
    failure: watch::Sender<Option<Error>>,
}

impl View {
    pub(super) fn new(snapshot: Snapshot, data: Keyspace, failure: watch::Sender<Option<Error>>) -> Self {
        Self {
            snapshot,
            data,
            failure,
        }
    }

    /// The value under `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let stored = self.snapshot.get(&self.data, key);
        let stored = stored.map_err(|error| super::note(&self.failure, error.into()))?;
        Ok(stored.map(Bytes::from))
    }

    /// The rows of an interval, in order from either end.
    pub fn rows(&self, interval: &Interval) -> Rows {
        self.range(&interval.start, &interval.end)
    }

    /// The rows of `[start, end)`, in order from either end.
    pub fn range(&self, start: &[u8], end: &[u8]) -> Rows {
        // An iterator over an inverted interval panics deep inside the database.
        let end = if end < start { start } else { end };
        Rows {
            rows: self.snapshot.range(&self.data, start..end),
            failure: self.failure.clone(),
        }
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "View({})", self.snapshot.seqno())
    }
}

/// Rows of a view. It keeps what it iterates alive by itself.
pub struct Rows {
    rows: lsm::Iter,
    failure: watch::Sender<Option<Error>>,
}

impl Rows {
    fn read(&self, guard: lsm::Guard) -> Result<(Bytes, Bytes), Error> {
        let row = guard.into_inner();
        let (key, value) = row.map_err(|error| super::note(&self.failure, error.into()))?;
        Ok((key.into(), value.into()))
    }
}

impl Iterator for Rows {
    type Item = Result<(Bytes, Bytes), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?;
        Some(self.read(row))
    }
}

impl DoubleEndedIterator for Rows {
    fn next_back(&mut self) -> Option<Self::Item> {
        let row = self.rows.next_back()?;
        Some(self.read(row))
    }
}
