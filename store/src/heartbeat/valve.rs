//! The valve: splits a range that has grown far too large while the placement driver is away. Pure.
//!
//! Splitting is the driver's business. But a range has one leader and one log, so one that only grows ends by taking more
//! than its stores can do. Whoever splits needs ids that nobody else has; a store asks for a block of them in good time,
//! while the driver still answers.

use std::time::Duration;

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::proto::placement::IdBlock;
use holdfast_common::range::Descriptor;

/// Ids asked for at a time.
pub(super) const BLOCK: u32 = 128;

/// Ids that nobody else has.
#[derive(Debug, Default)]
pub(super) struct SpareIds {
    next: u64,
    left: u32,
}

impl SpareIds {
    /// Takes a new block in; what was left of the one before is never used.
    pub(super) fn refill(&mut self, block: IdBlock) {
        (self.next, self.left) = (block.first, block.count);
    }

    /// Whether they may not do for another split.
    pub(super) fn are_low(&self) -> bool {
        self.left < BLOCK / 4
    }

    /// An id for the right part of a split of `range`, and one for each of its replicas; none when they don't do.
    pub(super) fn for_split(&mut self, range: &Descriptor) -> Option<(RangeId, Vec<(StoreId, ReplicaId)>)> {
        let wanted = u32::try_from(range.replicas.len()).ok()?.checked_add(1)?;
        self.left = self.left.checked_sub(wanted)?;
        let right = RangeId(self.next);
        let replicas = range.replicas.iter().zip(self.next + 1..);
        let replicas = replicas
            .map(|(replica, id)| (replica.store, ReplicaId(id)))
            .collect();
        self.next += u64::from(wanted);
        Some((right, replicas))
    }
}

/// Whether a range is near enough to a split that ids for one should be at hand.
pub(super) fn is_near(size_bytes: u64, split_bytes: u64) -> bool {
    split_bytes > 0 && size_bytes > split_bytes / 2
}

/// Whether a leader should split its range by itself, the driver having been `silent` that long. `after` of zero is never.
pub(super) fn is_due(size_bytes: u64, split_bytes: u64, silent: Duration, after: Duration) -> bool {
    !after.is_zero() && silent > after && split_bytes > 0 && size_bytes > split_bytes.saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use holdfast_common::key::Span;
    use holdfast_common::range::{Epoch, Replica, Role};

    use super::*;

    #[test]
    fn only_much_too_large_ranges_and_only_after_a_long_silence() {
        let (minute, second) = (Duration::from_secs(60), Duration::from_secs(1));
        assert!(is_due(201, 100, minute + second, minute));
        assert!(!is_due(200, 100, minute + second, minute));
        assert!(!is_due(201, 100, minute, minute));
        assert!(!is_due(201, 100, minute, Duration::ZERO));
        assert!(!is_due(201, 0, minute + second, minute));
    }

    #[test]
    fn an_id_is_given_once() {
        let replica = |id| Replica {
            id: ReplicaId(id),
            store: StoreId(10 + id),
            role: Role::Voter,
        };
        let range = Descriptor {
            id: RangeId(1),
            span: Span::everything(),
            epoch: Epoch::default(),
            replicas: vec![replica(1), replica(2), replica(3)],
        };
        let mut ids = SpareIds::default();
        assert!(ids.are_low() && ids.for_split(&range).is_none());
        ids.refill(IdBlock { first: 100, count: 9 });
        let stores = |first| {
            [(11, first), (12, first + 1), (13, first + 2)]
                .map(|(store, id)| (StoreId(store), ReplicaId(id)))
                .to_vec()
        };
        assert_eq!(ids.for_split(&range), Some((RangeId(100), stores(101))));
        assert_eq!(ids.for_split(&range), Some((RangeId(104), stores(105))));
        assert_eq!(ids.for_split(&range), None);
    }
}
