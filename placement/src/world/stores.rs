//! Stores that do as they are told, all in one place, and the truth about their ranges.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::key::{Key, Span};
use holdfast_common::proto::placement::{
    Capacity, Heartbeat, Leading, PeerProgress, ReplicaReport, Step, VoterChange,
};
use holdfast_common::proto::recovery::Recover;
use holdfast_common::range::{Descriptor, Epoch, Replica, Role};

use super::traffic::Traffic;
use crate::operator::action::voters;

/// Stores, those that sleep apart.
#[derive(Default)]
pub(crate) struct Stores {
    /// The truth about each range, and who leads it.
    pub(crate) ranges: BTreeMap<RangeId, Truth>,
    /// Replicas on each store; a store that is not here is silent.
    pub(crate) holds: BTreeMap<StoreId, BTreeMap<ReplicaId, RangeId>>,
    /// What silent stores have.
    pub(crate) asleep: BTreeMap<StoreId, BTreeMap<ReplicaId, RangeId>>,
    /// Replicas that were destroyed.
    pub(crate) buried: BTreeSet<ReplicaId>,
    /// What stores report of replicas that have missed what happened since.
    pub(crate) behind: BTreeMap<StoreId, Vec<ReplicaReport>>,
    /// Whether changes of membership stop half-way, as when their leader crashes.
    pub(crate) stop_half_way: bool,
    /// What is asked of the ranges.
    pub(crate) traffic: Traffic,
}

/// The truth about a range.
#[derive(Clone, Debug)]
pub(crate) struct Truth {
    pub(crate) descriptor: Descriptor,
    pub(crate) leader: Option<ReplicaId>,
    pub(crate) term: u64,
    pub(crate) size_bytes: u64,
    /// Entries that each replica but the leader lacks.
    pub(crate) lag: u64,
}

impl Stores {
    /// Everything that a store has.
    pub(crate) fn heartbeat(&self, store: StoreId, incarnation: u64, sequence: u64) -> Heartbeat {
        let held = self.holds[&store].iter();
        let behind = self.behind.get(&store).cloned().unwrap_or_default();
        let held = held.filter(|(replica, _)| behind.iter().all(|late| late.replica != **replica));
        let mut replicas: Vec<_> = held
            .map(|(replica, range)| self.report(*replica, *range))
            .collect();
        replicas.extend(behind);
        let capacity = Capacity {
            total: 1000 << 30,
            used: 0,
            available: 1000 << 30,
        };
        Heartbeat {
            store,
            incarnation,
            sequence,
            full: true,
            capacity,
            replicas,
            gone: Vec::new(),
        }
    }

    pub(crate) fn report(&self, replica: ReplicaId, range: RangeId) -> ReplicaReport {
        let Some(truth) = self.ranges.get(&range) else {
            return empty(replica, range);
        };
        let mut descriptor = truth.descriptor.clone();
        if descriptor.replica(replica).is_none() {
            descriptor.replicas.clear();
            descriptor.epoch = Epoch::default();
        }
        let leading = (truth.leader == Some(replica)).then(|| Leading {
            size_bytes: truth.size_bytes,
            keys: 0,
            reads_per_second: self.traffic.reads_of(truth),
            writes_per_second: 0.0,
            peers: self.peers(truth, replica),
            read_bytes_per_second: 0.0,
            written_bytes_per_second: 0.0,
            is_measured: self.traffic.is_measured(range),
            hot: self.traffic.hot_spot(truth),
        });
        ReplicaReport {
            replica,
            descriptor,
            term: truth.term,
            leading,
        }
    }

    fn peers(&self, truth: &Truth, leader: ReplicaId) -> Vec<PeerProgress> {
        let others = truth
            .descriptor
            .replicas
            .iter()
            .filter(|replica| replica.id != leader);
        let progress = |peer: &Replica| {
            let live = self.has(peer);
            PeerProgress {
                replica: peer.id,
                lag_entries: live.then_some(truth.lag),
                live,
            }
        };
        others.map(progress).collect()
    }

    /// Whether a replica is there and answers.
    pub(crate) fn has(&self, replica: &Replica) -> bool {
        self.holds
            .get(&replica.store)
            .is_some_and(|held| held.contains_key(&replica.id))
    }

    /// The store falls silent.
    pub(crate) fn sleep(&mut self, store: StoreId) {
        if let Some(held) = self.holds.remove(&store) {
            self.asleep.insert(store, held);
        }
        self.elect();
    }

    /// The store is back.
    pub(crate) fn wake(&mut self, store: StoreId) {
        if let Some(held) = self.asleep.remove(&store) {
            self.holds.insert(store, held);
        }
        self.elect();
    }

    /// Every range whose leader is gone gets another, if a majority lives.
    pub(crate) fn elect(&mut self) {
        for range in self.ranges.keys().copied().collect::<Vec<_>>() {
            let descriptor = &self.ranges[&range].descriptor;
            let live: Vec<ReplicaId> = descriptor
                .voters()
                .filter(|voter| self.has(voter))
                .map(|voter| voter.id)
                .collect();
            let has_majority = 2 * live.len() > descriptor.voters().count();
            let truth = self.truth(range);
            let next = if has_majority {
                truth
                    .leader
                    .filter(|id| live.contains(id))
                    .or(live.first().copied())
            } else {
                None
            };
            if truth.leader != next {
                (truth.leader, truth.term) = (next, truth.term + 1);
            }
        }
    }

    /// A store does as it is told, unless it is silent, or the step is not for it any more.
    pub(crate) fn obey(&mut self, store: StoreId, step: Step) {
        if !self.holds.contains_key(&store) {
            return;
        }
        match step {
            Step::CreateFirst { range, replica } => self.create_first(store, range, replica),
            Step::CreateReplica { range, replica } => self.create(store, range, replica),
            Step::Recover { range, order } => self.recover(store, range, &order),
            Step::DestroyReplica { replica, .. } | Step::Fence { replica, .. } => {
                self.buried.insert(replica);
                self.holds.entry(store).or_default().remove(&replica);
            }
            Step::AddLearner { range, replica } if self.leads(store, range) => {
                self.change(range, |members| {
                    if members.iter().all(|member| member.id != replica.id) {
                        members.push(replica);
                    }
                })
            }
            Step::ChangeVoters { range, change } if self.leads(store, range) => {
                self.change_voters(range, &change)
            }
            Step::TransferLeader { range, to } if self.leads(store, range) => {
                let truth = &self.ranges[&range];
                if truth
                    .descriptor
                    .replica(to)
                    .is_some_and(|to| to.role == Role::Voter && self.has(to))
                {
                    let truth = self.truth(range);
                    (truth.leader, truth.term) = (Some(to), truth.term + 1);
                }
            }
            Step::Split {
                range,
                bounds,
                at,
                right,
                replicas,
            } if self.leads(store, range) => {
                self.split(range, bounds, at, right, &replicas);
            }
            Step::Merge { range, bounds } if self.leads(store, range) => self.merge(range, bounds),
            _ => {}
        }
    }

    /// The survivor ends, and its successor is all there is of the range.
    fn recover(&mut self, store: StoreId, range: RangeId, order: &Recover) {
        let held = self.holds.entry(store).or_default();
        if held.remove(&order.from).is_none() && order.from.is_some() {
            return;
        }
        held.insert(order.to, range);
        self.buried.insert(order.from);
        let truth = self.truth(range);
        truth.descriptor.span = order.span.clone();
        truth.descriptor.epoch = order.epoch;
        truth.descriptor.replicas = vec![Replica {
            id: order.to,
            store,
            role: Role::Voter,
        }];
        (truth.leader, truth.term) = (Some(order.to), 1);
    }

    fn leads(&self, store: StoreId, range: RangeId) -> bool {
        let Some(truth) = self.ranges.get(&range) else {
            return false;
        };
        let leader = truth.leader.and_then(|leader| truth.descriptor.replica(leader));
        leader.is_some_and(|leader| leader.store == store)
    }

    fn create_first(&mut self, store: StoreId, range: RangeId, id: ReplicaId) {
        if self.ranges.contains_key(&range) {
            return;
        }
        self.create(store, range, id);
        let replicas = vec![Replica {
            id,
            store,
            role: Role::Voter,
        }];
        let descriptor = Descriptor {
            id: range,
            span: Span::everything(),
            epoch: Epoch {
                bounds: 1,
                membership: 1,
            },
            replicas,
        };
        self.ranges.insert(
            range,
            Truth {
                descriptor,
                leader: Some(id),
                term: 1,
                size_bytes: 0,
                lag: 0,
            },
        );
    }

    /// One replica of a range at a time, and none that was destroyed.
    fn create(&mut self, store: StoreId, range: RangeId, replica: ReplicaId) {
        let is_buried = self.buried.contains(&replica);
        let held = self.holds.entry(store).or_default();
        if !is_buried && held.values().all(|other| *other != range) {
            held.insert(replica, range);
        }
    }

    fn change_voters(&mut self, range: RangeId, change: &VoterChange) {
        let (promote, remove) = (&change.promote, &change.remove);
        if self.ranges[&range].descriptor.is_joint() {
            self.change(range, |members| {
                members.retain(|member| member.role != Role::Outgoing)
            });
        }
        let truth = &self.ranges[&range];
        if voters(&truth.descriptor) != change.from {
            return;
        }
        let known = promote.iter().all(|id| truth.descriptor.replica(*id).is_some());
        let someone_stays = truth.descriptor.voters().any(|voter| !remove.contains(&voter.id));
        if !known || !someone_stays || truth.leader.is_some_and(|leader| remove.contains(&leader)) {
            return;
        }
        let stop_half_way = self.stop_half_way;
        self.change(range, |members| {
            members.retain(|member| {
                !remove.contains(&member.id) || (stop_half_way && member.role == Role::Voter)
            });
            for member in members {
                if promote.contains(&member.id) {
                    member.role = Role::Voter;
                } else if remove.contains(&member.id) {
                    member.role = Role::Outgoing;
                }
            }
        });
    }

    pub(crate) fn truth(&mut self, range: RangeId) -> &mut Truth {
        self.ranges.get_mut(&range).unwrap()
    }

    pub(crate) fn change(&mut self, range: RangeId, change: impl FnOnce(&mut Vec<Replica>)) {
        let descriptor = &mut self.truth(range).descriptor;
        let before = descriptor.replicas.clone();
        change(&mut descriptor.replicas);
        if descriptor.replicas != before {
            descriptor.epoch.membership += 1;
        }
    }

    /// The range goes into its left neighbour, if all replicas of both are there and side by side.
    fn merge(&mut self, source: RangeId, bounds: u64) {
        let right = self.ranges[&source].descriptor.clone();
        let mut others = self.ranges.values();
        let left = others.find_map(|truth| truth.descriptor.span.join(&right.span).map(|span| (truth, span)));
        let Some((left, span)) = left else { return };
        let stores = |range: &Descriptor| -> BTreeSet<StoreId> {
            range.replicas.iter().map(|replica| replica.store).collect()
        };
        let target = left.descriptor.id;
        let side_by_side = stores(&left.descriptor) == stores(&right);
        let all_there = right.replicas.iter().all(|replica| self.has(replica));
        let settled = !left.descriptor.is_joint() && !right.is_joint() && left.leader.is_some();
        if right.epoch.bounds != bounds || !side_by_side || !all_there || !settled {
            return;
        }
        let size = self.ranges[&source].size_bytes;
        self.ranges.remove(&source);
        for held in self.holds.values_mut().chain(self.asleep.values_mut()) {
            held.retain(|_, range| *range != source);
        }
        let left = self.truth(target);
        left.size_bytes += size;
        left.descriptor.span = span;
        left.descriptor.epoch.bounds = left.descriptor.epoch.bounds.max(bounds + 1) + 1;
    }

    /// A store that sleeps gets no replica of the right part: it will learn of the split from a snapshot.
    fn split(
        &mut self,
        range: RangeId,
        bounds: u64,
        at: Option<Key>,
        right: RangeId,
        ids: &[(StoreId, ReplicaId)],
    ) {
        let left = self.truth(range);
        let at = at.unwrap_or_else(|| Key::new("m").unwrap());
        let members: BTreeSet<StoreId> = left
            .descriptor
            .replicas
            .iter()
            .map(|replica| replica.store)
            .collect();
        let Some((left_span, right_span)) = left.descriptor.span.split_at(&at) else {
            return;
        };
        let named: BTreeSet<StoreId> = ids.iter().map(|(store, _)| *store).collect();
        if left.descriptor.epoch.bounds != bounds || left.descriptor.is_joint() || named != members {
            return;
        }
        left.descriptor.span = left_span;
        left.descriptor.epoch.bounds += 1;
        let leader = left
            .leader
            .and_then(|leader| left.descriptor.replica(leader))
            .map(|leader| leader.store);
        let mut born = left.clone();
        (
            born.descriptor.id,
            born.descriptor.span,
            born.descriptor.epoch.membership,
        ) = (right, right_span, 5);
        for replica in &mut born.descriptor.replicas {
            replica.id = ids.iter().find(|(store, _)| *store == replica.store).unwrap().1;
            if let Some(held) = self.holds.get_mut(&replica.store) {
                held.insert(replica.id, right);
            }
        }
        born.leader = leader
            .and_then(|store| born.descriptor.replica_on(store))
            .map(|replica| replica.id);
        self.ranges.insert(right, born);
    }
}

/// What a store says of a replica that was created after its range had gone.
fn empty(replica: ReplicaId, range: RangeId) -> ReplicaReport {
    let descriptor = Descriptor {
        id: range,
        span: Span::everything(),
        epoch: Epoch::default(),
        replicas: Vec::new(),
    };
    ReplicaReport {
        replica,
        descriptor,
        term: 0,
        leading: None,
    }
}
