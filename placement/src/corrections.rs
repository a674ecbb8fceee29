//! What is put right without a plan: small, stateless repairs of what crashes and lost messages leave behind. Pure.
//!
//! - A replica that is in no configuration of its range any more, and in no plan, is destroyed. So is one whose range was
//!   merged away, unless another of its store ends where it begins and may still have to take it over.
//! - A replica of a group that was given up, its range having been brought back from another survivor, is destroyed at
//!   once, even if it leads.
//! - A member of a range that does not exist on its store (its split came by snapshot, its store missed the step that
//!   creates it) is created, empty.
//! - A joint configuration whose change has no operator any more is completed.
//!
//! Each is told again with every heartbeat until the reports show it done.

use std::collections::{BTreeMap, HashMap};

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::proto::placement::{ReplicaReport, Step, VoterChange};
use holdfast_common::range::{Descriptor, Role};

use crate::operator::action::{change_voters, voters};
use crate::reports::StoreReport;
use crate::view::{Health, Millis, View};

/// Time that something must look wrong before it is put right: reports of different stores are not of one moment.
const GRACE_MS: Millis = 5_000;

/// Most corrections told to one store at a time.
const MAX_PER_STORE: usize = 256;

/// Finds what is to be put right, and remembers since when it looked wrong.
#[derive(Debug, Default)]
pub struct Corrections {
    since: HashMap<Wrong, Millis>,
    due: BTreeMap<StoreId, Vec<Step>>,
}

/// Something that looks wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Wrong {
    Orphan(ReplicaId),
    Missing(ReplicaId),
    Joint(RangeId, u64),
}

impl Corrections {
    /// Looks at everything anew.
    pub fn review(&mut self, view: &View<'_>) {
        let mut found = Vec::new();
        for (store, report) in view.reports.stores() {
            let orphans = report
                .replicas
                .values()
                .filter(|replica| is_orphan(replica, report, view));
            found.extend(orphans.map(|orphan| (Wrong::Orphan(orphan.replica), store, destroy(orphan, view))));
        }
        for range in view.state.map.iter() {
            found.extend(missing(range, view));
            found.extend(half_done(range, view));
        }
        let before = std::mem::take(&mut self.since);
        self.due.clear();
        for (wrong, store, step) in found {
            let since = before.get(&wrong).copied().unwrap_or(view.now);
            self.since.insert(wrong, since);
            let due = self.due.entry(store).or_default();
            let is_urgent = matches!(step, Step::Fence { .. });
            if (is_urgent || view.now.saturating_sub(since) >= GRACE_MS) && due.len() < MAX_PER_STORE {
                due.push(step);
            }
        }
    }

    /// What to tell a store.
    pub fn due(&self, store: StoreId) -> &[Step] {
        self.due.get(&store).map_or(&[], Vec::as_slice)
    }
}

/// Whether a replica belongs nowhere: its range went on without it, and no plan can make it a member. Ids are never
/// reused, so what was a member once and is none now never will be; what never was can only become one by a plan.
fn is_orphan(report: &ReplicaReport, store: &StoreReport, view: &View<'_>) -> bool {
    let Some(range) = view.state.map.get(report.descriptor.id) else {
        return was_merged_away(report, store, view);
    };
    range.replica(report.replica).is_none()
        && range.epoch.membership > report.descriptor.epoch.membership
        && view.state.is_out_of_plans(report.replica)
}

/// Whether a range that the map does not have any more is one whose keys belong to another now: bounds versions grow along
/// the life of a key, so whoever holds its first key under a larger one came later. A neighbour on the store may still have to
/// take it over, unless its own bounds are as large as those: what comes of a merge has larger bounds than both had before.
fn was_merged_away(report: &ReplicaReport, store: &StoreReport, view: &View<'_>) -> bool {
    let dead = &report.descriptor;
    if !view.state.is_out_of_plans(report.replica) {
        return false;
    }
    if dead.voters().next().is_none() {
        // It waits for a first snapshot that nobody will send: only for ranges of the map are replicas created.
        return true;
    }
    let (start, version) = (dead.span.start(), dead.epoch.bounds);
    let holder = view.state.map.at(start);
    let mut others = store.replicas.values();
    let Some(holder) = holder.filter(|holder| holder.epoch.bounds > version) else {
        return false;
    };
    !others.any(|other| {
        let left = &other.descriptor;
        !start.is_empty() && left.span.end() == start && left.epoch.bounds < holder.epoch.bounds
    })
}

/// A member of a group that was given up may still lead it, and must not for a moment longer.
fn is_given_up(report: &ReplicaReport, view: &View<'_>) -> bool {
    let range = view.state.map.get(report.descriptor.id);
    let generation = report.descriptor.epoch.generation();
    !report.descriptor.replicas.is_empty() && range.is_some_and(|range| range.epoch.generation() > generation)
}

fn destroy(orphan: &ReplicaReport, view: &View<'_>) -> Step {
    if is_given_up(orphan, view) {
        return Step::Fence {
            range: orphan.descriptor.id,
            replica: orphan.replica,
        };
    }
    Step::DestroyReplica {
        range: orphan.descriptor.id,
        replica: orphan.replica,
    }
}

fn missing<'a>(
    range: &'a Descriptor,
    view: &'a View<'_>,
) -> impl Iterator<Item = (Wrong, StoreId, Step)> + 'a {
    let absent = range
        .replicas
        .iter()
        .filter(|replica| view.reports.lacks(replica.store, replica.id));
    let wanted = absent.filter(|replica| {
        view.health(replica.store) == Health::Up
            && view.state.is_out_of_plans(replica.id)
            && replica.role != Role::Outgoing
    });
    wanted.map(|replica| {
        let step = Step::CreateReplica {
            range: range.id,
            replica: replica.id,
        };
        (Wrong::Missing(replica.id), replica.store, step)
    })
}

fn half_done(range: &Descriptor, view: &View<'_>) -> Option<(Wrong, StoreId, Step)> {
    if !range.is_joint() || view.is_busy(range.id) {
        return None;
    }
    let leaving = range
        .replicas
        .iter()
        .filter(|replica| replica.role == Role::Outgoing)
        .map(|replica| replica.id);
    let complete = VoterChange {
        from: voters(range),
        promote: Vec::new(),
        remove: leaving.collect(),
    };
    let (store, step) = change_voters(range.id, &complete, view)?;
    Some((Wrong::Joint(range.id, range.epoch.membership), store, step))
}

#[cfg(test)]
#[path = "corrections_test.rs"]
mod tests;
