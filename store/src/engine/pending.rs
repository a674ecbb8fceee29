//! Writes that are visible but not committed: the overlay over the database, and the queue behind it. Pure.
//!
//! A write enters both at once. A reader looks into the overlay, then into the database. The data thread takes batches
//! off the queue in order, commits them, and only then retires their keys from the overlay, each only if no newer write
//! of that key has come meanwhile. So between the two lookups of a reader a value is never missing from both.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};

use bytes::Bytes;
use holdfast_common::clock;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::batch::{Batch, Row};

/// Counts batches; a batch is at most as new as a later one.
pub(crate) type Sequence = u64;

/// Visible writes that the database does not hold yet.
pub(crate) struct Pending {
    overlay: HashMap<Bytes, Version, KeyHash>,
    queue: VecDeque<(Sequence, Batch)>,
    last: Sequence,
}

struct Version {
    written: Sequence,
    value: Option<Bytes>,
}

/// Batches taken off the queue, to be committed together.
#[derive(Default)]
pub(crate) struct Drained {
    batches: Vec<Batch>,
    /// The last batch among them, or the last that was taken before when there is none.
    pub(crate) upto: Sequence,
    /// What they hold in memory.
    pub(crate) bytes: usize,
}

impl Pending {
    pub(crate) fn new() -> Self {
        Self {
            overlay: HashMap::with_hasher(KeyHash::new()),
            queue: VecDeque::new(),
            last: 0,
        }
    }

    /// What is pending for `key`: a value, or its removal.
    pub(crate) fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        self.overlay.get(key).map(|version| version.value.clone())
    }

    /// Makes a batch visible and queues it.
    pub(crate) fn write(&mut self, batch: Batch) {
        self.last += 1;
        for row in batch.rows() {
            let version = Version {
                written: self.last,
                value: row.value.clone(),
            };
            self.overlay.insert(row.key.clone(), version);
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

    /// Forgets committed keys, unless they were written again after `upto`.
    pub(crate) fn retire<'a>(&mut self, keys: impl Iterator<Item = &'a [u8]>, upto: Sequence) {
        for key in keys {
            if self
                .overlay
                .get(key)
                .is_some_and(|version| version.written <= upto)
            {
                self.overlay.remove(key);
            }
        }
    }
}

impl Drained {
    /// The rows to commit: the newest of each key, without rows that were born and removed in between.
    pub(crate) fn coalesce(&self, hash: KeyHash) -> Coalesced<'_> {
        let count = self.batches.iter().map(|batch| batch.rows().len()).sum();
        let mut rows: Vec<&Row> = Vec::with_capacity(count);
        let mut newest: HashMap<&[u8], usize, KeyHash> = HashMap::with_capacity_and_hasher(count, hash);
        let mut cancelled = Vec::new();
        for row in self
            .batches
            .iter()
            .rev()
            .flat_map(|batch| batch.rows().iter().rev())
        {
            match newest.get(&row.key[..]) {
                None => {
                    newest.insert(&row.key, rows.len());
                    rows.push(row);
                }
                Some(&at) if row.first && rows[at].value.is_none() => cancelled.push(at),
                Some(_) => {}
            }
        }
        Coalesced { rows, cancelled }
    }
}

/// What is left of drained batches.
pub(crate) struct Coalesced<'a> {
    rows: Vec<&'a Row>,
    cancelled: Vec<usize>,
}

impl<'a> Coalesced<'a> {
    /// The rows that the database must see.
    pub(crate) fn rows(&mut self) -> impl Iterator<Item = &'a Row> {
        self.cancelled.sort_unstable();
        let mut cancelled = self.cancelled.iter().copied().peekable();
        let rows = self.rows.iter().copied().enumerate();
        rows.filter(move |(at, _)| cancelled.next_if_eq(at).is_none())
            .map(|(_, row)| row)
    }

    /// How many rows [`Self::rows`] gives.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() - self.cancelled.len()
    }

    /// Every key, including those that cancelled out.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a [u8]> {
        self.rows.iter().map(|row| &row.key[..])
    }
}

/// XXH3 over whole keys, seeded per process: clients choose keys and must not be able to choose collisions.
#[derive(Clone, Copy)]
pub(crate) struct KeyHash {
    seed: u64,
}

impl KeyHash {
    pub(crate) fn new() -> Self {
        Self {
            seed: clock::random_id(),
        }
    }

    /// For small tables, where a collision chosen by a client costs little, and no randomness is wanted.
    pub(crate) const fn fixed() -> Self {
        Self { seed: 0 }
    }
}

impl BuildHasher for KeyHash {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.seed)
    }
}

/// The state of [`KeyHash`].
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, length: usize) {
        self.0 = self.0.wrapping_add(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
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
        let mut coalesced = drained.coalesce(KeyHash::new());
        let text = |bytes| std::str::from_utf8(bytes).unwrap();
        let mut rows: Vec<_> = coalesced
            .rows()
            .map(|row| (text(&row.key), row.value.as_deref().map(text)))
            .collect();
        rows.sort_unstable();
        rows
    }

    fn retire(pending: &mut Pending, drained: &Drained) {
        pending.retire(drained.coalesce(KeyHash::new()).keys(), drained.upto);
    }

    #[test]
    fn a_value_stays_until_it_is_committed() {
        let mut pending = Pending::new();
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
        let mut pending = Pending::new();
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
        let mut pending = Pending::new();
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
        let mut pending = Pending::new();
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
        let mut pending = Pending::new();
        let mut born = Batch::default();
        born.put_first("once".into(), "1".into());
        pending.write(born);
        pending.drain(usize::MAX);
        pending.write(batch(&[("once", None)]));
        assert_eq!(committed(&pending.drain(usize::MAX)), [("once", None)]);
    }

    #[test]
    fn a_drain_is_bounded_and_in_order() {
        let mut pending = Pending::new();
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
}
