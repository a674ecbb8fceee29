// Part of Holdfast's changes to lsm-tree, under the same licenses (found in the LICENSE-* files in the repository)

//! The rows of a memtable: leaves of neighbours, and a map that finds the leaf of a key.
//!
//! The way to a place in a skiplist leads through some thirty nodes, each with memory of its own, most of it in no cache
//! when other work came in between. Here it leads through the few nodes of a map of leaves, and then lies within one leaf.
//!
//! Only a leaf that is full takes the lock of the map; else a writer locks its leaf alone. So a writer that loses its
//! processor in the middle of an insertion keeps readers from one leaf, not from the table.

use super::Placed;
use crate::value::UserValue;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::vec;

/// Most rows of a leaf. Rows behind an inserted one move; those of a full leaf that are appended to begin another.
const LEAF_ROWS: usize = 64;

/// An iterator's first read takes so many rows: many want no more than one.
const FIRST_READ_ROWS: usize = 2;

type Row = (Placed, UserValue);

/// Some neighbours in the order of their keys.
type Leaf = RwLock<Vec<Row>>;

#[derive(Default)]
struct Top {
    /// What is below all bounds.
    first: Leaf,
    /// By a lower bound of their keys, the key that was first in them when they were made. None is ever empty.
    others: BTreeMap<Placed, Leaf>,
}

/// Rows in the order of their keys. There is no removal.
#[derive(Default)]
pub(super) struct Leaves {
    top: RwLock<Top>,
    len: AtomicUsize,
}

impl Leaves {
    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Inserts a row, or replaces that of an equal key.
    pub(super) fn insert(&self, key: Placed, value: UserValue) {
        let row = {
            let top = read(&self.top);
            self.put_where_there_is_room(&top, (key, value))
        };
        let Some(row) = row else { return };
        let mut top = write(&self.top);
        // Another writer may have made room.
        let Some(row) = self.put_where_there_is_room(&top, row) else {
            return;
        };
        let right = split(&mut write(top.leaf_of(&row.0)), row);
        if let Some((bound, _)) = right.first() {
            top.others.insert(bound.clone(), RwLock::new(right));
        }
        self.len.fetch_add(1, Ordering::AcqRel);
    }

    /// Gives the row back when its leaf is full.
    fn put_where_there_is_room(&self, top: &Top, row: Row) -> Option<Row> {
        let mut rows = write(top.leaf_of(&row.0));
        let before = rows.len();
        let left = put(&mut rows, row);
        self.len.fetch_add(rows.len() - before, Ordering::AcqRel);
        left
    }

    /// What `wanted` makes of the first row at `from` or behind it.
    pub(super) fn first_from<T>(
        &self,
        from: &Placed,
        wanted: impl FnOnce(&Placed, &UserValue) -> Option<T>,
    ) -> Option<T> {
        let top = read(&self.top);
        let mut wanted = Some(wanted);
        for leaf in top.leaves_from(Some(from)) {
            let rows = read(leaf);
            let at = rows.partition_point(|(key, _)| key < from);
            if let Some((key, value)) = rows.get(at) {
                return wanted.take().and_then(|wanted| wanted(key, value));
            }
        }
        None
    }

    /// The rows between two bounds, from either end. Rows that are inserted meanwhile may or may not be among them.
    pub(super) fn range(&self, from: Bound<Placed>, to: Bound<Placed>) -> Rows<'_> {
        Rows {
            leaves: self,
            from,
            to,
            front: Vec::new().into_iter(),
            back: Vec::new().into_iter(),
            next_read: FIRST_READ_ROWS,
            is_read: false,
        }
    }

    /// The first `most` rows between two bounds, or fewer, but at least one if there is any.
    fn read_first(&self, from: &Bound<Placed>, to: &Bound<Placed>, most: usize) -> Vec<Row> {
        let top = read(&self.top);
        let mut taken = Vec::with_capacity(most);
        for leaf in top.leaves_from(key_of(from)) {
            let rows = read(leaf);
            let start = rows.partition_point(|(key, _)| is_before(key, from));
            let rows = rows.get(start..).unwrap_or_default();
            let is_end = rows.last().is_some_and(|(last, _)| is_behind(last, to));
            let within = rows.iter().take_while(|(key, _)| !is_behind(key, to));
            taken.extend(within.take(most).cloned());
            if is_end || !taken.is_empty() {
                break;
            }
        }
        taken
    }

    /// As [`Self::read_first`], the last ones, from the last on.
    fn read_last(&self, from: &Bound<Placed>, to: &Bound<Placed>, most: usize) -> Vec<Row> {
        let top = read(&self.top);
        let mut taken = Vec::with_capacity(most);
        for leaf in top.leaves_to(key_of(to)) {
            let rows = read(leaf);
            let end = rows.partition_point(|(key, _)| !is_behind(key, to));
            let rows = rows.get(..end).unwrap_or_default();
            let is_end = rows.first().is_some_and(|(first, _)| is_before(first, from));
            let within = rows.iter().rev().take_while(|(key, _)| !is_before(key, from));
            taken.extend(within.take(most).cloned());
            if is_end || !taken.is_empty() {
                break;
            }
        }
        taken
    }
}

impl Top {
    /// The leaf that has a key, or would.
    fn leaf_of(&self, key: &Placed) -> &Leaf {
        let bounded = self.others.range(..=key).next_back();
        bounded.map_or(&self.first, |(_, leaf)| leaf)
    }

    /// The leaf that has a key, or would, and those behind it; all if there is no key.
    fn leaves_from(&self, key: Option<&Placed>) -> impl Iterator<Item = &Leaf> {
        let bounded = key.and_then(|key| self.others.range(..=key).next_back());
        let (first, from) = match bounded {
            Some((bound, _)) => (None, Bound::Included(bound)),
            None => (Some(&self.first), Bound::Unbounded),
        };
        let others = self.others.range((from, Bound::Unbounded));
        first.into_iter().chain(others.map(|(_, leaf)| leaf))
    }

    /// The leaf that has a key, or would, and those before it, the last first; all if there is no key.
    fn leaves_to(&self, key: Option<&Placed>) -> impl Iterator<Item = &Leaf> {
        let to = key.map_or(Bound::Unbounded, Bound::Included);
        let others = self.others.range((Bound::Unbounded, to)).rev();
        others.map(|(_, leaf)| leaf).chain([&self.first])
    }
}

/// See [`Leaves::range`]. It reads some rows at a time, and holds no lock in between.
pub(super) struct Rows<'a> {
    leaves: &'a Leaves,
    /// What has not been read lies between these.
    from: Bound<Placed>,
    to: Bound<Placed>,
    /// Read from the front, in order.
    front: vec::IntoIter<Row>,
    /// Read from the back, the last first.
    back: vec::IntoIter<Row>,
    next_read: usize,
    /// Nothing is left between the bounds.
    is_read: bool,
}

impl Rows<'_> {
    /// How many rows to read now.
    fn reading(&mut self) -> usize {
        let rows = self.next_read;
        self.next_read = LEAF_ROWS.min(2 * rows);
        rows
    }
}

impl Iterator for Rows<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        if let Some(row) = self.front.next() {
            return Some(row);
        }
        if !self.is_read {
            let most = self.reading();
            let rows = self.leaves.read_first(&self.from, &self.to, most);
            match rows.last() {
                Some((last, _)) => self.from = Bound::Excluded(last.clone()),
                None => self.is_read = true,
            }
            self.front = rows.into_iter();
        }
        self.front.next().or_else(|| self.back.next_back())
    }
}

impl DoubleEndedIterator for Rows<'_> {
    fn next_back(&mut self) -> Option<Row> {
        if let Some(row) = self.back.next() {
            return Some(row);
        }
        if !self.is_read {
            let most = self.reading();
            let rows = self.leaves.read_last(&self.from, &self.to, most);
            match rows.last() {
                Some((first, _)) => self.to = Bound::Excluded(first.clone()),
                None => self.is_read = true,
            }
            self.back = rows.into_iter();
        }
        self.back.next().or_else(|| self.front.next_back())
    }
}

/// Puts a row in its place, or gives it back when the leaf is full.
fn put(rows: &mut Vec<Row>, row: Row) -> Option<Row> {
    match place_of(rows, &row.0) {
        Ok(at) => {
            if let Some(known) = rows.get_mut(at) {
                *known = row;
            }
        }
        Err(_) if rows.len() == LEAF_ROWS => return Some(row),
        Err(at) => rows.insert(at, row),
    }
    None
}

/// Makes two leaves of a full one and a row that it has not: what is returned comes behind it.
fn split(rows: &mut Vec<Row>, row: Row) -> Vec<Row> {
    let (Ok(at) | Err(at)) = place_of(rows, &row.0);
    if at == rows.len() {
        // Rows that come in order leave full leaves behind.
        return vec![row];
    }
    let mut right = rows.split_off(LEAF_ROWS / 2);
    match at.checked_sub(rows.len()) {
        Some(at) => right.insert(at, row),
        None => rows.insert(at, row),
    }
    right
}

/// Where the row of a key is, or belongs. Rows come in order more often than not.
fn place_of(rows: &[Row], key: &Placed) -> Result<usize, usize> {
    match rows.last() {
        Some((last, _)) if last < key => Err(rows.len()),
        _ => rows.binary_search_by(|(other, _)| other.cmp(key)),
    }
}

fn key_of(bound: &Bound<Placed>) -> Option<&Placed> {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key),
        Bound::Unbounded => None,
    }
}

fn is_before(key: &Placed, from: &Bound<Placed>) -> bool {
    match from {
        Bound::Included(from) => key < from,
        Bound::Excluded(from) => key <= from,
        Bound::Unbounded => false,
    }
}

fn is_behind(key: &Placed, to: &Bound<Placed>) -> bool {
    match to {
        Bound::Included(to) => key > to,
        Bound::Excluded(to) => key >= to,
        Bound::Unbounded => false,
    }
}

#[expect(clippy::expect_used, reason = "nothing panics while it holds one of these locks")]
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().expect("lock is poisoned")
}

#[expect(clippy::expect_used, reason = "nothing panics while it holds one of these locks")]
fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().expect("lock is poisoned")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::InternalKey;
    use crate::ValueType;
    use test_log::test;

    /// Numbers in an order that has neighbours far apart; the same on every run.
    fn shuffled(count: u64) -> Vec<u64> {
        let mut numbers: Vec<u64> = (0..count).collect();
        numbers.sort_unstable_by_key(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        numbers
    }

    fn placed(number: u64) -> Placed {
        InternalKey::new(number.to_be_bytes(), 0, ValueType::Value).into()
    }

    fn filled(numbers: impl IntoIterator<Item = u64>) -> Leaves {
        let leaves = Leaves::default();
        for number in numbers {
            leaves.insert(placed(number), number.to_be_bytes().into());
        }
        leaves
    }

    fn number((_, value): Row) -> u64 {
        u64::from_be_bytes((*value).try_into().expect("eight bytes"))
    }

    fn bounds(at: u64) -> [Bound<Placed>; 3] {
        [Bound::Included(placed(at)), Bound::Excluded(placed(at)), Bound::Unbounded]
    }

    #[test]
    fn all_ranges_are_those_of_an_ordered_map_from_both_ends() {
        for numbers in [shuffled(700), (0..700).collect(), (0..700).rev().collect()] {
            // Only every third is there, so that bounds lie on rows and between them.
            let there = || numbers.iter().copied().filter(|number| number % 3 == 1);
            let leaves = filled(there());
            let expected: BTreeMap<u64, ()> = there().map(|number| (number, ())).collect();
            assert_eq!(leaves.len(), expected.len());
            for a in (0..700).step_by(23) {
                for b in (0..700).step_by(29) {
                    for from in bounds(a) {
                        for to in bounds(b) {
                            let within = |number: &u64| {
                                !is_before(&placed(*number), &from) && !is_behind(&placed(*number), &to)
                            };
                            let expected: Vec<u64> = expected.keys().copied().filter(within).collect();
                            let forth: Vec<u64> =
                                leaves.range(from.clone(), to.clone()).map(number).collect();
                            assert_eq!(forth, expected);
                            let mut back: Vec<u64> =
                                leaves.range(from.clone(), to.clone()).rev().map(number).collect();
                            back.reverse();
                            assert_eq!(back, expected);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn two_ends_meet() {
        let leaves = filled(shuffled(1_000));
        for turns in 1..7 {
            let mut rows = leaves.range(Bound::Unbounded, Bound::Unbounded);
            let (mut front, mut back) = (vec![], vec![]);
            loop {
                let row = if (front.len() + back.len()) % turns == 0 {
                    rows.next_back().map(|row| back.push(number(row)))
                } else {
                    rows.next().map(|row| front.push(number(row)))
                };
                if row.is_none() {
                    break;
                }
            }
            front.extend(back.into_iter().rev());
            assert_eq!(front, (0..1_000).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_equal_key_replaces_the_value() {
        let leaves = filled(shuffled(200));
        leaves.insert(placed(77), 1_000_u64.to_be_bytes().into());
        assert_eq!(leaves.len(), 200);
        let found = leaves.first_from(&placed(77), |_, value| Some(number((placed(77), value.clone()))));
        assert_eq!(found, Some(1_000));
    }

    #[test]
    fn the_first_row_behind_a_key_may_lie_in_another_leaf() {
        let leaves = filled(shuffled(500).into_iter().map(|number| number * 2));
        for from in 0..999 {
            let found = leaves.first_from(&placed(from), |_, value| Some(number((placed(0), value.clone()))));
            assert_eq!(found, Some(from.next_multiple_of(2)).filter(|number| *number < 1_000));
        }
    }

    #[test]
    fn rows_in_order_fill_their_leaves() {
        let leaves = filled(0..LEAF_ROWS as u64 * 10);
        assert_eq!(read(&leaves.top).others.len(), 9);
    }

    #[test]
    fn who_reads_meanwhile_misses_nothing_that_was_there() {
        let leaves = filled((0..2_000).map(|number| number * 10));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in shuffled(20_000) {
                    if number % 10 != 0 {
                        leaves.insert(placed(number), number.to_be_bytes().into());
                    }
                }
            });
            while leaves.len() < 20_000 {
                let forth = leaves.range(Bound::Unbounded, Bound::Unbounded);
                let old = forth.map(number).filter(|number| number % 10 == 0);
                assert!(old.eq((0..2_000).map(|number| number * 10)));
                let back = leaves.range(Bound::Unbounded, Bound::Unbounded).rev();
                let old = back.map(number).filter(|number| number % 10 == 0);
                assert!(old.eq((0..2_000).rev().map(|number| number * 10)));
            }
        });
    }
}
