//! The overlay: rows that are newer than the database's, and recent ones that are as new. Pure.
//!
//! A row enters when it is written and stays at least until it is committed. A committed record may stay on, as a cache of
//! what was written lately: it answers point reads, and the read before every write, without a search of the database. The
//! least recently written go first. Nothing else enters, so what is here is never older than what the database holds.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::batch::Row;
use super::hash::KeyHash;
use super::pending::Sequence;
use crate::keys::{Interval, RECORD};

/// What a cached row costs beyond its key and value, about.
const CACHED_OVERHEAD_BYTES: usize = 160;

/// See the module.
pub(crate) struct Overlay {
    /// Keys are copies of their own: a slice would keep the first entry that wrote them in memory.
    rows: HashMap<Box<[u8]>, Version, KeyHash>,
    /// Committed rows that are still here, about in the order of their age, among ghosts: rows that were written again, or
    /// forgotten, since they got into this line.
    cached: VecDeque<(Bytes, Sequence)>,
    cached_rows: usize,
    cached_bytes: usize,
    cache_limit: usize,
}

struct Version {
    written: Sequence,
    value: Option<Bytes>,
    /// What it takes as a cached row; zero until it is one.
    cached_bytes: usize,
}

impl Overlay {
    /// An overlay that keeps at most `cache_limit` bytes of committed rows.
    pub(crate) fn new(cache_limit: usize) -> Self {
        let rows = HashMap::with_hasher(KeyHash::new());
        Self {
            rows,
            cached: VecDeque::new(),
            cached_rows: 0,
            cached_bytes: 0,
            cache_limit,
        }
    }

    /// The value of `key`, or its removal; none when only the database knows.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.rows.get(key).map(|version| version.value.clone())
    }

    /// Enters a row of the batch numbered `written`, which is the newest.
    pub(crate) fn insert(&mut self, row: &Row, written: Sequence) {
        let version = Version {
            written,
            value: row.value.clone(),
            cached_bytes: 0,
        };
        let Some(known) = self.rows.get_mut(&row.key[..]) else {
            self.rows.insert(Box::from(&row.key[..]), version);
            return;
        };
        let before = std::mem::replace(known, version);
        self.uncount(&before);
    }

    /// The database holds everything up to `upto`: the newest of these rows, if it is not newer than that, need not stay.
    pub(crate) fn retire<'a>(&mut self, rows: impl Iterator<Item = &'a Row>, upto: Sequence) {
        for row in rows {
            let Some(version) = self.rows.get_mut(&row.key[..]) else {
                continue;
            };
            if version.written > upto {
                continue;
            }
            let bytes = row.key.len() + version.value.as_ref().map_or(0, Bytes::len) + CACHED_OVERHEAD_BYTES;
            // Rows of ranges and outcomes are not read; large values would push out many small ones.
            let worth =
                row.key.first() == Some(&RECORD) && version.value.is_some() && bytes <= self.cache_limit / 64;
            if !worth {
                self.rows.remove(&row.key[..]);
                continue;
            }
            version.cached_bytes = bytes;
            self.cached.push_back((row.key.clone(), version.written));
            self.cached_rows += 1;
            self.cached_bytes += bytes;
            self.tidy();
        }
    }

    /// Lets go of the committed rows of an interval, which is about to change in the database behind the overlay's back.
    pub(crate) fn forget(&mut self, intervals: &[Interval]) {
        let rows = self.rows.extract_if(|key, version| {
            version.cached_bytes > 0 && intervals.iter().any(|interval| interval.contains(key))
        });
        let forgotten: Vec<Version> = rows.map(|(_, version)| version).collect();
        for version in &forgotten {
            self.uncount(version);
        }
    }

    /// Lets the oldest go until the rest fits, and ghosts before they are the most: two steps for each row that came, so
    /// that no single call takes long. A row that is not to go yet gets back into the line behind the youngest.
    fn tidy(&mut self) {
        let mut steps = 2;
        while self.cached_bytes > self.cache_limit
            || (steps > 0 && self.cached.len() > 2 * self.cached_rows + 64)
        {
            steps = usize::saturating_sub(steps, 1);
            let Some((key, written)) = self.cached.pop_front() else {
                return;
            };
            if self
                .rows
                .get(&key[..])
                .is_none_or(|version| version.written != written)
            {
                continue;
            }
            if self.cached_bytes <= self.cache_limit {
                self.cached.push_back((key, written));
            } else if let Some(version) = self.rows.remove(&key[..]) {
                self.uncount(&version);
            }
        }
    }

    /// A version is here no more; if it was a cached one, it is none any more.
    fn uncount(&mut self, version: &Version) {
        if version.cached_bytes > 0 {
            self.cached_rows -= 1;
            self.cached_bytes -= version.cached_bytes;
        }
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

    /// Room for about `rows` small rows.
    fn room_for(rows: usize) -> Overlay {
        Overlay::new((rows * (CACHED_OVERHEAD_BYTES + 4)).max(64 * 200))
    }

    #[test]
    fn committed_records_stay_for_a_while_and_removals_do_not() {
        let mut overlay = room_for(100);
        overlay.insert(&record("a", Some("1")), 1);
        overlay.insert(&record("b", None), 1);
        overlay.insert(
            &Row {
                key: Bytes::from_static(b"\x01range"),
                value: Some("1".into()),
                first: false,
            },
            1,
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
    fn the_least_recently_written_go_first() {
        let mut overlay = room_for(100);
        let capacity = overlay.cache_limit / (CACHED_OVERHEAD_BYTES + 5);
        let commit = |overlay: &mut Overlay, at: usize, sequence| {
            let row = record(&format!("{at:03}"), Some("1"));
            overlay.insert(&row, sequence);
            overlay.retire([row].iter(), sequence);
        };
        for at in 0..capacity {
            commit(&mut overlay, at, at as u64 + 1);
        }
        commit(&mut overlay, 0, 900);
        commit(&mut overlay, 998, 901);
        commit(&mut overlay, 999, 902);
        assert_eq!(value(&overlay, "001"), None);
        assert_eq!(
            value(&overlay, "000"),
            Some(Some("1".into())),
            "it was written again"
        );
        assert_eq!(value(&overlay, "999"), Some(Some("1".into())));
        assert!(overlay.cached_bytes <= overlay.cache_limit);
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
        let mut overlay = room_for(100);
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
        assert_eq!(overlay.cached_rows, 1);
    }

    #[test]
    fn rows_written_over_and_over_take_the_room_of_one() {
        let mut overlay = room_for(100);
        for sequence in 1..10_000 {
            let row = record(&format!("{:03}", sequence % 10), Some("1"));
            overlay.insert(&row, sequence);
            overlay.retire([row].iter(), sequence);
            assert!(overlay.cached.len() <= 2 * overlay.cached_rows + 66);
        }
        assert_eq!(overlay.cached_rows, 10);
        assert!((0..10).all(|at| value(&overlay, &format!("{at:03}")).is_some()));
        let bytes: usize = overlay.rows.values().map(|version| version.cached_bytes).sum();
        assert_eq!(bytes, overlay.cached_bytes);
    }
}
