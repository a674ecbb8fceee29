//! Reads entries back: the newest from memory, the rest from the database.

use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use futures::Stream;
use openraft::errors::LeaderChanged;
use openraft::storage::LeaderBoundedStreamError;

use crate::raft::types::{Entry, LeaderId, TypeConfig, Vote};

use super::error::Error;
use super::group::{Group, GroupLog, MAX_READ_BYTES};
use super::records;
use super::state::State;

/// A read under way. The lock on the state is let go while the database is read, so each step starts from what the state
/// says now: a truncation starts the read over, a purge lets it begin later.
struct Read {
    range: Range<u64>,
    epoch: Option<u64>,
    entries: Vec<Entry>,
    /// Bytes that may still be read; the entry that uses them up is the last.
    left: usize,
    budget: usize,
}

/// What is to be read from the database next, as first and last index.
type FromDisk = (u64, u64);

impl Group {
    /// The entries of a range that the log has, consecutive, up to `budget` bytes but at least one.
    pub(super) fn read(&self, range: Range<u64>, budget: usize) -> Result<Vec<Entry>, Error> {
        let mut read = Read {
            range,
            epoch: None,
            entries: Vec::new(),
            left: budget,
            budget,
        };
        loop {
            let (wanted, tenure) = {
                let state = self.state.lock();
                self.check(&state)?;
                (read.step(&state), state.tenure())
            };
            let Some(wanted) = wanted else {
                return Ok(read.entries);
            };
            let all_there = self
                .read_from_disk(wanted, &mut read)
                .map_err(|error| self.fail(error))?;
            if !all_there && self.state.lock().tenure() == tenure {
                let what = format!("entry {} is missing", read.next().unwrap_or(wanted.0));
                return Err(self.fail(Error::Corrupt { group: self.id, what }));
            }
        }
    }

    /// Reads consecutive entries until one is missing or the budget is used up. Whether all were there that were read for.
    fn read_from_disk(&self, (first, last): FromDisk, read: &mut Read) -> Result<bool, Error> {
        for (row, expected) in self.shared.database.entries(self.id, first, last).zip(first..) {
            let (index, value) = row?;
            if index != expected {
                return Ok(false);
            }
            let entry = records::decode_entry(index, &value).map_err(|e| Error::Corrupt {
                group: self.id,
                what: format!("entry {index} is {e}"),
            })?;
            read.push(entry);
            if read.left == 0 {
                return Ok(true);
            }
        }
        Ok(read.next() == Some(last + 1))
    }

    /// What can't be read is as fatal as what can't be written.
    fn fail(&self, error: Error) -> Error {
        self.shared.health.fail(error.clone());
        error
    }
}

impl Read {
    /// Takes what the cache has and says what to get from the database before the next step; none when the read is done.
    fn step(&mut self, state: &State) -> Option<FromDisk> {
        let first = state.first.unwrap_or(u64::MAX);
        let epoch = Some(state.tenure().epoch);
        let was_overtaken = self.next().is_some_and(|next| next < first);
        if self.epoch != epoch || was_overtaken {
            self.epoch = epoch;
            self.entries.clear();
            self.left = self.budget;
        }
        let next = self.next().unwrap_or(self.range.start.max(first));
        let end = self.range.end.min(state.end());
        if next >= end || self.left == 0 {
            return None;
        }
        let cached = state.cache.first().unwrap_or(end).min(end);
        if next < cached {
            return Some((next, cached - 1));
        }
        for entry in state.cache.range(next..end) {
            if self.left == 0 {
                break;
            }
            self.push(entry.clone());
        }
        None
    }

    fn push(&mut self, entry: Entry) {
        self.left = self.left.saturating_sub(records::entry_bytes(&entry));
        self.entries.push(entry);
    }

    /// Index behind what has been read.
    fn next(&self) -> Option<u64> {
        self.entries.last().map(|entry| entry.log_id.index + 1)
    }
}

/// A range of entries, read a limited number of bytes at a time, so that a long range is never in memory as a whole.
pub(super) struct EntryStream<L> {
    log: GroupLog,
    range: Range<u64>,
    /// What has been read and not yet been handed out.
    entries: vec::IntoIter<Entry>,
    leader: L,
}

/// No leader to watch.
pub(super) struct AnyLeader;

impl EntryStream<AnyLeader> {
    pub(super) fn new(log: GroupLog, range: Range<u64>) -> Self {
        Self {
            log,
            range,
            entries: Vec::new().into_iter(),
            leader: AnyLeader,
        }
    }
}

impl EntryStream<LeaderId> {
    /// Ends with an error as soon as somebody else than `leader` leads.
    pub(super) fn bounded_by(log: GroupLog, range: Range<u64>, leader: LeaderId) -> Self {
        Self {
            log,
            range,
            entries: Vec::new().into_iter(),
            leader,
        }
    }

    fn check_leader(&self) -> Result<(), LeaderChanged<TypeConfig>> {
        let vote = self.log.group.state.lock().vote;
        match vote {
            Some(Vote {
                leader_id,
                committed: true,
            }) if leader_id == self.leader => Ok(()),
            _ => Err(LeaderChanged {
                expected_leader: self.leader,
                current_vote: vote,
            }),
        }
    }
}

impl<L> EntryStream<L> {
    /// The next entry that has been read already.
    fn pop(&mut self) -> Option<Entry> {
        let entry = self.entries.next()?;
        self.range.start = entry.log_id.index + 1;
        Some(entry)
    }

    fn refill(&mut self) -> Result<(), Error> {
        self.entries = self
            .log
            .group
            .read(self.range.clone(), MAX_READ_BYTES)?
            .into_iter();
        Ok(())
    }

    /// Nothing follows.
    fn end(&mut self) {
        self.range.start = self.range.end;
    }

    fn is_over(&self) -> bool {
        self.range.is_empty()
    }
}

impl<L: Unpin> EntryStream<L> {
    /// Hands out one entry, or what `refill` says when there is none left.
    fn advance<E>(&mut self, refill: impl FnOnce(&mut Self) -> Result<(), E>) -> Option<Result<Entry, E>> {
        if self.entries.as_slice().is_empty() {
            if self.is_over() {
                return None;
            }
            if let Err(error) = refill(self) {
                self.end();
                return Some(Err(error));
            }
        }
        let entry = self.pop();
        if entry.is_none() {
            self.end();
        }
        entry.map(Ok)
    }
}

impl Stream for EntryStream<AnyLeader> {
    type Item = Result<Entry, io::Error>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.get_mut().advance(|stream| Ok(stream.refill()?)))
    }
}

impl Stream for EntryStream<LeaderId> {
    type Item = Result<Entry, LeaderBoundedStreamError<TypeConfig>>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.get_mut().advance(|stream| {
            stream.check_leader()?;
            stream
                .refill()
                .map_err(|error| LeaderBoundedStreamError::IoError(error.into()))?;
            // Entries that were read under another leader may have been replaced between the two looks.
            stream.check_leader()?;
            Ok(())
        }))
    }
}
