//! Writes that are visible but not committed: in the overlay over the database, and in the queue behind it. Pure.
//!
//! A write enters both at once. A reader looks into the overlay, then into the database. The data thread takes batches
//! off the queue in order, commits them, and only then retires their rows from the overlay, each only if no newer write
//! of that key has come meanwhile. So between the two lookups of a reader a value is never missing from both.

use std::cmp::Ordering;
use std::collections::VecDeque;

use bytes::Bytes;

use super::batch::{Batch, Row};
use super::overlay::{CacheLimit, Overlay};
use crate::keys::Interval;

/// Counts batches; a batch is at most as new as a later one.
pub(crate) type Sequence = u64;

/// Visible writes that the database does not hold yet.
pub(crate) struct Pending {
    overlay: Overlay,
    queue: VecDeque<(Sequence, Batch)>,
    last: Sequence,
}

/// Batches taken off the queue, to be committed together.
#[derive(Default)]
pub(crate) struct Drained {
    batches: Vec<Batch>,
    /// The last batch among them, or the last that was taken before when there is none.
    pub(crate) upto: Sequence,
    /// What they hold in memory.
    pub(crate) bytes: usize,
    limit: CacheLimit,
}

impl Pending {
    /// Keeps at most `cache_limit` bytes of rows that are committed.
    pub(crate) fn new(cache_limit: usize) -> Self {
        Self {
            overlay: Overlay::new(cache_limit),
            queue: VecDeque::new(),
            last: 0,
        }
    }

    /// The newest value of `key`, or its removal; none when only the database knows.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.overlay.get(key)
    }

    /// Makes a batch visible and queues it.
    pub(crate) fn write(&mut self, batch: Batch) {
        self.last += 1;
        for row in batch.rows() {
            self.overlay.insert(row, self.last);
        }
        self.queue.push_back((self.last, batch));
    }

    /// The newest batch.
    pub(crate) fn last(&self) -> Sequence {
        self.last
    }

    /// Whether nothing waits to be committed.
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes the oldest batches, as many as fit `max_bytes` but at least one if any wait.
    pub(crate) fn drain(&mut self, max_bytes: usize) -> Drained {
        let mut drained = Drained {
            upto: self.last,
            limit: self.overlay.limit(),
            ..Drained::default()
        };
        while let Some((sequence, batch)) = self.queue.front() {
            if drained.bytes > 0 && drained.bytes + batch.bytes() > max_bytes {
                drained.upto = sequence - 1;
                break;
            }
            drained.bytes += batch.bytes();
            drained
                .batches
                .extend(self.queue.pop_front().map(|(_, batch)| batch));
        }
        drained
    }

    /// The database holds everything up to `upto`, and these rows are of no use any more; see [`Overlay::retire`].
    pub(crate) fn retire<'a>(&mut self, rows: impl Iterator<Item = &'a Row>, upto: Sequence) {
        self.overlay.retire(rows, upto);
    }

    /// See [`Overlay::tidy`].
    pub(crate) fn tidy(&mut self) -> bool {
        self.overlay.tidy()
    }

    /// See [`Overlay::forget`].
    pub(crate) fn forget(&mut self, intervals: &[Interval]) {
        self.overlay.forget(intervals);
    }
}

impl Drained {
    /// The rows to commit: the newest of each key, without rows that were born and removed in between.
    pub(crate) fn coalesce(&self) -> Coalesced<'_> {
        let count = self.batches.iter().map(|batch| batch.rows().len()).sum();
        let mut versions: Vec<Version<'_>> = Vec::with_capacity(count);
        let in_order = self.batches.iter().flat_map(Batch::rows);
        versions.extend(in_order.zip(0..).map(|(row, at)| Version {
            head: Head::of(&row.key),
            row,
            at,
        }));
        // The newest of a key first. They must be in the order of their keys anyway: neighbours are found faster in the
        // memtable one after the other.
        versions.sort_unstable_by(|a, b| a.cmp_key(b).then(b.at.cmp(&a.at)));
        let mut rows = Vec::with_capacity(count);
        let mut passing = Vec::new();
        let mut cancelled = 0;
        for versions in versions.chunk_by(|a, b| a.cmp_key(b).is_eq()) {
            let Version {
                row: newest, head, ..
            } = versions[0];
            let lives = newest.value.is_some() || !versions.iter().any(|version| version.row.first);
            cancelled += usize::from(!lives);
            rows.push((newest, lives));
            // Told from what is at hand: the row's key lies elsewhere.
            let cached =
                (self.limit).cached_bytes(Some(&head.first()), newest.key.len(), newest.value.as_ref());
            passing.extend((cached == 0).then_some(newest));
        }
        Coalesced {
            rows,
            passing,
            cancelled,
        }
    }
}

/// One version of a row, with what it is sorted by at hand.
struct Version<'a> {
    head: Head,
    row: &'a Row,
    /// Its place among all that were drained.
    at: usize,
}

impl Version<'_> {
    fn cmp_key(&self, other: &Self) -> Ordering {
        (self.head.cmp(&other.head)).then_with(|| self.row.key.cmp(&other.row.key))
    }
}

/// The first bytes of a key: they tell most keys apart without a look at where the rest of them lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Head([u64; 3]);

impl Head {
    /// The key's first byte.
    fn first(self) -> u8 {
        self.0[0].to_be_bytes()[0]
    }

    /// Big endian, filled up with zeroes: never orders two keys otherwise than their bytes do, but may call them equal.
    fn of(key: &[u8]) -> Self {
        let mut bytes = [0; 24];
        let len = key.len().min(bytes.len());
        bytes[..len].copy_from_slice(&key[..len]);
        let (words, _) = bytes.as_chunks::<8>();
        let mut head = [0; 3];
        for (place, word) in head.iter_mut().zip(words) {
            *place = u64::from_be_bytes(*word);
        }
        Self(head)
    }
}

/// What is left of drained batches.
pub(crate) struct Coalesced<'a> {
    /// The newest row of every key, and whether the database must see it.
    rows: Vec<(&'a Row, bool)>,
    /// Those among them that are of no use once they are committed.
    passing: Vec<&'a Row>,
    cancelled: usize,
}

impl<'a> Coalesced<'a> {
    /// The rows that the database must see, in the order of their keys.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(|(_, lives)| *lives).map(|(row, _)| *row)
    }

    /// How many rows [`Self::rows`] gives.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() - self.cancelled
    }

    /// The rows that are of no use once they are committed, those that cancelled out among them.
    pub(crate) fn passing(&self) -> impl Iterator<Item = &'a Row> {
        self.passing.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn batch(rows: &[(&'static str, Option<&'static str>)]) -> Batch {
        let mut batch = Batch::default();
        for (key, value) in rows {
            match value {
                Some(value) => batch.put(
                    Bytes::from_static(key.as_bytes()),
                    Bytes::from_static(value.as_bytes()),
                ),
                None => batch.delete(Bytes::from_static(key.as_bytes())),
            }
        }
        batch
    }

    fn committed(drained: &Drained) -> Vec<(&str, Option<&str>)> {
        let coalesced = drained.coalesce();
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let mut rows: Vec<_> = coalesced
            .rows()
            .map(|row| (text(&row.key), row.value.as_deref().map(text)))
            .collect();
        rows.sort_unstable();
        rows
    }

    fn retire(pending: &mut Pending, drained: &Drained) {
        pending.retire(drained.coalesce().passing(), drained.upto);
    }

    #[test]
    fn a_value_stays_until_it_is_committed() {
        let mut pending = Pending::new(0);
        pending.write(batch(&[("a", Some("1")), ("b", None)]));
        let drained = pending.drain(usize::MAX);
        assert_eq!(
            pending.get(b"a"),
            Some(Some("1".into())),
            "drained is not committed"
        );
        assert_eq!(
            pending.get(b"b"),
            Some(None),
            "a removal hides what the database holds"
        );
        retire(&mut pending, &drained);
        assert_eq!(pending.get(b"a"), None);
        assert_eq!(pending.get(b"b"), None);
    }

    #[test]
    fn a_newer_version_outlives_the_commit_of_an_older_one() {
        let mut pending = Pending::new(0);
        pending.write(batch(&[("a", Some("1"))]));
        let drained = pending.drain(usize::MAX);
        pending.write(batch(&[("a", Some("2"))]));
        retire(&mut pending, &drained);
        assert_eq!(pending.get(b"a"), Some(Some("2".into())));
        let drained = pending.drain(usize::MAX);
        retire(&mut pending, &drained);
        assert_eq!(pending.get(b"a"), None);
    }

    #[test]
    fn only_the_newest_version_is_committed() {
        let mut pending = Pending::new(0);
        pending.write(batch(&[("a", Some("1")), ("b", Some("1"))]));
        pending.write(batch(&[("a", Some("2")), ("c", None)]));
        pending.write(batch(&[("a", Some("3"))]));
        let drained = pending.drain(usize::MAX);
        assert_eq!(
            committed(&drained),
            [("a", Some("3")), ("b", Some("1")), ("c", None)]
        );
    }

    #[test]
    fn a_row_born_and_removed_in_one_commit_leaves_no_trace() {
        let mut pending = Pending::new(0);
        let mut born = batch(&[("kept", Some("1"))]);
        born.put_first("once".into(), "1".into());
        pending.write(born);
        pending.write(batch(&[("once", None), ("kept", None)]));
        let drained = pending.drain(usize::MAX);
        assert_eq!(committed(&drained), [("kept", None)]);
        retire(&mut pending, &drained);
        assert_eq!(pending.get(b"once"), None);
    }

    #[test]
    fn a_row_born_in_an_earlier_commit_gets_its_tombstone() {
        let mut pending = Pending::new(0);
        let mut born = Batch::default();
        born.put_first("once".into(), "1".into());
        pending.write(born);
        pending.drain(usize::MAX);
        pending.write(batch(&[("once", None)]));
        assert_eq!(committed(&pending.drain(usize::MAX)), [("once", None)]);
    }

    #[test]
    fn a_drain_is_bounded_and_in_order() {
        let mut pending = Pending::new(0);
        for value in ["1", "2", "3"] {
            pending.write(batch(&[("a", Some(value))]));
        }
        let drained = pending.drain(1);
        assert_eq!((committed(&drained), drained.upto), (vec![("a", Some("1"))], 1));
        retire(&mut pending, &drained);
        assert_eq!(pending.get(b"a"), Some(Some("3".into())));
        let drained = pending.drain(usize::MAX);
        assert_eq!((committed(&drained), drained.upto), (vec![("a", Some("3"))], 3));
        assert!(pending.is_drained());
    }

    /// Keys that differ late, early, or in length alone.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![Just(0), Just(1), Just(255)];
        (0..30_usize, byte.clone(), byte).prop_map(|(zeroes, first, last)| {
            let mut key = vec![0; zeroes];
            key.push(last);
            key[0] = key[0].max(first);
            key
        })
    }

    proptest! {
        #[test]
        fn the_newest_version_of_each_key_is_left_in_the_order_of_keys(
            versions in vec((key(), any::<u8>()), 0..60),
        ) {
            let mut pending = Pending::new(0);
            let mut expected = BTreeMap::new();
            for (key, value) in versions {
                let mut batch = Batch::default();
                batch.put(key.clone().into(), vec![value].into());
                pending.write(batch);
                expected.insert(key, vec![value]);
            }
            let drained = pending.drain(usize::MAX);
            let coalesced = drained.coalesce();
            let rows: Vec<_> = coalesced
                .rows()
                .map(|row| (row.key.to_vec(), row.value.as_ref().expect("a value").to_vec()))
                .collect();
            prop_assert_eq!(rows, Vec::from_iter(expected));
        }
    }
}
