//! What a range holds in a view: everything that its entries have made, and nothing that is one replica's own.
//!
//! The rows are those of a snapshot, in its order: the range's row, the records, the outcomes, the tokens. Of the range's row
//! only the replica's id is not the same everywhere, so it counts as zero. Records that have expired count like others: they
//! go by entries alone.

use bytes::{BufMut, Bytes};
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::proto::check::Sum;
use holdfast_common::proto::raft::LogId;
use xxhash_rust::xxh3::Xxh3;

use crate::engine::{Error, View};
use crate::keys::{self, Interval};
use crate::row::RangeRow;

/// Why there is no sum.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    /// The rows can't be read.
    #[error(transparent)]
    Engine(#[from] Error),
    /// The range's row can't be used.
    #[error("{0}")]
    Row(String),
}

/// A sum that is being made, some rows at a time.
pub(super) struct Adder {
    view: View,
    sum: Sum,
    hash: Box<Xxh3>,
    /// What is left, the next last.
    left: Vec<Interval>,
}

impl Adder {
    /// Begins with the range's row.
    pub(super) fn new(view: View, range: RangeId) -> Result<Self, Failed> {
        let key = keys::range_row(range);
        let stored = view
            .get(&key)?
            .ok_or_else(|| Failed::Row("it has no data".to_owned()))?;
        let mut row = RangeRow::decode(stored).map_err(|damage| Failed::Row(damage.to_string()))?;
        let applied = row
            .applied
            .ok_or_else(|| Failed::Row("it has applied nothing".to_owned()))?;
        row.replica = ReplicaId::NONE;
        let mut adder = Self {
            view,
            sum: Sum {
                applied: LogId {
                    term: applied.leader_id.term,
                    index: applied.index,
                },
                epoch: row.descriptor(range).epoch,
                rows: 0,
                bytes: 0,
                checksum: 0,
            },
            hash: Box::new(Xxh3::new()),
            left: vec![
                keys::tokens(&row.span),
                keys::all_outcomes(range),
                keys::records(&row.span),
            ],
        };
        adder.add(&key, &row.encode());
        Ok(adder)
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.sum.bytes
    }

    /// Goes on for about `bytes`; the sum once everything is in it.
    pub(super) fn advance(&mut self, bytes: u64) -> Result<Option<Sum>, Failed> {
        let enough = self.sum.bytes.saturating_add(bytes);
        while let Some(interval) = self.left.pop() {
            let rows = self.view.rows(&interval);
            for row in rows {
                let (key, value) = row?;
                self.add(&key, &value);
                if self.sum.bytes >= enough {
                    self.left.push(behind(&key, interval));
                    return Ok(None);
                }
            }
        }
        self.sum.checksum = self.hash.digest128();
        Ok(Some(self.sum))
    }

    /// A row, with its lengths, so that no two sequences of rows look the same.
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.hash.update(&(key.len() as u64).to_le_bytes());
        self.hash.update(&(value.len() as u64).to_le_bytes());
        self.hash.update(key);
        self.hash.update(value);
        self.sum.rows += 1;
        self.sum.bytes += (key.len() + value.len()) as u64;
    }
}

/// What of an interval lies behind a key.
fn behind(key: &Bytes, interval: Interval) -> Interval {
    let mut start = Vec::with_capacity(key.len() + 1);
    start.put_slice(key);
    start.put_u8(0);
    Interval {
        start: start.into(),
        end: interval.end,
    }
}

#[cfg(test)]
#[path = "sum_test.rs"]
mod tests;
