//! A cluster made of thin air: stores that obey steps at once and report what they have. For tests of decisions.

mod stores;
mod traffic;

use std::collections::BTreeMap;

use holdfast_common::ids::{ClusterId, MemberId, OperatorId, RangeId, StoreId};
use holdfast_common::proto::placement::{Heartbeat, Register, Step};

use crate::command::{Changes, Command, Outcome};
use crate::operator::judge::{Verdict, judge};
use crate::operator::{Intent, Kind, Operator, Refusal, Status};
use crate::reports::Reports;
use crate::state::{Member, State};
use crate::view::{Millis, View};

pub(crate) use self::stores::Stores;

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
        match self.apply(Command::Start {
            intent,
            now_ms: self.now,
        }) {
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
        self.stores.traffic.pass(&self.stores.ranges);
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
            let (id, now_ms) = (operator.id, self.now);
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
        Step::ChangeVoters { change, .. } => {
            let (promote, remove) = (&change.promote, &change.remove);
            format!("promote {promote:?}, remove {remove:?}").replace("ReplicaId", "")
        }
        Step::TransferLeader { to, .. } => format!("hand the leadership to {to}"),
        Step::Split { at, right, .. } => format!(
            "split off {right} at {}",
            at.as_ref().map_or("the middle".into(), ToString::to_string)
        ),
        Step::DestroyReplica { replica, .. } => format!("destroy replica {replica}"),
        Step::Merge { range, .. } => format!("merge range {range} into its left neighbour"),
        Step::Recover { order, .. } => format!("go on with {} as {} alone", order.from, order.to),
        Step::Fence { replica, .. } => format!("fence replica {replica}"),
    }
}
