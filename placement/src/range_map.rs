//! The map of the key space: which range holds which keys, as far as it is known. Pure.
//!
//! The truth about a range lies in its own group; the map learns it from what replicas report, in any order and with any
//! delay, by [`RangeMap::observe`]. Two rules make the order of reports irrelevant:
//!
//! - *Each part of a description is taken by its own version.* Bounds change only with [`Epoch::bounds`], membership only
//!   with [`Epoch::membership`], so a report that is newer in one part and older in the other is taken in part.
//! - *A key belongs to the range with the largest bounds version that was seen to hold it.* Every split and merge gives
//!   the ranges that it makes a larger version than those that it takes from, so along the life of one key the versions of
//!   its owners strictly grow. A range whose first key was seen in a range of a larger version no longer exists.
//!
//! The halves of a split are reported apart, so for a moment the map has a hole (the left half has shrunk, the right one is
//! not known yet) or an overlap (the right half is known, the left one has not shrunk yet). A hole is answered by nobody, an
//! overlap by the range that begins last, which is the newer one: a split leaves the beginning of a range where it is.
//!
//! [`Epoch::bounds`]: holdfast_common::range::Epoch::bounds
//! [`Epoch::membership`]: holdfast_common::range::Epoch::membership

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::range::Descriptor;
use serde::{Deserialize, Serialize};

/// What is known of all ranges.
///
/// Invariants, checked by [`RangeMap::validate`]: every range is indexed by the beginning of its span; no two begin at the
/// same key; no range begins inside another of an equal or larger bounds version.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RangeMap {
    ranges: BTreeMap<RangeId, Descriptor>,
    by_start: BTreeMap<Bytes, RangeId>,
}

/// What an observation changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// Whether the observed range is new or was changed.
    pub changed: bool,
    /// Ranges that are no more.
    pub gone: Vec<RangeId>,
}

/// What is wrong with a map; only a bug can cause it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    /// The index and the ranges disagree.
    #[error("range {0} is not indexed by the beginning of its span")]
    Index(RangeId),
    /// A range begins where a newer one lies.
    #[error("range {0} begins inside range {1}, which is newer")]
    Shadowed(RangeId, RangeId),
}

impl RangeMap {
    /// Takes from a description what is newer than what is known.
    pub fn observe(&mut self, seen: &Descriptor) -> Learned {
        let mut learned = Learned::default();
        if !self.would_learn(seen) {
            return learned;
        }
        learned.changed = true;
        let merged = match self.ranges.get(&seen.id) {
            Some(known) => self.newer_parts(known, seen),
            None => seen.clone(),
        };
        if let Some(known) = self.ranges.get(&seen.id) {
            self.by_start.remove(known.span.start());
        }
        learned.gone = self.replaced_by(&merged);
        for id in &learned.gone {
            if let Some(gone) = self.ranges.remove(id) {
                self.by_start.remove(gone.span.start());
            }
        }
        self.by_start.insert(merged.span.start().clone(), merged.id);
        self.ranges.insert(merged.id, merged);
        learned
    }

    /// Whether [`RangeMap::observe`] would change anything.
    pub fn would_learn(&self, seen: &Descriptor) -> bool {
        if seen.voters().next().is_none() {
            // A replica that waits for its first snapshot knows nothing of its range.
            return false;
        }
        match self.ranges.get(&seen.id) {
            Some(known) => {
                seen.epoch.membership > known.epoch.membership || self.has_newer_bounds(known, seen)
            }
            None => !self.was_replaced(seen),
        }
    }

    /// The range with this id.
    pub fn get(&self, id: RangeId) -> Option<&Descriptor> {
        self.ranges.get(&id)
    }

    /// The range that holds `key`, unless its owner is not known at present.
    pub fn at(&self, key: &[u8]) -> Option<&Descriptor> {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let (_, nearest) = self.by_start.range::<[u8], _>(upto).next_back()?;
        self.ranges.get(nearest).filter(|range| range.span.contains(key))
    }

    /// Every range, in key order.
    pub fn iter(&self) -> impl Iterator<Item = &Descriptor> {
        self.by_start.values().filter_map(|id| self.ranges.get(id))
    }

    /// The ranges that begin at or after `start`, in key order.
    pub fn iter_from(&self, start: &[u8]) -> impl Iterator<Item = &Descriptor> {
        let from = (Bound::Included(start), Bound::Unbounded);
        self.by_start
            .range::<[u8], _>(from)
            .filter_map(|(_, id)| self.ranges.get(id))
    }

    /// Whether any range has a replica on a store.
    pub fn is_on(&self, store: StoreId) -> bool {
        self.iter().any(|range| range.replica_on(store).is_some())
    }

    /// How many ranges are known.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether no range is known yet.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The part of its span that a range still holds: a neighbour that was split off it ends it, even if its own word of
    /// the split has not come yet.
    pub fn effective_span(&self, range: &Descriptor) -> Span {
        let after = (Bound::Excluded(&range.span.start()[..]), Bound::Unbounded);
        match self.by_start.range::<[u8], _>(after).next() {
            Some((next, _)) if range.span.contains(next) => {
                Span::new(range.span.start().clone(), next.clone()).unwrap_or_else(|_| range.span.clone())
            }
            _ => range.span.clone(),
        }
    }

    /// The parts of the key space whose owner is not known at present, in order.
    pub fn holes(&self) -> Vec<Span> {
        let mut holes = Vec::new();
        // Where the next range has to begin; none once the end of the key space is reached.
        let mut expected = Some(Bytes::new());
        for range in self.iter() {
            let Some(from) = expected else { break };
            holes.extend(
                (from < *range.span.start())
                    .then(|| Span::new(from, range.span.start().clone()).ok())
                    .flatten(),
            );
            let end = self.effective_span(range).end().clone();
            expected = (!end.is_empty()).then_some(end);
        }
        holes.extend(expected.and_then(|from| Span::new(from, Bytes::new()).ok()));
        holes
    }

    /// Checks the invariants.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn validate(&self) -> Result<(), Inconsistency> {
        if let Some((_, id)) = self.by_start.iter().find(|(start, id)| {
            self.ranges
                .get(id)
                .is_none_or(|range| range.span.start() != *start)
        }) {
            return Err(Inconsistency::Index(*id));
        }
        for range in self.ranges.values() {
            if self.by_start.get(range.span.start()) != Some(&range.id) {
                return Err(Inconsistency::Index(range.id));
            }
            if let Some(newer) = self
                .holder(range)
                .filter(|other| other.epoch.bounds >= range.epoch.bounds)
            {
                return Err(Inconsistency::Shadowed(range.id, newer.id));
            }
        }
        Ok(())
    }

    /// Whether the first key of a range was seen in another that came to hold it later: then the description is a memory of
    /// a range that was merged away.
    fn was_replaced(&self, seen: &Descriptor) -> bool {
        self.holder(seen)
            .is_some_and(|other| other.epoch.bounds >= seen.epoch.bounds)
    }

    fn has_newer_bounds(&self, known: &Descriptor, seen: &Descriptor) -> bool {
        seen.epoch.bounds > known.epoch.bounds && !self.was_replaced(seen)
    }

    /// `known`, with each part replaced that is newer in `seen`.
    fn newer_parts(&self, known: &Descriptor, seen: &Descriptor) -> Descriptor {
        let mut merged = known.clone();
        if self.has_newer_bounds(known, seen) {
            merged.span = seen.span.clone();
            merged.epoch.bounds = seen.epoch.bounds;
        }
        if seen.epoch.membership > known.epoch.membership {
            merged.replicas = seen.replicas.clone();
            merged.epoch.membership = seen.epoch.membership;
        }
        merged
    }

    /// The known ranges that can't exist any more beside `newer`.
    fn replaced_by(&self, newer: &Descriptor) -> Vec<RangeId> {
        let inside = self
            .iter_from(newer.span.start())
            .take_while(|other| newer.span.contains(other.span.start()));
        let replaced = inside.filter(|other| other.id != newer.id && other.epoch.bounds < newer.epoch.bounds);
        replaced.map(|other| other.id).collect()
    }

    /// The other range that holds the first key of `range`, if one does. If several overlap there, the one that begins
    /// last is the newest, by the invariants.
    fn holder(&self, range: &Descriptor) -> Option<&Descriptor> {
        let start = &range.span.start()[..];
        let upto = (Bound::Unbounded, Bound::Included(start));
        let mut earlier = self
            .by_start
            .range::<[u8], _>(upto)
            .rev()
            .filter_map(|(_, id)| self.ranges.get(id));
        earlier.find(|other| other.id != range.id && other.span.contains(start))
    }
}

#[cfg(test)]
#[path = "range_map_test.rs"]
mod tests;
