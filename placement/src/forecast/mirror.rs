//! The copy: agreed state, reports and time, kept in step with each other.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::{OperatorId, RangeId, ReplicaId, StoreId};
use holdfast_common::proto::placement::{Capacity, Heartbeat, Leading, PeerProgress, ReplicaReport};
use holdfast_common::range::{Descriptor, Role};

use super::effect;
use crate::command::{Changes, Command, Outcome};
use crate::operator::{Intent, Operator};
use crate::reports::Reports;
use crate::state::State;
use crate::view::{Millis, View};

/// Time between two rounds.
const ROUND_MS: Millis = 1_000;

/// State, reports and time of their own.
pub(super) struct Mirror {
    state: State,
    reports: Reports,
    now: Millis,
    since: Millis,
    /// The last heartbeat of each store that is there.
    beats: BTreeMap<StoreId, (u64, u64)>,
    capacities: BTreeMap<StoreId, Capacity>,
    /// What is known of each range beside its description: sizes and rates.
    known: BTreeMap<RangeId, Leading>,
}

impl Mirror {
    pub(super) fn of(view: &View<'_>) -> Self {
        let heard = view.reports.stores();
        let up = heard.filter(|(store, _)| super::is_up(*store, view));
        let (mut beats, mut capacities) = (BTreeMap::new(), BTreeMap::new());
        for (store, report) in up {
            beats.insert(store, (report.incarnation, report.sequence));
            capacities.insert(store, report.capacity);
        }
        let ranges = view.state.map.iter();
        let known = ranges.filter_map(|range| Some((range.id, view.reports.leading(range.id)?.clone())));
        Self {
            state: view.state.clone(),
            reports: view.reports.clone(),
            now: view.now,
            since: view.since,
            beats,
            capacities,
            known: known.collect(),
        }
    }

    pub(super) fn view(&self) -> View<'_> {
        View::new(&self.state, &self.reports, self.now, self.since)
    }

    pub(super) fn now(&self) -> Millis {
        self.now
    }

    pub(super) fn apply(&mut self, command: &Command) -> Outcome {
        self.state.apply(command, &mut Changes::default())
    }

    /// Bytes of a range, about.
    pub(super) fn size(&self, range: RangeId) -> u64 {
        self.known.get(&range).map_or(0, |known| known.size_bytes)
    }

    /// Starts an operator, unless it would be refused.
    pub(super) fn start(&mut self, intent: &Intent) -> Option<Operator> {
        let command = Command::Start {
            intent: intent.clone(),
            now_ms: self.now,
        };
        match self.apply(&command) {
            Outcome::Started(Ok(id)) => self.state.operators.get(id).cloned(),
            _ => None,
        }
    }

    /// What is under way when the forecast begins is done before anything else.
    pub(super) fn finish_what_is_under_way(&mut self) {
        let running: Vec<Operator> = self.state.operators.running().cloned().collect();
        for operator in running {
            self.complete(&operator);
        }
        self.pass_time();
    }

    /// Does all that an operator does, at once; false, and it is dropped, when that is no matter of places.
    pub(super) fn complete(&mut self, operator: &Operator) -> bool {
        let range = operator.range();
        let before = self.state.map.get(range).cloned();
        let leader = self.view().leader(range).map(|leader| leader.store);
        let after = before
            .as_ref()
            .and_then(|before| effect::of(operator, before, leader));
        let (Some(before), Some((after, leader))) = (before, after) else {
            self.end(operator.id);
            return false;
        };
        self.apply(&Command::Observe(vec![after.clone()]));
        for step in operator.current..operator.steps.len() {
            self.apply(&Command::Advance {
                id: operator.id,
                step,
                now_ms: self.now,
            });
        }
        self.weigh_in(&before, &after);
        self.report(&before, &after, leader);
        true
    }

    fn end(&mut self, id: OperatorId) {
        let status = crate::operator::Status::Cancelled("not part of a forecast".to_owned());
        let now_ms = self.now;
        self.apply(&Command::End { id, status, now_ms });
    }

    /// Disks fill where replicas arrive, and empty where they leave.
    fn weigh_in(&mut self, before: &Descriptor, after: &Descriptor) {
        let size = self.size(after.id);
        let on = |range: &Descriptor| -> BTreeSet<StoreId> {
            range.replicas.iter().map(|replica| replica.store).collect()
        };
        let (old, new) = (on(before), on(after));
        for store in new.difference(&old) {
            if let Some(capacity) = self.capacities.get_mut(store) {
                capacity.used = capacity.used.saturating_add(size);
                capacity.available = capacity.available.saturating_sub(size);
            }
        }
        for store in old.difference(&new) {
            if let Some(capacity) = self.capacities.get_mut(store) {
                capacity.used = capacity.used.saturating_sub(size);
                capacity.available = capacity.available.saturating_add(size);
            }
        }
    }

    /// Every store that has or had a replica says how it is now.
    fn report(&mut self, before: &Descriptor, after: &Descriptor, leader: Option<StoreId>) {
        let stores: BTreeSet<StoreId> = before
            .replicas
            .iter()
            .chain(&after.replicas)
            .map(|replica| replica.store)
            .collect();
        let term = self.reports.leader(after.id).map_or(1, |leader| leader.term + 1);
        // Who leads says so last: whoever led before has stepped down by then.
        let mut order: Vec<StoreId> = stores.into_iter().collect();
        order.sort_by_key(|store| Some(*store) == leader);
        for store in order {
            let gone = before.replica_on(store).map(|replica| replica.id);
            let here = after.replica_on(store).map(|replica| replica.id);
            let said = here.map(|replica| self.said(replica, after, term, leader == Some(store)));
            let gone = gone.filter(|gone| Some(*gone) != here);
            self.beat(
                store,
                said.into_iter().collect(),
                gone.into_iter().collect(),
                false,
            );
        }
    }

    fn said(&self, replica: ReplicaId, range: &Descriptor, term: u64, leads: bool) -> ReplicaReport {
        let known = self.known.get(&range.id).filter(|_| leads);
        let others = range.replicas.iter().filter(|other| other.id != replica);
        let peers: Vec<PeerProgress> = others
            .map(|other| {
                let live = self.beats.contains_key(&other.store);
                PeerProgress {
                    replica: other.id,
                    lag_entries: live.then_some(0),
                    live,
                }
            })
            .collect();
        ReplicaReport {
            replica,
            descriptor: range.clone(),
            term,
            leading: known.map(|known| Leading {
                peers,
                ..known.clone()
            }),
        }
    }

    /// A store says something, if it is there.
    fn beat(&mut self, store: StoreId, replicas: Vec<ReplicaReport>, gone: Vec<ReplicaId>, full: bool) {
        let Some((incarnation, sequence)) = self.beats.get_mut(&store) else {
            return;
        };
        *sequence += 1;
        let heartbeat = Heartbeat {
            store,
            incarnation: *incarnation,
            sequence: *sequence,
            full,
            capacity: self.capacities.get(&store).copied().unwrap_or_default(),
            replicas,
            gone,
        };
        self.reports.accept(&heartbeat, self.now);
    }

    /// Everyone who is there is heard of again.
    pub(super) fn pass_time(&mut self) {
        self.now += ROUND_MS;
        self.hear_everyone();
    }

    fn hear_everyone(&mut self) {
        let stores: Vec<StoreId> = self.beats.keys().copied().collect();
        for store in stores {
            self.beat(store, Vec::new(), Vec::new(), false);
        }
    }

    /// A store comes that has nothing yet.
    pub(super) fn arrive(&mut self, store: StoreId, capacity: Capacity) {
        self.beats.insert(store, (1, 0));
        self.capacities.insert(store, capacity);
        self.beat(store, Vec::new(), Vec::new(), true);
    }

    /// Stores fall silent, for as long as it takes until they are given up. What they led is led by another, where a
    /// majority is left.
    pub(super) fn fall_silent(&mut self, stores: &BTreeSet<StoreId>) {
        self.beats.retain(|store, _| !stores.contains(store));
        self.now += self.state.settings.store_replace_after_ms + 1;
        self.hear_everyone();
        let ranges: Vec<Descriptor> = self.state.map.iter().cloned().collect();
        for range in ranges {
            let leader = self.view().leader(range.id).map(|leader| leader.store);
            let is_there = |store: StoreId| self.beats.contains_key(&store);
            let left: Vec<StoreId> = range
                .replicas
                .iter()
                .filter(|replica| replica.role == Role::Voter && is_there(replica.store))
                .map(|replica| replica.store)
                .collect();
            let has_majority = 2 * left.len() > range.voters().count();
            let next = leader
                .filter(|leader| left.contains(leader))
                .or(left.first().copied());
            let harmed = range
                .replicas
                .iter()
                .any(|replica| stores.contains(&replica.store));
            if harmed {
                self.report(&range, &range, next.filter(|_| has_majority));
            }
        }
    }

    /// The largest disk there is: what a new store is taken to have.
    pub(super) fn largest_disk(&self) -> Capacity {
        let total = self.capacities.values().map(|capacity| capacity.total).max();
        let total = total.unwrap_or(0);
        Capacity {
            total,
            used: 0,
            available: total,
        }
    }
}
