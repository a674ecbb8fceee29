//! What the stores last said of themselves: the volatile half of what the leading member knows. Pure.
//!
//! Built anew by every new leading member from heartbeats. They are incremental: a heartbeat says what changed since the
//! one before, so a store whose heartbeat was missed is asked for a full one, and until that comes its replicas that are
//! *not* in the report prove nothing ([`Reports::lacks`] is false).

use std::collections::{BTreeMap, HashMap};

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::load::Load;
use holdfast_common::proto::check::{Findings, Report};
use holdfast_common::proto::placement::{Capacity, Heartbeat, Leading, PeerProgress, ReplicaReport};

use crate::loads::Loads;
use crate::view::Millis;

/// Ranges that may have gone before what was remembered of them is forgotten.
const SPARE_BOUNDS: usize = 256;

/// The last word of every store.
#[derive(Clone, Debug, Default)]
pub struct Reports {
    stores: BTreeMap<StoreId, StoreReport>,
    leaders: HashMap<RangeId, Leader>,
    /// The bounds version that a range's leader last reported, and when it was first heard.
    bounds: HashMap<RangeId, (u64, Millis)>,
    loads: Loads,
    /// By store, the ranges whose replicas differ.
    differ: BTreeMap<StoreId, Vec<Report>>,
}

/// The last word of one store.
#[derive(Clone, Debug)]
pub struct StoreReport {
    /// Its process.
    pub incarnation: u64,
    /// The number of its last heartbeat.
    pub sequence: u64,
    /// Whether `replicas` are all that it has.
    pub complete: bool,
    /// When it was last heard of.
    pub heard: Millis,
    /// Disk space.
    pub capacity: Capacity,
    /// Its replicas.
    pub replicas: BTreeMap<ReplicaId, ReplicaReport>,
}

/// Who leads a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The store.
    pub store: StoreId,
    /// The replica.
    pub replica: ReplicaId,
    /// In which generation of the range: terms begin anew with each.
    pub generation: u64,
    /// Since which term.
    pub term: u64,
}

impl Leader {
    /// Of two that claim to lead, the one for which this is larger is right.
    fn standing(&self) -> (u64, u64) {
        (self.generation, self.term)
    }
}

/// What a heartbeat changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// The next heartbeat should say everything.
    pub want_full: bool,
    /// Ranges that are led by another store now, or by none.
    pub leaders: Vec<RangeId>,
}

impl Reports {
    /// Takes a heartbeat.
    pub fn accept(&mut self, heartbeat: &Heartbeat, now: Millis) -> Accepted {
        let known = self
            .stores
            .get(&heartbeat.store)
            .filter(|known| known.incarnation == heartbeat.incarnation);
        let expected = known.and_then(|known| known.sequence.checked_add(1));
        let mut accepted = Accepted::default();
        if known.is_some_and(|known| heartbeat.sequence <= known.sequence) {
            // A copy, or one that was overtaken: nothing in it is news.
            return accepted;
        }
        let before = self.forget_unless_continued(heartbeat, expected.is_some());
        let led_by_gone = self.led_by(heartbeat.store, &heartbeat.gone);
        let store = self.stores.entry(heartbeat.store).or_insert_with(|| StoreReport {
            incarnation: heartbeat.incarnation,
            sequence: 0,
            complete: false,
            heard: now,
            capacity: Capacity::default(),
            replicas: BTreeMap::new(),
        });
        store.complete = heartbeat.full || (store.complete && expected == Some(heartbeat.sequence));
        (store.sequence, store.heard, store.capacity) = (heartbeat.sequence, now, heartbeat.capacity);
        accepted.want_full = !store.complete;
        for gone in &heartbeat.gone {
            store.replicas.remove(gone);
        }
        store.replicas.extend(
            heartbeat
                .replicas
                .iter()
                .map(|report| (report.replica, report.clone())),
        );

        for report in &heartbeat.replicas {
            self.loads.learn(report);
        }
        let unclaimed = before.into_iter().chain(led_by_gone).map(|range| (range, None));
        let mut claims: BTreeMap<RangeId, Option<Leader>> = unclaimed.collect();
        for report in &heartbeat.replicas {
            let claim = claims.entry(report.descriptor.id).or_default();
            if report.leading.is_some() {
                let version = report.descriptor.epoch.bounds;
                let known = self.bounds.entry(report.descriptor.id).or_insert((version, now));
                if known.0 != version {
                    *known = (version, now);
                }
                *claim = Some(Leader {
                    store: heartbeat.store,
                    replica: report.replica,
                    generation: report.descriptor.epoch.generation(),
                    term: report.term,
                });
            }
        }
        for (range, claim) in claims {
            accepted
                .leaders
                .extend(self.elect(range, heartbeat.store, claim).then_some(range));
        }
        if self.bounds.len() > 2 * self.leaders.len() + SPARE_BOUNDS {
            let leaders = &self.leaders;
            self.bounds.retain(|range, _| leaders.contains_key(range));
        }
        accepted
    }

    /// Drops what a store said before, when this heartbeat replaces it all; returns the ranges that it led.
    fn forget_unless_continued(&mut self, heartbeat: &Heartbeat, same_process: bool) -> Vec<RangeId> {
        if same_process && !heartbeat.full {
            return Vec::new();
        }
        self.stores.remove(&heartbeat.store);
        self.leaders
            .iter()
            .filter(|(_, leader)| leader.store == heartbeat.store)
            .map(|(range, _)| *range)
            .collect()
    }

    fn led_by(&self, store: StoreId, replicas: &[ReplicaId]) -> Vec<RangeId> {
        if replicas.is_empty() {
            return Vec::new();
        }
        let led = self
            .leaders
            .iter()
            .filter(|(_, leader)| leader.store == store && replicas.contains(&leader.replica));
        led.map(|(range, _)| *range).collect()
    }

    /// Takes the word of `store` on whether it leads `range`; true if another replica leads than before. Two may claim it
    /// for a moment: the higher term is right.
    fn elect(&mut self, range: RangeId, store: StoreId, claim: Option<Leader>) -> bool {
        let known = self.leaders.get(&range).copied();
        let now = match (known, claim) {
            (Some(known), Some(claim)) if known.store != store && known.standing() > claim.standing() => {
                Some(known)
            }
            (_, Some(claim)) => Some(claim),
            (Some(known), None) if known.store != store => Some(known),
            (_, None) => None,
        };
        match now {
            Some(leader) => self.leaders.insert(range, leader),
            None => self.leaders.remove(&range),
        };
        known.map(|leader| leader.replica) != now.map(|leader| leader.replica)
    }

    /// The last word of a store.
    pub fn store(&self, store: StoreId) -> Option<&StoreReport> {
        self.stores.get(&store)
    }

    /// The last word of every store.
    pub fn stores(&self) -> impl Iterator<Item = (StoreId, &StoreReport)> {
        self.stores.iter().map(|(id, report)| (*id, report))
    }

    /// Whether a store has a replica.
    pub fn has(&self, store: StoreId, replica: ReplicaId) -> bool {
        self.replica(store, replica).is_some()
    }

    /// Whether a store certainly lacks a replica.
    pub fn lacks(&self, store: StoreId, replica: ReplicaId) -> bool {
        self.store(store)
            .is_some_and(|report| report.complete && !report.replicas.contains_key(&replica))
    }

    /// What every store says of its replica of a range.
    pub fn replicas_of(&self, range: RangeId) -> impl Iterator<Item = (StoreId, &ReplicaReport)> {
        self.stores.iter().flat_map(move |(store, report)| {
            let of_range = report.replicas.values();
            of_range
                .filter(move |replica| replica.descriptor.id == range)
                .map(|replica| (*store, replica))
        })
    }

    /// What a store says of a replica.
    pub fn replica(&self, store: StoreId, replica: ReplicaId) -> Option<&ReplicaReport> {
        self.store(store)?.replicas.get(&replica)
    }

    /// Who leads a range, by the last that was heard.
    pub fn leader(&self, range: RangeId) -> Option<&Leader> {
        self.leaders.get(&range)
    }

    /// What a range's leader says of it.
    pub fn leading(&self, range: RangeId) -> Option<&Leading> {
        let leader = self.leader(range)?;
        self.replica(leader.store, leader.replica)?.leading.as_ref()
    }

    /// The bounds version of a range by its leader's word, and since when this member has known it.
    pub fn bounds(&self, range: RangeId) -> Option<(u64, Millis)> {
        self.bounds.get(&range).copied()
    }

    /// What is asked of a range, as far as it is known.
    pub fn load(&self, range: RangeId) -> Option<Load> {
        self.loads.get(range)
    }

    /// Whether that was measured, rather than concluded from what a range was split from.
    pub fn is_load_measured(&self, range: RangeId) -> bool {
        self.loads.is_measured(range)
    }

    /// Forgets what was measured of ranges that are no more.
    pub fn forget_loads(&mut self, exists: impl Fn(RangeId) -> bool) {
        self.loads.retain(exists);
    }

    /// How far a replica is behind, by its leader's word.
    pub fn progress(&self, range: RangeId, replica: ReplicaId) -> Option<PeerProgress> {
        self.leading(range)?
            .peers
            .iter()
            .find(|peer| peer.replica == replica)
            .copied()
    }

    /// Takes a store's word on which ranges have replicas that differ; true if that is not what it said before.
    pub fn find(&mut self, findings: Findings) -> bool {
        let Findings { store, differ } = findings;
        let before = if differ.is_empty() {
            self.differ.remove(&store)
        } else {
            self.differ.insert(store, differ.clone())
        };
        before.unwrap_or_default() != differ
    }

    /// Ranges whose replicas differ, by the word of every store that counts: of several checks of a range, the latest.
    pub fn differ(&self, counts: impl Fn(StoreId) -> bool) -> BTreeMap<RangeId, &Report> {
        let mut latest: BTreeMap<RangeId, &Report> = BTreeMap::new();
        let told = self.differ.iter().filter(|(store, _)| counts(**store));
        for report in told.flat_map(|(_, reports)| reports) {
            let known = latest.entry(report.range).or_insert(report);
            if known.index < report.index {
                *known = report;
            }
        }
        latest
    }

    /// How many ranges each store leads.
    pub fn leaders_by_store(&self) -> BTreeMap<StoreId, usize> {
        let mut counts = BTreeMap::new();
        for leader in self.leaders.values() {
            *counts.entry(leader.store).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
#[path = "reports_test.rs"]
mod tests;
