//! The overlay: rows that are newer than the database's, and recent ones that are as new. Pure.
//!
//! A row enters when it is written and stays at least until it is committed. A committed record may stay on, as a cache of
//! what was written lately: it answers point reads, and the read before every write, without a search of the database.
//! Nothing else enters, so what is here is never older than what the database holds.
//!
//! Rows are looked up by the hundred thousand a second while other work takes the processor's caches, so each visit to one
//! costs a wait for memory. That a record is committed is therefore not noted with it, but follows from when it was
//! written; and what goes first is not kept in a line, but looked for when there is too much: the least recently written of
//! a few neighbours in the table.

use bytes::Bytes;
use hashbrown::HashTable;
use smallvec::SmallVec;

use super::batch::Row;
use super::hash::KeyHash;
use super::pending::Sequence;
use crate::keys::{Interval, RECORD};

/// What a row costs beyond its key and value, about.
const OVERHEAD_BYTES: usize = 160;

/// Neighbours in the table of which one goes.
const CANDIDATES: usize = 8;

/// Most times that is done under one hold of the lock, so that readers never wait long.
const MAX_LOOKS: usize = 64;

/// See the module.
pub(crate) struct Overlay {
    rows: HashTable<Version>,
    hash: KeyHash,
    /// The database holds everything that was written up to here.
    committed: Sequence,
    /// What the rows take that may stay when they are committed.
    cached_bytes: usize,
    limit: CacheLimit,
    /// Where in the table the next one to go is looked for.
    hand: usize,
}

/// The most bytes of records that are kept although they are committed, those that are not yet included.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CacheLimit(usize);

struct Version {
    /// A copy of its own: a slice would keep the first entry that wrote it in memory. Most are short, and here.
    key: SmallVec<[u8; 24]>,
    written: Sequence,
    value: Option<Bytes>,
}

impl Overlay {
    /// An overlay that lets committed rows go when its records take more than `cache_limit` bytes.
    pub(crate) fn new(cache_limit: usize) -> Self {
        Self {
            rows: HashTable::new(),
            hash: KeyHash::new(),
            committed: 0,
            cached_bytes: 0,
            limit: CacheLimit(cache_limit),
            hand: 0,
        }
    }

    /// The value of `key`, or its removal; none when only the database knows.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        let version = self.rows.find(self.hash.of(key), |version| version.is_of(key));
        version.map(|version| version.value.clone())
    }

    /// Enters a row of the batch numbered `written`, which is the newest.
    pub(crate) fn insert(&mut self, row: &Row, written: Sequence) {
        let (key, value) = (&row.key[..], row.value.clone());
        let (hash, limit) = (self.hash, self.limit);
        match self.rows.find_mut(hash.of(key), |version| version.is_of(key)) {
            Some(version) => {
                self.cached_bytes -= version.cached_bytes(limit);
                (version.written, version.value) = (written, value);
                self.cached_bytes += version.cached_bytes(limit);
            }
            None => {
                let key = SmallVec::from_slice(key);
                let version = Version { key, written, value };
                self.cached_bytes += version.cached_bytes(limit);
                let hash_of = |version: &Version| hash.of(&version.key);
                self.rows.insert_unique(hash.of(&version.key), version, hash_of);
            }
        }
    }

    /// Which rows may stay when they are committed.
    pub(crate) fn limit(&self) -> CacheLimit {
        self.limit
    }

    /// The database holds everything up to `upto`: rows among these that are of no use as a cache go, if nothing newer has
    /// taken their place.
    pub(crate) fn retire<'a>(&mut self, rows: impl Iterator<Item = &'a Row>, upto: Sequence) {
        self.committed = self.committed.max(upto);
        let limit = self.limit;
        for row in rows {
            let key = &row.key[..];
            let found = self
                .rows
                .find_entry(self.hash.of(key), |version| version.is_of(key));
            if let Ok(found) = found
                && found.get().written <= upto
                && found.get().cached_bytes(limit) == 0
            {
                found.remove();
            }
        }
    }

    /// Lets committed rows go while there is too much. True when it is to be called again, since no call takes long.
    pub(crate) fn tidy(&mut self) -> bool {
        let mut evicted = false;
        for _ in 0..MAX_LOOKS {
            if self.cached_bytes <= self.limit.0 {
                return false;
            }
            evicted |= self.evict();
        }
        evicted
    }

    /// Lets go of the least recently written of the next few committed rows; false when there is none among them.
    fn evict(&mut self) -> bool {
        let buckets = self.rows.num_buckets();
        let start = if self.hand < buckets { self.hand } else { 0 };
        self.hand = start + CANDIDATES;
        let candidates = (start..buckets.min(self.hand)).filter_map(|bucket| {
            let version = self.rows.get_bucket(bucket)?;
            let may_go = version.written <= self.committed && version.cached_bytes(self.limit) > 0;
            may_go.then_some((version.written, bucket))
        });
        let Some((_, oldest)) = candidates.min() else {
            return false;
        };
        let Ok(found) = self.rows.get_bucket_entry(oldest) else {
            return false;
        };
        let (version, _) = found.remove();
        self.cached_bytes -= version.cached_bytes(self.limit);
        true
    }

    /// Lets go of the committed rows of an interval, which is about to change in the database behind the overlay's back.
    pub(crate) fn forget(&mut self, intervals: &[Interval]) {
        let (committed, limit) = (self.committed, self.limit);
        let forgotten = self.rows.extract_if(|version| {
            version.written <= committed && intervals.iter().any(|interval| interval.contains(&version.key))
        });
        self.cached_bytes -= forgotten
            .map(|version| version.cached_bytes(limit))
            .sum::<usize>();
    }
}

impl Version {
    fn is_of(&self, key: &[u8]) -> bool {
        self.key[..] == *key
    }

    fn cached_bytes(&self, limit: CacheLimit) -> usize {
        limit.cached_bytes(self.key.first(), self.key.len(), self.value.as_ref())
    }
}

impl CacheLimit {
    /// What a row takes that may stay when it is committed, given the first byte of its key and the length of that; zero if
    /// it may not. Rows of ranges and outcomes are not read; large values would push out many small ones.
    pub(super) fn cached_bytes(self, first: Option<&u8>, key: usize, value: Option<&Bytes>) -> usize {
        let Some(value) = value.filter(|_| first == Some(&RECORD)) else {
            return 0;
        };
        let bytes = key + value.len() + OVERHEAD_BYTES;
        if bytes <= self.0 / 64 { bytes } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &str, value: Option<&str>) -> Row {
        let key = [&[RECORD], key.as_bytes()].concat();
        Row {
            key: key.into(),
            value: value.map(|value| value.to_owned().into()),
            first: false,
        }
    }

    fn value(overlay: &Overlay, key: &str) -> Option<Option<Bytes>> {
        overlay.get(&record(key, None).key)
    }

    /// Room for `rows` rows with keys of `key` bytes and values of one.
    fn room_for(rows: usize, key: usize) -> Overlay {
        Overlay::new((rows * (OVERHEAD_BYTES + 1 + key + 1)).max(64 * 200))
    }

    fn commit(overlay: &mut Overlay, row: Row, sequence: Sequence) {
        overlay.insert(&row, sequence);
        overlay.retire([row].iter(), sequence);
        while overlay.tidy() {}
    }

    #[test]
    fn committed_records_stay_for_a_while_and_removals_do_not() {
        let mut overlay = room_for(100, 1);
        overlay.insert(&record("a", Some("1")), 1);
        overlay.insert(&record("b", None), 1);
        overlay.insert(
            &Row {
                key: Bytes::from_static(b"\x01range"),
                value: Some("1".into()),
                first: false,
            },
            2,
        );
        let rows = [record("a", Some("1")), record("b", None)];
        overlay.retire(rows.iter(), 1);
        assert_eq!(value(&overlay, "a"), Some(Some("1".into())));
        assert_eq!(value(&overlay, "b"), None);
        assert_eq!(
            overlay.get(b"\x01range"),
            Some(Some("1".into())),
            "not committed yet"
        );
    }

    #[test]
    fn what_was_written_lately_stays() {
        const ROWS: usize = 20_000;
        let mut overlay = room_for(ROWS, 5);
        let key = |at: usize| format!("{at:05}");
        let mut sequence = 0;
        let mut write = |overlay: &mut Overlay, rows: std::ops::Range<usize>| {
            for at in rows {
                sequence += 1;
                commit(overlay, record(&key(at), Some("1")), sequence);
                assert!(overlay.cached_bytes <= overlay.limit.0);
            }
        };
        let left = |overlay: &Overlay, rows: std::ops::Range<usize>| {
            rows.filter(|at| value(overlay, &key(*at)).is_some()).count()
        };
        write(&mut overlay, 0..ROWS);
        assert_eq!(left(&overlay, 0..ROWS), ROWS);
        write(&mut overlay, 0..ROWS / 2);
        write(&mut overlay, ROWS..ROWS + ROWS / 4);
        assert_eq!(left(&overlay, 0..2 * ROWS), ROWS);
        // Who goes is the oldest of a few: nearly always one of those that were not written again.
        let lately = left(&overlay, 0..ROWS / 2) + left(&overlay, ROWS..2 * ROWS);
        assert!(lately > ROWS * 3 / 4 * 95 / 100, "{lately}");
    }

    #[test]
    fn what_is_not_committed_stays_however_much_it_is() {
        let mut overlay = room_for(100, 3);
        let rows: Vec<Row> = (0..500)
            .map(|at| record(&format!("{at:03}"), Some("1")))
            .collect();
        rows.iter().for_each(|row| overlay.insert(row, 1));
        overlay.retire([].iter(), 0);
        assert!(!overlay.tidy());
        assert_eq!(overlay.rows.len(), 500);
        overlay.retire([].iter(), 1);
        while overlay.tidy() {}
        assert_eq!(overlay.rows.len(), 100);
    }

    #[test]
    fn a_row_that_was_written_again_is_not_evicted_before_its_commit() {
        let mut overlay = Overlay::new(0);
        overlay.insert(&record("a", Some("1")), 1);
        overlay.insert(&record("a", Some("2")), 2);
        overlay.retire([record("a", Some("1"))].iter(), 1);
        assert_eq!(value(&overlay, "a"), Some(Some("2".into())));
        overlay.retire([record("a", Some("2"))].iter(), 2);
        assert_eq!(value(&overlay, "a"), None);
    }

    #[test]
    fn an_interval_is_forgotten_but_for_what_is_not_committed() {
        let mut overlay = room_for(100, 1);
        for (key, sequence) in [("a", 1), ("b", 1), ("c", 2)] {
            overlay.insert(&record(key, Some("1")), sequence);
        }
        let rows = ["a", "b", "c"].map(|key| record(key, Some("1")));
        overlay.retire(rows.iter(), 1);
        let interval = Interval {
            start: record("b", None).key,
            end: record("z", None).key,
        };
        overlay.forget(&[interval]);
        assert_eq!(value(&overlay, "a"), Some(Some("1".into())));
        assert_eq!(value(&overlay, "b"), None);
        assert_eq!(value(&overlay, "c"), Some(Some("1".into())));
        assert_eq!(overlay.cached_bytes, 2 * (OVERHEAD_BYTES + 3));
    }

    #[test]
    fn rows_written_over_and_over_take_the_room_of_one() {
        let mut overlay = room_for(100, 1);
        for sequence in 1..10_000 {
            let row = record(&format!("{:03}", sequence % 10), Some("1"));
            commit(&mut overlay, row, sequence);
        }
        assert_eq!(overlay.rows.len(), 10);
        assert!((0..10).all(|at| value(&overlay, &format!("{at:03}")).is_some()));
        let bytes: usize = overlay
            .rows
            .iter()
            .map(|version| version.cached_bytes(overlay.limit))
            .sum();
        assert_eq!(bytes, overlay.cached_bytes);
    }
}
