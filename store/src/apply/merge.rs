//! A range that goes into its left neighbour (`docs/split-merge.md`).
//!
//! Whether it goes is decided in its own log, by [`freeze`], then [`thaw`] or [`give_up`], whichever comes first. The
//! neighbour takes it over with [`absorb`].

use std::sync::Arc;

use bytes::Bytes;
use holdfast_common::range::Descriptor;

use super::{Answer, Applied, MergeRefused};
use crate::command::Absorb;
use crate::engine::Batch;
use crate::keys;
use crate::state::{Merge, RangeState};

/// Stops serving.
pub(super) fn freeze(state: &mut RangeState, index: u64, bounds: u64) -> Applied {
    let frozen = at_bounds(state, bounds).and_then(|()| {
        if state.merge != Merge::No {
            return Err(MergeRefused::Merging);
        }
        if state.descriptor.span.start().is_empty() {
            return Err(MergeRefused::NoNeighbour);
        }
        if !has_voters_only(&state.descriptor) {
            return Err(MergeRefused::Members);
        }
        state.merge = Merge::Frozen { at: index };
        raise_bounds(state);
        Ok(())
    });
    answered(frozen)
}

/// Serves again, unless the range has given itself up.
pub(super) fn thaw(state: &mut RangeState, bounds: u64) -> Applied {
    let thawed = frozen_at(state, bounds).map(|_| {
        state.merge = Merge::No;
        raise_bounds(state);
    });
    answered(thawed)
}

/// Gives the range up, unless it has thawed.
pub(super) fn give_up(state: &mut RangeState, bounds: u64) -> Applied {
    let given_up = frozen_at(state, bounds).map(|frozen| state.merge = Merge::Yielded { frozen });
    answered(given_up)
}

/// Whether the range takes its right neighbour over as it was asked to.
pub(crate) fn may_absorb(state: &RangeState, absorb: &Absorb) -> Result<(), MergeRefused> {
    at_bounds(state, absorb.bounds)?;
    let membership = state.descriptor.epoch.membership;
    if membership != absorb.membership {
        return Err(MergeRefused::OtherMembers {
            planned: absorb.membership,
            current: membership,
        });
    }
    if state.merge != Merge::No {
        return Err(MergeRefused::Merging);
    }
    Ok(())
}

/// Takes over a neighbour whose state on this store is `source`, at the entry `index`. The rows delete what was the
/// neighbour's own; its records stay where they are.
///
/// Nothing is taken over, and nothing changed, if the two don't touch: only a bug can bring that about.
pub(crate) fn absorb(state: &mut RangeState, index: u64, source: &RangeState) -> Option<Applied> {
    let (left, right) = (&state.descriptor, &source.descriptor);
    let span = left.span.join(&right.span)?;
    let range = state.identity.range;
    let mut descriptor = Descriptor::clone(left);
    descriptor.span = span;
    descriptor.epoch.bounds = left.epoch.bounds.max(right.epoch.bounds) + 1;
    state.descriptor = Arc::new(descriptor);
    state.last_revision = state.last_revision.max(source.last_revision);
    state.size_bytes = state.size_bytes.saturating_add(source.size_bytes);
    state.keys = state.keys.saturating_add(source.keys);
    state.tokens.absorb(source.tokens.clone());

    let mut rows = Batch::with_capacity(4);
    rows.delete(Bytes::copy_from_slice(&keys::range_row(source.identity.range)));
    for entry in source.sessions.entries() {
        let key = keys::outcomes(source.identity.range, entry);
        rows.delete(Bytes::copy_from_slice(&key));
    }
    let mut forgotten = Vec::new();
    state.sessions.absorb(&source.sessions, index, &mut forgotten);
    for entry in forgotten.into_iter().filter(|entry| *entry != index) {
        rows.delete(Bytes::copy_from_slice(&keys::outcomes(range, entry)));
    }
    if let Some(row) = state.sessions.row(index) {
        rows.put(Bytes::copy_from_slice(&keys::outcomes(range, index)), row);
    }
    Some(Applied {
        rows,
        answer: Answer::Merge(Ok(())),
        effects: Vec::new(),
    })
}

/// An answer that changed no row but the range's own.
pub(crate) fn answered(outcome: Result<(), MergeRefused>) -> Applied {
    Applied {
        rows: Batch::with_capacity(1),
        answer: Answer::Merge(outcome),
        effects: Vec::new(),
    }
}

fn at_bounds(state: &RangeState, planned: u64) -> Result<(), MergeRefused> {
    match state.descriptor.epoch.bounds {
        current if current == planned => Ok(()),
        current => Err(MergeRefused::OtherBounds { planned, current }),
    }
}

/// The entry of the freeze that made these bounds, if the range is still in it.
fn frozen_at(state: &RangeState, bounds: u64) -> Result<u64, MergeRefused> {
    at_bounds(state, bounds)?;
    match state.merge {
        Merge::Frozen { at } => Ok(at),
        Merge::No => Err(MergeRefused::NotFrozen),
        Merge::Yielded { .. } => Err(MergeRefused::Merging),
    }
}

/// Whether there are but voters, and no change of membership under way.
pub(crate) fn has_voters_only(descriptor: &Descriptor) -> bool {
    !descriptor.is_joint() && descriptor.voters().count() == descriptor.replicas.len()
}

fn raise_bounds(state: &mut RangeState) {
    let mut descriptor = Descriptor::clone(&state.descriptor);
    descriptor.epoch.bounds += 1;
    state.descriptor = Arc::new(descriptor);
}

#[cfg(test)]
#[path = "merge_test.rs"]
mod tests;
