//! A group's newest entries, in memory.
//!
//! Apply and replication read back what was just appended, so the tail of every log is kept; what is not yet in the
//! database is *only* here. Entries are consecutive, and their commands share the memory of the encoded rows, which the
//! database holds too.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::raft::types::Entry;

use super::records;

/// What an entry costs besides its encoded bytes.
const ENTRY_OVERHEAD_BYTES: usize = size_of::<Entry>() + 64;

/// How much all groups together keep.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicUsize,
    total: usize,
    per_group: usize,
}

impl Budget {
    /// `total` bytes over all groups, `per_group` for one.
    pub(super) fn new(total: usize, per_group: usize) -> Self {
        Self {
            used: AtomicUsize::new(0),
            total,
            per_group,
        }
    }

    /// What one group may keep now: next to nothing once the total is spent.
    fn allowance(&self) -> usize {
        if self.used.load(Ordering::Relaxed) > self.total {
            self.per_group / 64
        } else {
            self.per_group
        }
    }
}

/// The cached tail of one log.
#[derive(Debug)]
pub(super) struct Cache {
    entries: VecDeque<Entry>,
    bytes: usize,
    budget: Arc<Budget>,
}

impl Cache {
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            budget,
        }
    }

    /// Index of the oldest cached entry.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|entry| entry.log_id.index)
    }

    pub(super) fn push(&mut self, entry: Entry) {
        let cost = cost(&entry);
        self.bytes += cost;
        self.budget.used.fetch_add(cost, Ordering::Relaxed);
        self.entries.push_back(entry);
    }

    /// The cached entries with indices in `range`, oldest first.
    pub(super) fn range(&self, range: Range<u64>) -> impl Iterator<Item = &Entry> {
        let first = self.first().unwrap_or(0);
        let offset = |index: u64| {
            usize::try_from(index.saturating_sub(first))
                .unwrap_or(usize::MAX)
                .min(self.entries.len())
        };
        let (start, end) = (offset(range.start), offset(range.end));
        self.entries.range(start..end.max(start))
    }

    /// Forgets the entries from `index` on.
    pub(super) fn truncate_from(&mut self, index: u64) {
        while self
            .entries
            .back()
            .is_some_and(|entry| entry.log_id.index >= index)
        {
            let dropped = self.entries.pop_back();
            self.forget(dropped);
        }
    }

    /// Forgets the entries up to `index`, inclusive.
    pub(super) fn purge_to(&mut self, index: u64) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.log_id.index <= index)
        {
            let dropped = self.entries.pop_front();
            self.forget(dropped);
        }
    }

    /// Forgets the oldest entries while there are too many, but none from index `stored` on: the database doesn't have
    /// those yet.
    pub(super) fn evict(&mut self, stored: u64) {
        let allowance = self.budget.allowance();
        while self.bytes > allowance
            && self
                .entries
                .front()
                .is_some_and(|entry| entry.log_id.index < stored)
        {
            let dropped = self.entries.pop_front();
            self.forget(dropped);
        }
    }

    fn forget(&mut self, entry: Option<Entry>) {
        let cost = entry.as_ref().map_or(0, cost);
        self.bytes -= cost;
        self.budget.used.fetch_sub(cost, Ordering::Relaxed);
        if self.entries.is_empty() {
            // An idle group should not hold on to the capacity of its busiest moment.
            self.entries = VecDeque::new();
        }
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

fn cost(entry: &Entry) -> usize {
    ENTRY_OVERHEAD_BYTES + records::entry_bytes(entry)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::raft::types::{Command, Payload};

    fn entry(index: u64, bytes: usize) -> Entry {
        Entry {
            log_id: records::log_id(1, index),
            payload: Payload::Normal(Command(Bytes::from(vec![7; bytes]))),
        }
    }

    fn indices(cache: &Cache, range: Range<u64>) -> Vec<u64> {
        cache.range(range).map(|entry| entry.log_id.index).collect()
    }

    fn filled(total: usize, per_group: usize) -> (Arc<Budget>, Cache) {
        let budget = Arc::new(Budget::new(total, per_group));
        let mut cache = Cache::new(Arc::clone(&budget));
        (5..15).for_each(|index| cache.push(entry(index, 1000)));
        (budget, cache)
    }

    #[test]
    fn reads_what_it_has_of_a_range() {
        let (_, cache) = filled(1 << 20, 1 << 20);
        assert_eq!(indices(&cache, 0..7), [5, 6]);
        assert_eq!(indices(&cache, 13..99), [13, 14]);
        assert_eq!(indices(&cache, 20..30), [0; 0]);
        assert_eq!(indices(&cache, 0..0), [0; 0]);
    }

    #[test]
    fn truncates_and_purges_at_an_index() {
        let (budget, mut cache) = filled(1 << 20, 1 << 20);
        cache.truncate_from(12);
        cache.purge_to(7);
        assert_eq!(indices(&cache, 0..99), [8, 9, 10, 11]);
        cache.truncate_from(0);
        assert_eq!(cache.first(), None);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn evicts_the_oldest_down_to_its_allowance() {
        let (_, mut cache) = filled(1 << 20, 4000);
        cache.evict(15);
        assert_eq!(indices(&cache, 0..99), [12, 13, 14]);
    }

    #[test]
    fn never_evicts_what_is_stored_nowhere_else() {
        let (_, mut cache) = filled(1 << 20, 0);
        cache.evict(9);
        assert_eq!(cache.first(), Some(9));
    }

    #[test]
    fn shrinks_when_all_groups_together_hold_too_much() {
        let (budget, mut cache) = filled(20_000, 64_000);
        cache.evict(15);
        assert_eq!(cache.first(), Some(5), "the total is not spent yet");
        let mut other = Cache::new(Arc::clone(&budget));
        (0..20).for_each(|index| other.push(entry(index, 1000)));
        cache.evict(15);
        assert_eq!(cache.first(), None);
        drop(other);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
