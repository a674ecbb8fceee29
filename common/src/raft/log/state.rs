//! What a group's log is, in memory: its bounds, its vote, its newest entries. No IO here: operations change the state at
//! once and hand back the rows that make the change last.
//!
//! The entries are those with indices `first..=last`, consecutive. Those below `stored` are in the database, those from
//! there on only in the cache.

use std::sync::Arc;

use bytes::Bytes;

use crate::raft::types::{Entry, LogId, Payload, Vote};

use super::LogBounds;
use super::cache::{Budget, Cache};
use super::database::{Row, Space};
use super::error::Error;
use super::keys::{self, ENTRY_KEY_BYTES, GroupId, GroupRow};
use super::records::{self, ENTRY_HEADER_BYTES};
use super::sweep::Sweep;

/// A group's log.
#[derive(Debug)]
pub(super) struct State {
    group: GroupId,
    pub(super) vote: Option<Vote>,
    pub(super) purged: Option<LogId>,
    /// The last entry, or what was purged last when there is none.
    pub(super) last: Option<LogId>,
    /// Index of the oldest entry, when there is one.
    pub(super) first: Option<u64>,
    pub(super) cache: Cache,
    stored: u64,
    /// Counts truncations: what was read or stored before one may no longer be the log.
    epoch: u64,
    /// Whether the database knows the group at all.
    is_born: bool,
    /// Whether the group is being destroyed.
    pub(super) is_dropped: bool,
}

/// See [`State::tenure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tenure {
    pub(super) epoch: u64,
    first: Option<u64>,
}

/// Rows of an append.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) rows: Vec<Row>,
    pub(super) entries: usize,
    pub(super) stored: Stored,
}

/// What is in the database once an append has been committed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    epoch: u64,
    next: u64,
}

/// Rows of a purge, and the entries to be deleted behind it.
#[derive(Debug)]
pub(super) struct Purged {
    pub(super) rows: Vec<Row>,
    pub(super) sweep: Sweep,
}

impl State {
    /// A group that the database has never heard of. It begins behind `origin`.
    pub(super) fn unborn(group: GroupId, origin: Option<LogId>, budget: Arc<Budget>) -> Self {
        Self::stored(group, None, origin, None, budget).with_birth_pending()
    }

    /// A group as the database has it: `span` is the index of its oldest entry and the id of its newest.
    pub(super) fn stored(
        group: GroupId,
        vote: Option<Vote>,
        purged: Option<LogId>,
        span: Option<(u64, LogId)>,
        budget: Arc<Budget>,
    ) -> Self {
        let last = span.map_or(purged, |(_, last)| Some(last));
        Self {
            group,
            vote,
            purged,
            last,
            first: span.map(|(first, _)| first),
            cache: Cache::new(budget),
            stored: last.map_or(0, |last| last.index + 1),
            epoch: 0,
            is_born: true,
            is_dropped: false,
        }
    }

    fn with_birth_pending(mut self) -> Self {
        self.is_born = false;
        self
    }

    pub(super) fn bounds(&self) -> LogBounds {
        LogBounds {
            purged: self.purged,
            last: self.last,
            vote: self.vote,
        }
    }

    /// Stays the same for as long as entries below [`State::end`] that could be read can still be read.
    pub(super) fn tenure(&self) -> Tenure {
        Tenure {
            epoch: self.epoch,
            first: self.first,
        }
    }

    /// Index behind the last entry.
    pub(super) fn end(&self) -> u64 {
        self.last.map_or(0, |last| last.index + 1)
    }

    /// Appends entries. Their rows and their cached commands share one allocation.
    pub(super) fn append(&mut self, entries: Vec<Entry>) -> Result<Appended, Error> {
        self.check_order(&entries)?;
        let mut block = Vec::with_capacity(
            entries
                .iter()
                .map(|e| ENTRY_KEY_BYTES + records::entry_bytes(e))
                .sum(),
        );
        for entry in &entries {
            block.extend_from_slice(&keys::entry(self.group, entry.log_id.index));
            records::encode_entry(entry, &mut block);
        }
        let mut block = Bytes::from(block);
        let count = entries.len();
        let mut rows = Vec::with_capacity(count + 1);
        rows.extend(self.birth());
        for mut entry in entries {
            let key = block.split_to(ENTRY_KEY_BYTES);
            let value = block.split_to(records::entry_bytes(&entry));
            if let Payload::Normal(command) = &mut entry.payload {
                command.0 = value.slice(ENTRY_HEADER_BYTES..);
            }
            rows.push(Row {
                space: Space::Log,
                key,
                value: Some(value),
            });
            self.first.get_or_insert(entry.log_id.index);
            self.last = Some(entry.log_id);
            self.cache.push(entry);
        }
        Ok(Appended {
            rows,
            entries: count,
            stored: Stored {
                epoch: self.epoch,
                next: self.end(),
            },
        })
    }

    /// Only the very first entry of a log may have any index.
    fn check_order(&self, entries: &[Entry]) -> Result<(), Error> {
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let expected = self.last.map_or(first.log_id.index, |last| last.index + 1);
        match entries
            .iter()
            .zip(expected..)
            .find(|(entry, expected)| entry.log_id.index != *expected)
        {
            None => Ok(()),
            Some((entry, expected)) => Err(Error::OutOfOrder {
                group: self.group,
                last: expected.checked_sub(1),
                index: entry.log_id.index,
            }),
        }
    }

    /// Notes that an append has been committed, and lets go of what need not be cached any longer.
    pub(super) fn entries_stored(&mut self, stored: Stored) {
        if stored.epoch == self.epoch {
            self.stored = self.stored.max(stored.next);
        }
        self.cache.evict(self.stored);
    }

    /// Rows that save a vote. [`State::vote`] is for the caller to change when they are durable.
    pub(super) fn save_vote(&mut self, vote: &Vote) -> Vec<Row> {
        let row = Row::raft(
            &keys::group_row(self.group, GroupRow::Vote),
            Some(records::encode_vote(vote)),
        );
        self.birth().into_iter().chain([row]).collect()
    }

    /// Removes the entries behind `after`, all of them if it is none. No rows when there are no such entries.
    pub(super) fn truncate_after(&mut self, after: Option<LogId>) -> Vec<Row> {
        let (Some(first), end) = (self.first, self.end()) else {
            return Vec::new();
        };
        let from = after
            .map_or(first, |after| after.index.saturating_add(1))
            .max(first);
        if from >= end {
            return Vec::new();
        }
        if from == first {
            self.first = None;
            self.last = self.purged;
        } else {
            self.last = after;
        }
        self.cache.truncate_from(from);
        self.stored = self.stored.min(from);
        self.epoch += 1;
        (from..end)
            .map(|index| Row::no_entry(self.group, index))
            .collect()
    }

    /// Removes the entries up to `upto`, inclusive, whether there are that many or not. None when that was done before.
    pub(super) fn purge(&mut self, upto: LogId) -> Option<Purged> {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return None;
        }
        let (next, last) = match self.first {
            Some(first) => (first, upto.index.min(self.end() - 1)),
            None => (1, 0),
        };
        self.purged = Some(upto);
        if self.end() > upto.index.saturating_add(1) {
            self.first = self.first.map(|first| first.max(upto.index + 1));
        } else {
            self.first = None;
            self.last = Some(upto);
        }
        self.cache.purge_to(upto.index);
        self.stored = self.stored.max(upto.index.saturating_add(1));
        self.is_born = true;
        let row = Row::raft(
            &keys::group_row(self.group, GroupRow::Purged),
            Some(records::encode_purged(self.purged)),
        );
        Some(Purged {
            rows: vec![row],
            sweep: Sweep {
                group: self.group,
                next,
                last,
                purged: upto.index,
            },
        })
    }

    /// The row with which a group enters the database, in the same batch as whatever is stored first: where it begins.
    fn birth(&mut self) -> Option<Row> {
        let is_first = !std::mem::replace(&mut self.is_born, true);
        let key = keys::group_row(self.group, GroupRow::Purged);
        is_first.then(|| Row::raft(&key, Some(records::encode_purged(self.purged))))
    }
}

#[cfg(test)]
#[path = "state_test.rs"]
mod state_test;
