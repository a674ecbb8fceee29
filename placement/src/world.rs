//! A cluster made of thin air: stores that obey steps at once and report what they have. For tests of decisions.

use std::collections::BTreeMap;

use holdfast_common::ids::{ClusterId, MemberId, OperatorId, RangeId, ReplicaId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::proto::placement::{
    Capacity, Heartbeat, Leading, PeerProgress, Register, ReplicaReport, Step,
};
use holdfast_common::range::{Descriptor, Epoch, Replica, Role};

use crate::command::{Changes, Command, Outcome};
use crate::operator::judge::{Verdict, judge};
use crate::operator::{Intent, Kind, Operator, Refusal, Status};
use crate::reports::Reports;
use crate::state::{Member, State};
use crate::view::{Millis, View};

/// When the leading member began to lead.
const BEGAN: Millis = 1_000_000;

/// State, reports and the stores they are about.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) reports: Reports,
    pub(crate) now: Millis,
    /// What the stores really have.
    pub(crate) stores: Stores,
    sequence: u64,
}

/// Stores that do as they are told, all in one place.
#[derive(Default)]
pub(crate) struct Stores {
    /// The truth about each range, and who leads it.
    pub(crate) ranges: BTreeMap<RangeId, Truth>,
    /// Replicas on each store; a store that is not here is silent.
    pub(crate) holds: BTreeMap<StoreId, BTreeMap<ReplicaId, RangeId>>,
}

/// The truth about a range.
#[derive(Clone)]
pub(crate) struct Truth {
    pub(crate) descriptor: Descriptor,
    pub(crate) leader: Option<ReplicaId>,
    pub(crate) size_bytes: u64,
    /// Entries that each replica but the leader lacks.
    pub(crate) lag: u64,
}

impl World {
    /// A cluster of `stores` stores, one in each of the zones given, and one range on the first, led there.
    pub(crate) fn new(zones: &[&str]) -> Self {
        let mut world = Self {
            now: BEGAN,
            ..Self::default()
        };
        let founder = Member {
            name: "p".into(),
            directory: 1,
            rpc_address: "p:1".into(),
            http_address: "p:2".into(),
            is_running: true,
        };
        world.apply(Command::Found {
            cluster: ClusterId(7),
            number: MemberId(1),
            founder,
        });
        for (i, zone) in zones.iter().enumerate() {
            let store = register(i as u64 + 1, zone);
            world.apply(Command::Register { store, now_ms: 0 });
            world.stores.holds.insert(StoreId(i as u64 + 1), BTreeMap::new());
        }
        world.heartbeats();
        world.run();
        world
    }

    pub(crate) fn apply(&mut self, command: Command) -> Outcome {
        let outcome = self.state.apply(&command, &mut Changes::default());
        self.state.validate().unwrap();
        outcome
    }

    pub(crate) fn view(&self) -> View<'_> {
        View::new(&self.state, &self.reports, self.now, BEGAN)
    }

    pub(crate) fn start(&mut self, range: u64, kind: Kind) -> Result<OperatorId, Refusal> {
        let intent = Intent {
            range: RangeId(range),
            kind,
            source: "test".into(),
            why: "the test wants it".into(),
        };
        match self.apply(Command::Start { intent, now_ms: 0 }) {
            Outcome::Started(started) => started,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn operator(&self, id: OperatorId) -> &Operator {
        self.state.operators.get(id).unwrap()
    }

    /// Adds voters of range 1 on other stores, as if they had always been there.
    pub(crate) fn replicate(&mut self, stores: &[u64]) {
        for store in stores {
            let id = self.start(1, Kind::AddReplica { to: StoreId(*store) }).unwrap();
            self.run();
            assert_eq!(self.operator(id).status, Status::Done);
        }
    }

    /// Every store that is not silent reports all that it has, and the driver learns from it.
    pub(crate) fn heartbeats(&mut self) {
        self.now += 1_000;
        self.sequence += 1;
        let beats: Vec<Heartbeat> = self
            .stores
            .holds
            .keys()
            .map(|store| self.stores.heartbeat(*store, store.0, self.sequence))
            .collect();
        for beat in beats {
            self.reports.accept(&beat, self.now);
            let seen = beat
                .replicas
                .iter()
                .map(|report| report.descriptor.clone())
                .collect();
            self.apply(Command::Observe(seen));
        }
    }

    /// One look of the leading member at every operator: what it is told to do next, and the trace of it.
    pub(crate) fn tick(&mut self) -> Vec<String> {
        let mut trace = Vec::new();
        let view = self.view();
        let operators: Vec<Operator> = view.state.operators.running().cloned().collect();
        let judged: Vec<_> = operators
            .iter()
            .map(|operator| (operator.clone(), judge(operator, self.now, &view)))
            .collect();
        for (operator, verdict) in judged {
            let (id, now_ms) = (operator.id, 0);
            match verdict {
                Verdict::Wait => {}
                Verdict::Advance => drop(self.apply(Command::Advance {
                    id,
                    step: operator.current,
                    now_ms,
                })),
                Verdict::End(status) => drop(self.apply(Command::End { id, status, now_ms })),
            }
        }
        for operator in self.state.operators.running().cloned().collect::<Vec<_>>() {
            let due = operator
                .action()
                .and_then(|action| action.due(operator.range(), &self.view()));
            if let Some((store, step)) = due {
                trace.push(format!("store {store}: {}", shown(&step)));
                self.stores.obey(store, step);
            }
        }
        trace
    }

    /// Ticks and heartbeats until nothing is under way, or for fifty rounds; the trace, repetitions left out.
    pub(crate) fn run(&mut self) -> Vec<String> {
        let mut trace: Vec<String> = Vec::new();
        for _ in 0..50 {
            for line in self.tick() {
                if trace.last() != Some(&line) {
                    trace.push(line);
                }
            }
            self.heartbeats();
            if self.state.operators.running_len() == 0 {
                break;
            }
        }
        trace
    }
}

impl Stores {
    /// Everything that a store has.
    pub(crate) fn heartbeat(&self, store: StoreId, incarnation: u64, sequence: u64) -> Heartbeat {
        let replicas = self.holds[&store]
            .iter()
            .map(|(replica, range)| self.report(*replica, *range))
            .collect();
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

    fn report(&self, replica: ReplicaId, range: RangeId) -> ReplicaReport {
        let truth = &self.ranges[&range];
        let mut descriptor = truth.descriptor.clone();
        if descriptor.replica(replica).is_none() {
            descriptor.replicas.clear();
            descriptor.epoch = Epoch::default();
        }
        let leading = (truth.leader == Some(replica)).then(|| Leading {
            size_bytes: truth.size_bytes,
            keys: 0,
            reads_per_second: 0.0,
            writes_per_second: 0.0,
            peers: self.peers(truth, replica),
        });
        ReplicaReport {
            replica,
            descriptor,
            term: 1,
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
            let live = self
                .holds
                .get(&peer.store)
                .is_some_and(|store| store.contains_key(&peer.id));
            PeerProgress {
                replica: peer.id,
                lag_entries: live.then_some(truth.lag),
                live,
            }
        };
        others.map(progress).collect()
    }

    /// A store does as it is told, unless it is silent.
    pub(crate) fn obey(&mut self, store: StoreId, step: Step) {
        let Some(replicas) = self.holds.get_mut(&store) else {
            return;
        };
        match step {
            Step::CreateFirst { range, replica } => {
                replicas.insert(replica, range);
                let replica = Replica {
                    id: replica,
                    store,
                    role: Role::Voter,
                };
                let epoch = Epoch {
                    bounds: 1,
                    membership: 1,
                };
                let descriptor = Descriptor {
                    id: range,
                    span: Span::everything(),
                    epoch,
                    replicas: vec![replica],
                };
                self.ranges.insert(
                    range,
                    Truth {
                        descriptor,
                        leader: Some(replica.id),
                        size_bytes: 0,
                        lag: 0,
                    },
                );
            }
            Step::CreateReplica { range, replica } => drop(replicas.insert(replica, range)),
            Step::DestroyReplica { replica, .. } => drop(replicas.remove(&replica)),
            Step::AddLearner { range, replica } => self.change(range, |members| {
                members.retain(|member| member.id != replica.id);
                members.push(replica);
            }),
            Step::ChangeVoters {
                range,
                promote,
                remove,
            } => self.change(range, |members| {
                members.retain(|member| !remove.contains(&member.id));
                members
                    .iter_mut()
                    .filter(|member| promote.contains(&member.id))
                    .for_each(|member| member.role = Role::Voter);
            }),
            Step::TransferLeader { range, to } => self.truth(range).leader = Some(to),
            Step::Split {
                range,
                at,
                right,
                replicas,
                ..
            } => self.split(range, at, right, &replicas),
        }
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

    fn split(
        &mut self,
        range: RangeId,
        at: Option<holdfast_common::key::Key>,
        right: RangeId,
        ids: &[(StoreId, ReplicaId)],
    ) {
        let left = self.truth(range);
        let at = at.unwrap_or_else(|| holdfast_common::key::Key::new("m").unwrap());
        let Some((left_span, right_span)) = left.descriptor.span.split_at(&at) else {
            return;
        };
        left.descriptor.span = left_span;
        left.descriptor.epoch.bounds += 1;
        let mut born = left.clone();
        let leader = left
            .leader
            .and_then(|leader| left.descriptor.replica(leader))
            .map(|leader| leader.store);
        (
            born.descriptor.id,
            born.descriptor.span,
            born.descriptor.epoch.membership,
        ) = (right, right_span, 5);
        for replica in &mut born.descriptor.replicas {
            replica.id = ids.iter().find(|(store, _)| *store == replica.store).unwrap().1;
            self.holds
                .get_mut(&replica.store)
                .unwrap()
                .insert(replica.id, right);
        }
        born.leader = leader
            .and_then(|store| born.descriptor.replica_on(store))
            .map(|replica| replica.id);
        self.ranges.insert(right, born);
    }
}

/// How the store with this number registers.
pub(crate) fn register(number: u64, zone: &str) -> Register {
    Register {
        name: format!("store-{number}"),
        known: None,
        directory: 1_000 + number,
        rpc_address: format!("s{number}:1"),
        http_address: format!("s{number}:2"),
        labels: BTreeMap::from([("zone".to_owned(), zone.to_owned())]),
    }
}

fn shown(step: &Step) -> String {
    match step {
        Step::CreateFirst { range, replica } => format!("create range {range} with replica {replica}"),
        Step::CreateReplica { range, replica } => format!("create replica {replica} of range {range}"),
        Step::AddLearner { replica, .. } => format!("add learner {} on store {}", replica.id, replica.store),
        Step::ChangeVoters { promote, remove, .. } => {
            format!("promote {promote:?}, remove {remove:?}").replace("ReplicaId", "")
        }
        Step::TransferLeader { to, .. } => format!("hand the leadership to {to}"),
        Step::Split { at, right, .. } => format!(
            "split off {right} at {}",
            at.as_ref().map_or("the middle".into(), ToString::to_string)
        ),
        Step::DestroyReplica { replica, .. } => format!("destroy replica {replica}"),
    }
}
