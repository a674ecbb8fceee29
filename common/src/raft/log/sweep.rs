//! Deletes purged entries a few at a time.
//!
//! A purge takes effect with one row, the group's new bounds. The entries below are deleted behind it, in chunks that ride
//! along with other batches, and each chunk says in the same batch how far it came, so that an interrupted sweep goes on
//! where it was.

use std::collections::VecDeque;

use super::database::Row;
use super::keys::{self, GroupId, GroupRow};
use super::records;

/// Entries of one group that are to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sweep {
    pub(super) group: GroupId,
    /// First and last index, inclusive; an empty range only records the end.
    pub(super) next: u64,
    pub(super) last: u64,
    /// What the group's purge covers: no entry up to here is left once the sweep is over.
    pub(super) purged: u64,
}

/// What a write asks of the sweeps.
#[derive(Debug, Clone, Copy)]
pub(super) enum SweepOrder {
    /// Begin or extend one.
    Begin(Sweep),
    /// The group is being dropped: forget its sweep.
    Cancel(GroupId),
}

/// The sweeps under way, one a group unless its log has had a gap, which a snapshot leaves.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    pending: VecDeque<Sweep>,
}

impl Sweeps {
    pub(super) fn new(pending: Vec<Sweep>) -> Self {
        Self {
            pending: pending.into(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn obey(&mut self, order: SweepOrder) {
        match order {
            SweepOrder::Cancel(group) => self.pending.retain(|sweep| sweep.group != group),
            SweepOrder::Begin(new) => match self.pending.iter_mut().rfind(|sweep| sweep.group == new.group) {
                Some(sweep) if new.next == sweep.last.saturating_add(1) => {
                    sweep.last = new.last;
                    sweep.purged = new.purged;
                }
                _ => self.pending.push_back(new),
            },
        }
    }

    /// Adds the rows of the next chunk: at most `max` deletions, and how far they came.
    pub(super) fn advance(&mut self, max: u64, rows: &mut Vec<Row>) {
        let Some(sweep) = self.pending.front_mut() else {
            return;
        };
        let group = sweep.group;
        let end = sweep.next.saturating_add(max).min(sweep.last.saturating_add(1));
        rows.extend((sweep.next..end).map(|index| Row::no_entry(group, index)));
        let swept = if end > sweep.last { sweep.purged } else { end - 1 };
        rows.push(Row::raft(
            &keys::group_row(group, GroupRow::Swept),
            Some(records::encode_swept(swept)),
        ));
        sweep.next = end;
        if end > sweep.last {
            self.pending.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{RangeId, ReplicaId};

    fn group(replica: u64) -> GroupId {
        GroupId {
            range: RangeId(1),
            replica: ReplicaId(replica),
        }
    }

    fn sweep(replica: u64, next: u64, last: u64, purged: u64) -> Sweep {
        Sweep {
            group: group(replica),
            next,
            last,
            purged,
        }
    }

    /// Indices deleted and the position noted by one chunk.
    fn chunk(sweeps: &mut Sweeps, max: u64) -> (Vec<u64>, u64) {
        let mut rows = Vec::new();
        sweeps.advance(max, &mut rows);
        let position = rows.pop().and_then(|row| row.value).expect("a position");
        let indices = rows
            .iter()
            .map(|row| keys::index_of(&row.key).expect("an entry"))
            .collect();
        (indices, records::decode_swept(&position).expect("a position"))
    }

    #[test]
    fn goes_in_chunks_and_notes_its_position() {
        let mut sweeps = Sweeps::new(vec![sweep(1, 4, 8, 20)]);
        assert_eq!(chunk(&mut sweeps, 3), (vec![4, 5, 6], 6));
        assert_eq!(chunk(&mut sweeps, 3), (vec![7, 8], 20));
        assert!(sweeps.is_empty());
    }

    #[test]
    fn an_empty_range_only_notes_the_position() {
        let mut sweeps = Sweeps::new(vec![sweep(1, 5, 4, 9)]);
        assert_eq!(chunk(&mut sweeps, 3), (vec![], 9));
        assert!(sweeps.is_empty());
    }

    #[test]
    fn a_later_purge_extends_the_sweep() {
        let mut sweeps = Sweeps::default();
        sweeps.obey(SweepOrder::Begin(sweep(1, 0, 5, 5)));
        sweeps.obey(SweepOrder::Begin(sweep(2, 0, 1, 1)));
        chunk(&mut sweeps, 2);
        sweeps.obey(SweepOrder::Begin(sweep(1, 6, 7, 7)));
        assert_eq!(chunk(&mut sweeps, 9), (vec![2, 3, 4, 5, 6, 7], 7));
        assert_eq!(chunk(&mut sweeps, 9), (vec![0, 1], 1));
        assert!(sweeps.is_empty());
    }

    #[test]
    fn a_gap_is_not_swept() {
        let mut sweeps = Sweeps::default();
        sweeps.obey(SweepOrder::Begin(sweep(1, 0, 1, 1_000_000)));
        sweeps.obey(SweepOrder::Begin(sweep(1, 1_000_001, 1_000_002, 1_000_002)));
        assert_eq!(chunk(&mut sweeps, 9), (vec![0, 1], 1_000_000));
        assert_eq!(chunk(&mut sweeps, 9), (vec![1_000_001, 1_000_002], 1_000_002));
        assert!(sweeps.is_empty());
    }

    #[test]
    fn a_dropped_group_is_not_swept() {
        let mut sweeps = Sweeps::new(vec![sweep(1, 0, 5, 5), sweep(2, 0, 5, 5)]);
        sweeps.obey(SweepOrder::Cancel(group(1)));
        assert_eq!(sweeps.pending, [sweep(2, 0, 5, 5)]);
    }
}
