//! Which ranges have lost their majority for good, and with which survivor each could go on. Pure.
//!
//! The operator of the cluster names the stores that will never come back. What a range can go on with is decided by what
//! its survivors say of themselves: of their logs, the one that Raft would call the newest holds every committed entry that
//! any survivor holds (`docs/unsafe-recovery.md`). A range that could have a majority without the lost stores is left alone.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::proto::recovery::{LogEnd, Survivor};
use holdfast_common::range::{Descriptor, Epoch, Replica, Role};

use crate::operator::Recovery;
use crate::view::{Health, View};

/// What survivors say, by store.
pub type Surveys = BTreeMap<StoreId, Vec<Survivor>>;

/// A range that lost replicas, and what can be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The range.
    pub range: RangeId,
    /// Its part of the key space, as the map has it.
    pub span: Span,
    /// What its survivors have, the best first.
    pub survivors: Vec<(StoreId, Survivor)>,
    /// Entries that the lost leader had and the chosen survivor lacked, when the leader was last heard of; none when this
    /// placement member has not heard of it.
    pub behind: Option<u64>,
    /// What can be done.
    pub verdict: Verdict,
}

/// What can be done for a range.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It has, or may have, a majority without the lost stores.
    Unharmed(String),
    /// Not now, because of this.
    Wait(String),
    /// Nothing: no replica with data is left.
    Gone,
    /// It can go on with this survivor.
    Recover(Box<Recovery>),
}

/// Why nothing may be recovered: a store that is named as lost is not known, or is not down.
pub fn check_lost(lost: &BTreeSet<StoreId>, view: &View<'_>) -> Result<(), String> {
    if lost.is_empty() {
        return Err("name the stores that are lost for good".to_owned());
    }
    for store in lost {
        if !view.state.stores.contains_key(store) {
            return Err(format!("there is no store {store}"));
        }
        match view.health(*store) {
            Health::Down => {}
            Health::Up => return Err(format!("store {store} is up: it is not lost")),
            Health::Suspect => {
                return Err(format!(
                    "store {store} has been silent for {} ms only, and counts as down after {} ms: it may be back at any moment",
                    view.silence(*store),
                    view.state.settings.store_down_after_ms
                ));
            }
        }
    }
    Ok(())
}

/// The ranges that may have lost their majority with these stores, by what the map says.
pub fn harmed(lost: &BTreeSet<StoreId>, view: &View<'_>) -> Vec<RangeId> {
    let is_harmed = |range: &&Descriptor| {
        let (voters, left) = count(range, lost);
        left < voters && (2 * left <= voters || view.leader(range.id).is_none())
    };
    view.state
        .map
        .iter()
        .filter(is_harmed)
        .map(|range| range.id)
        .collect()
}

/// Those that vote, and those of them that are on no lost store.
fn count(range: &Descriptor, lost: &BTreeSet<StoreId>) -> (usize, usize) {
    let left = range.voters().filter(|voter| !lost.contains(&voter.store));
    (range.voters().count(), left.count())
}

/// What can be done for each of these ranges.
pub fn assess(
    ranges: &[RangeId],
    lost: &BTreeSet<StoreId>,
    surveys: &Surveys,
    view: &View<'_>,
) -> Vec<Finding> {
    let known = ranges.iter().filter_map(|id| view.state.map.get(*id));
    known.map(|range| examine(range, lost, surveys, view)).collect()
}

/// Has ranges of which nothing is left begin anew, empty: those that do not come back as part of another.
pub fn begin_anew(findings: &mut [Finding], lost: &BTreeSet<StoreId>, view: &View<'_>) {
    let kept: Vec<Span> = findings
        .iter()
        .filter_map(|finding| match &finding.verdict {
            Verdict::Recover(recovery) => Some(recovery.span.clone()),
            _ => None,
        })
        .collect();
    let mut given: BTreeMap<StoreId, usize> = BTreeMap::new();
    let gone = findings
        .iter_mut()
        .filter(|finding| finding.verdict == Verdict::Gone);
    for finding in gone.filter(|finding| !kept.iter().any(|span| span.overlaps(&finding.span))) {
        let Some(range) = view.state.map.get(finding.range) else {
            continue;
        };
        let load = |store: StoreId| view.replicas_on(store) + given.get(&store).copied().unwrap_or(0);
        let stores = view.candidates(range).map(|store| store.id);
        let Some(store) = stores.min_by_key(|store| (load(*store), *store)) else {
            finding.verdict = Verdict::Wait("no store can take it".to_owned());
            continue;
        };
        *given.entry(store).or_default() += 1;
        finding.verdict = Verdict::Recover(Box::new(Recovery {
            survivor: Replica {
                id: ReplicaId::NONE,
                store,
                role: Role::Voter,
            },
            last: LogEnd::default(),
            lost: lost.iter().copied().collect(),
            span: finding.span.clone(),
            seen: range.epoch,
        }));
    }
}

fn examine(range: &Descriptor, lost: &BTreeSet<StoreId>, surveys: &Surveys, view: &View<'_>) -> Finding {
    let mut survivors: Vec<(StoreId, Survivor)> = surveys
        .iter()
        .filter(|(store, _)| !lost.contains(store))
        .flat_map(|(store, said)| said.iter().map(|survivor| (*store, survivor.clone())))
        .filter(|(_, survivor)| {
            survivor.descriptor.id == range.id && !survivor.descriptor.replicas.is_empty()
        })
        .filter(|(_, survivor)| range.replica(survivor.replica).is_some())
        .collect();
    survivors.sort_by_key(|(store, survivor)| (std::cmp::Reverse(rank(range, survivor)), *store));
    let verdict = judge(range, lost, &survivors, surveys, view);
    let behind = survivors
        .first()
        .and_then(|(_, best)| behind(range, best.replica, lost, view));
    Finding {
        range: range.id,
        span: view.state.map.effective_span(range),
        survivors,
        behind,
        verdict,
    }
}

/// The log decides; of equal ones, a voter's.
fn rank(range: &Descriptor, survivor: &Survivor) -> impl Ord + use<> {
    let votes = range
        .replica(survivor.replica)
        .is_some_and(|replica| replica.role == Role::Voter);
    (survivor.last, votes)
}

fn judge(
    range: &Descriptor,
    lost: &BTreeSet<StoreId>,
    survivors: &[(StoreId, Survivor)],
    surveys: &Surveys,
    view: &View<'_>,
) -> Verdict {
    let elsewhere = range
        .replicas
        .iter()
        .map(|replica| replica.store)
        .filter(|store| !lost.contains(store));
    let unheard: Vec<StoreId> = elsewhere.filter(|store| !surveys.contains_key(store)).collect();
    if let Some((store, _)) = survivors.iter().find(|(_, survivor)| survivor.has_majority) {
        return Verdict::Unharmed(format!(
            "the replica on store {store} leads, and a majority answers it"
        ));
    }
    let Some((store, best)) = survivors.first() else {
        return match unheard.first() {
            Some(store) => wait_for(*store),
            None => majority(range, lost).unwrap_or(Verdict::Gone),
        };
    };
    if has_majority(best, lost) {
        return Verdict::Unharmed("a majority of its replicas is on stores that are not lost".to_owned());
    }
    if let Some(store) = unheard.first() {
        return wait_for(*store);
    }
    let Some(span) = kept(range, best, lost, view) else {
        return Verdict::Wait("its keys belong to another range by now".to_owned());
    };
    let seen = survivors
        .iter()
        .fold(range.epoch, |seen, (_, survivor)| seen.max(reached(survivor)));
    let survivor = Replica {
        id: best.replica,
        store: *store,
        role: Role::Voter,
    };
    Verdict::Recover(Box::new(Recovery {
        survivor,
        last: best.last,
        lost: lost.iter().copied().collect(),
        span,
        seen,
    }))
}

fn wait_for(store: StoreId) -> Verdict {
    Verdict::Wait(format!(
        "store {store} holds a replica and does not answer: start it, or name it as lost too"
    ))
}

/// Whether the map alone says that there is a majority elsewhere.
fn majority(range: &Descriptor, lost: &BTreeSet<StoreId>) -> Option<Verdict> {
    let (voters, left) = count(range, lost);
    (2 * left > voters)
        .then(|| Verdict::Unharmed("a majority of its replicas is not on these stores".to_owned()))
}

/// Whether every configuration that a survivor knows has a majority without the lost stores.
fn has_majority(survivor: &Survivor, lost: &BTreeSet<StoreId>) -> bool {
    let store_of: BTreeMap<ReplicaId, StoreId> = survivor.members.iter().copied().collect();
    let is_left = |id: &&ReplicaId| store_of.get(id).is_some_and(|store| !lost.contains(store));
    survivor
        .configs
        .iter()
        .all(|config| 2 * config.iter().filter(is_left).count() > config.len())
}

/// How far a survivor has got: its membership may have changed with any entry of its log.
fn reached(survivor: &Survivor) -> Epoch {
    survivor.descriptor.epoch.max(Epoch {
        bounds: 0,
        membership: survivor.last.index,
    })
}

/// What of a survivor's span it keeps: what begins as a range of its own in the map, and lives, is that range's. What was
/// split off unseen by the survivor, and is wholly lost, comes back with it.
fn kept(range: &Descriptor, survivor: &Survivor, lost: &BTreeSet<StoreId>, view: &View<'_>) -> Option<Span> {
    let held = &survivor.descriptor.span;
    let is_lost = |other: &Descriptor| {
        other.epoch.bounds > survivor.descriptor.epoch.bounds
            && other.replicas.iter().all(|replica| lost.contains(&replica.store))
            && view
                .reports
                .replicas_of(other.id)
                .all(|(store, _)| lost.contains(&store))
    };
    let holder = view.state.map.at(held.start());
    if holder.is_some_and(|holder| holder.id != range.id && !is_lost(holder)) {
        return None;
    }
    let mut inside = view
        .state
        .map
        .iter_from(held.start())
        .take_while(|other| held.contains(other.span.start()));
    let next = inside.find(|other| other.id != range.id && !is_lost(other));
    let end = next.map_or_else(|| held.end().clone(), |next| next.span.start().clone());
    Span::new(held.start().clone(), end).ok()
}

/// What the lost leader said of a survivor when it was last heard of.
fn behind(range: &Descriptor, survivor: ReplicaId, lost: &BTreeSet<StoreId>, view: &View<'_>) -> Option<u64> {
    let leading = view
        .reports
        .replicas_of(range.id)
        .filter(|(store, _)| lost.contains(store))
        .filter_map(|(_, report)| Some((report.term, report.leading.as_ref()?)))
        .max_by_key(|(term, _)| *term);
    let peers = &leading?.1.peers;
    peers.iter().find(|peer| peer.replica == survivor)?.lag_entries
}

#[cfg(test)]
#[path = "recovery_test.rs"]
mod tests;
