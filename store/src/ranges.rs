//! Which parts of the key space lie on this store.
//!
//! Replicas on one store never overlap: they share one ordered key space, and a row has one owner. A replica that has its
//! data is counted by what it has applied; one that is about to install a snapshot reserves the span first, so that two
//! snapshots of different ages can't both be let in.

use dashmap::DashMap;
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::key::Span;
use holdfast_common::range::Descriptor;
use parking_lot::Mutex;

use crate::shared::SharedRange;

/// The replicas of a store that run, by range.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    running: DashMap<RangeId, (ReplicaId, SharedRange)>,
    /// Spans of snapshots that were let in and are not applied yet; at most one a range.
    reserved: Mutex<Vec<(RangeId, Span)>>,
}

impl Ranges {
    /// A replica runs.
    pub(crate) fn insert(&self, range: RangeId, replica: ReplicaId, shared: SharedRange) {
        self.running.insert(range, (replica, shared));
    }

    /// A replica runs no more.
    pub(crate) fn remove(&self, range: RangeId) {
        self.running.remove(&range);
        self.release(range);
    }

    /// The range as it is, and whatever else on this store holds `key`: what a sender with an old map should know.
    pub(crate) fn around(&self, range: RangeId, key: &[u8]) -> Vec<Descriptor> {
        let descriptors = self
            .running
            .iter()
            .filter_map(|entry| entry.value().1.descriptor());
        let wanted = |descriptor: &Descriptor| descriptor.id == range || descriptor.span.contains(key);
        descriptors
            .filter(|descriptor| wanted(descriptor))
            .map(|descriptor| (*descriptor).clone())
            .collect()
    }

    /// Another replica than `me` that holds part of `span`.
    pub(crate) fn overlaps(&self, me: ReplicaId, span: &Span) -> Option<RangeId> {
        self.overlapping(me, span).next()
    }

    /// All replicas but `me` that hold part of `span`.
    pub(crate) fn overlapping(&self, me: ReplicaId, span: &Span) -> impl Iterator<Item = RangeId> {
        self.running.iter().filter_map(move |entry| {
            let (replica, shared) = entry.value();
            let overlaps =
                *replica != me && shared.descriptor().is_some_and(|other| other.span.overlaps(span));
            overlaps.then(|| *entry.key())
        })
    }

    /// Reserves `span` for a snapshot of `range`, in place of what was reserved for it before.
    ///
    /// # Errors
    /// The range that holds or has reserved part of it.
    pub(crate) fn reserve(&self, range: RangeId, me: ReplicaId, span: &Span) -> Result<(), RangeId> {
        let mut reserved = self.reserved.lock();
        if let Some(other) = self.overlaps(me, span) {
            return Err(other);
        }
        if let Some((other, _)) = reserved
            .iter()
            .find(|(other, taken)| *other != range && taken.overlaps(span))
        {
            return Err(*other);
        }
        reserved.retain(|(known, _)| *known != range);
        reserved.push((range, span.clone()));
        Ok(())
    }

    /// Ends the reservation of `range`: its snapshot is installed, or its replica is gone.
    pub(crate) fn release(&self, range: RangeId) {
        self.reserved.lock().retain(|(known, _)| *known != range);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use holdfast_common::range::Epoch;

    use super::*;
    use crate::shared::RangeView;

    fn span(start: &'static str, end: &'static str) -> Span {
        Span::new(start, end).unwrap()
    }

    fn ranges(present: &[(u64, &'static str, &'static str)]) -> Ranges {
        let ranges = Ranges::default();
        for (id, start, end) in present {
            let descriptor = Descriptor {
                id: RangeId(*id),
                span: span(start, end),
                epoch: Epoch::default(),
                replicas: Vec::new(),
            };
            let shared = SharedRange::default();
            shared.set(RangeView {
                descriptor: Some(Arc::new(descriptor)),
                ..RangeView::default()
            });
            ranges.insert(RangeId(*id), ReplicaId(10 * id), shared);
        }
        ranges.insert(RangeId(9), ReplicaId(90), SharedRange::default());
        ranges
    }

    #[test]
    fn a_sender_learns_of_its_range_and_of_the_keys_owner() {
        let ranges = ranges(&[(1, "a", "c"), (2, "c", "e"), (3, "e", "")]);
        let mut found: Vec<_> = ranges
            .around(RangeId(1), b"d")
            .into_iter()
            .map(|range| range.id.0)
            .collect();
        found.sort_unstable();
        assert_eq!(found, [1, 2]);
    }

    #[test]
    fn a_replica_does_not_overlap_itself() {
        let ranges = ranges(&[(1, "a", "c"), (2, "c", "e")]);
        assert_eq!(ranges.overlaps(ReplicaId(10), &span("b", "d")), Some(RangeId(2)));
        assert_eq!(ranges.overlaps(ReplicaId(20), &span("c", "z")), None);
        assert_eq!(ranges.overlaps(ReplicaId(90), &span("x", "z")), None);
        let mut both: Vec<_> = ranges.overlapping(ReplicaId(90), &span("b", "d")).collect();
        both.sort_unstable();
        assert_eq!(both, [RangeId(1), RangeId(2)]);
    }

    #[test]
    fn snapshots_that_overlap_are_not_both_let_in() {
        let ranges = ranges(&[(1, "a", "c")]);
        assert_eq!(
            ranges.reserve(RangeId(9), ReplicaId(90), &span("b", "d")),
            Err(RangeId(1))
        );
        assert_eq!(ranges.reserve(RangeId(9), ReplicaId(90), &span("c", "e")), Ok(()));
        assert_eq!(
            ranges.reserve(RangeId(8), ReplicaId(80), &span("d", "")),
            Err(RangeId(9))
        );
        // A newer snapshot of the same range, after a split: what it does not hold is free again.
        assert_eq!(ranges.reserve(RangeId(9), ReplicaId(90), &span("c", "d")), Ok(()));
        assert_eq!(ranges.reserve(RangeId(8), ReplicaId(80), &span("d", "")), Ok(()));
        ranges.release(RangeId(9));
        assert_eq!(ranges.reserve(RangeId(7), ReplicaId(70), &span("c", "d")), Ok(()));
    }
}
