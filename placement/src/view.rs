//! What the leading member knows at one moment: the replicated state and the stores' reports. Pure.
//!
//! Decisions are functions of a [`View`]: schedulers, the judging of operators, corrections.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::proto::placement::PeerProgress;
use holdfast_common::range::{Descriptor, Role};

use crate::operator::Operator;
use crate::reports::{Leader, Reports};
use crate::state::{State, Store, StoreIntent};

/// Milliseconds of the leading member's monotonic clock.
pub type Millis = u64;

/// Whether a store is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It was heard of lately.
    Up,
    /// It has been silent for longer than the settings find usual.
    Suspect,
    /// It has been silent for so long that it is given nothing.
    Down,
}

/// How a range is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RangeHealth {
    /// As it should be.
    Ok,
    /// More voters than it should have.
    Over,
    /// Fewer voters than it should have.
    Under,
    /// Enough voters, and one of them on a store that is down.
    DownReplica,
    /// Nobody is known to lead it.
    NoLeader,
}

impl RangeHealth {
    /// Every one, so that metrics exist from the start.
    pub const ALL: [Self; 5] = [
        Self::Ok,
        Self::Over,
        Self::Under,
        Self::DownReplica,
        Self::NoLeader,
    ];

    /// Their names, in the same order.
    pub const NAMES: [&'static str; 5] = ["ok", "over", "under", "down_replica", "no_leader"];

    /// Its name, in the admin API and in metrics.
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

/// The state, the reports and the time.
pub struct View<'a> {
    /// What all members agree on.
    pub state: &'a State,
    /// What the stores last said.
    pub reports: &'a Reports,
    /// Now.
    pub now: Millis,
    /// When this member began to lead: nobody can have been heard of before.
    pub since: Millis,
    /// Counted when first asked for: most views are looked at for one operator or one store.
    busy: OnceCell<HashSet<RangeId>>,
    replicas: OnceCell<BTreeMap<StoreId, usize>>,
    moving: OnceCell<BTreeMap<StoreId, usize>>,
}

impl<'a> View<'a> {
    /// A view at `now` by the member that leads since `since`.
    pub fn new(state: &'a State, reports: &'a Reports, now: Millis, since: Millis) -> Self {
        let (busy, replicas, moving) = (OnceCell::new(), OnceCell::new(), OnceCell::new());
        Self {
            state,
            reports,
            now,
            since,
            busy,
            replicas,
            moving,
        }
    }

    /// How long a store has been silent, milliseconds, counted from this member's leadership at the most.
    pub fn silence(&self, store: StoreId) -> Millis {
        let heard = self
            .reports
            .store(store)
            .map_or(self.since, |report| report.heard);
        self.now.saturating_sub(heard)
    }

    /// Whether a store is there.
    pub fn health(&self, store: StoreId) -> Health {
        let (settings, silence) = (&self.state.settings, self.silence(store));
        match silence {
            _ if !self.state.stores.get(&store).is_some_and(Store::is_alive) => Health::Down,
            _ if silence >= settings.store_down_after_ms => Health::Down,
            _ if silence >= settings.store_suspect_after_ms => Health::Suspect,
            // A store that this member has not heard of yet may be there.
            _ if self.reports.store(store).is_none() => Health::Suspect,
            _ => Health::Up,
        }
    }

    /// Whether every store has said everything, or is overdue: before, a new leading member decides nothing.
    pub fn is_settled(&self) -> bool {
        self.state.present_stores().all(|store| {
            self.health(store.id) == Health::Down
                || self.reports.store(store.id).is_some_and(|report| report.complete)
        })
    }

    /// Who leads a range, unless that store is down.
    pub fn leader(&self, range: RangeId) -> Option<&Leader> {
        self.reports
            .leader(range)
            .filter(|leader| self.health(leader.store) != Health::Down)
    }

    /// How far a replica is behind its leader.
    pub fn progress(&self, range: RangeId, replica: ReplicaId) -> Option<PeerProgress> {
        self.leader(range)?;
        self.reports.progress(range, replica)
    }

    /// Whether an operator is under way for a range.
    pub fn is_busy(&self, range: RangeId) -> bool {
        let running = || {
            self.state
                .operators
                .running()
                .flat_map(Operator::ranges)
                .collect()
        };
        self.busy.get_or_init(running).contains(&range)
    }

    /// The ranges that nothing is being done to: no operator, and no change of membership that is half done.
    pub fn idle_ranges(&self) -> impl Iterator<Item = &'a Descriptor> {
        self.state
            .map
            .iter()
            .filter(|range| !self.is_busy(range.id) && !range.is_joint())
    }

    /// Replicas on a store, those on their way counted.
    pub fn replicas_on(&self, store: StoreId) -> usize {
        let all = || {
            self.state
                .map
                .iter()
                .flat_map(|range| &range.replicas)
                .map(|replica| replica.store)
        };
        let replicas = self.replicas.get_or_init(|| counted(all()));
        replicas.get(&store).copied().unwrap_or(0) + self.moving_on(store)
    }

    /// Operators under way that move data to or from a store.
    pub fn moving_on(&self, store: StoreId) -> usize {
        let moving = self
            .moving
            .get_or_init(|| counted(self.state.operators.running().flat_map(Operator::stores)));
        moving.get(&store).copied().unwrap_or(0)
    }

    /// The stores that a new replica of `range` could go to.
    pub fn candidates(&self, range: &Descriptor) -> impl Iterator<Item = &'a Store> {
        self.state.stores.values().filter(move |store| {
            store.intent == StoreIntent::Active
                && self.health(store.id) == Health::Up
                && range.replica_on(store.id).is_none()
                && self.has_room(store.id, range.id)
        })
    }

    /// Whether a store has room for one more replica of a range, with something to spare.
    fn has_room(&self, store: StoreId, range: RangeId) -> bool {
        let Some(report) = self.reports.store(store) else {
            return false;
        };
        let size = self
            .reports
            .leading(range)
            .map_or(0, |leading| leading.size_bytes);
        let spare = report.capacity.total / 20;
        report.capacity.total == 0 || report.capacity.available > spare.saturating_add(size.saturating_mul(2))
    }

    /// How a range is.
    pub fn range_health(&self, range: &Descriptor) -> RangeHealth {
        let voters = range
            .replicas
            .iter()
            .filter(|replica| replica.role == Role::Voter);
        let wanted = self.state.wanted_voters();
        let count = voters.clone().count();
        if self.leader(range.id).is_none() {
            RangeHealth::NoLeader
        } else if count < wanted {
            RangeHealth::Under
        } else if voters
            .clone()
            .any(|voter| self.health(voter.store) == Health::Down)
        {
            RangeHealth::DownReplica
        } else if count > wanted {
            RangeHealth::Over
        } else {
            RangeHealth::Ok
        }
    }

    /// Whether a range has fewer voters on stores that are not down than it should have.
    pub fn is_under_replicated(&self, range: &Descriptor) -> bool {
        let voters = range
            .replicas
            .iter()
            .filter(|replica| replica.role == Role::Voter);
        voters
            .filter(|voter| self.health(voter.store) != Health::Down)
            .count()
            < self.state.wanted_voters()
    }
}

fn counted(stores: impl Iterator<Item = StoreId>) -> BTreeMap<StoreId, usize> {
    let mut counts = BTreeMap::new();
    for store in stores {
        *counts.entry(store).or_default() += 1;
    }
    counts
}
