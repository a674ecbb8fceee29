//! A cluster that exists in memory behind real sockets: stores that share one map of rows, check epochs and leadership as
//! real ones do, remember writes by their numbers, and fail as a test tells them to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::ids::{ClusterId, RangeId, ReplicaId, SessionId, StoreId};
use holdfast_common::key::{Key, Span};
use holdfast_common::net::{
    ClusterIdCell, ErrorCode, PeerInfo, Reply, Request, Role as Process, Server, ServerConfig, Service,
};
use holdfast_common::proto::kv::{self, *};
use holdfast_common::proto::placement::{MapEvent, MapVersion, RangeRoute, StoreRoute};
use holdfast_common::proto::{self, method};
use holdfast_common::range::{Descriptor, Epoch, Replica, Role};
use holdfast_common::revision::Revision;
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::operations::{Asked, holds};

pub(super) const CLUSTER: ClusterId = ClusterId(7);

/// What happens to a request instead of its being served.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It is refused.
    Refuse(kv::Error),
    /// It is served, and the answer is lost.
    LoseAnswer,
    /// It is lost before it is served.
    LoseRequest,
    /// It is served, and an answer never comes.
    Hang,
    /// It is never served, and an answer never comes.
    Ignore,
    /// It is answered with bytes that are no answer.
    Garble,
}

/// The cluster.
#[derive(Default)]
pub(super) struct State {
    pub rows: BTreeMap<Bytes, Record>,
    pub ranges: Vec<Range>,
    pub last_revision: u64,
    outcomes: HashMap<(SessionId, u64), WriteOutcome>,
    /// By key and token: what was asked, and what became of it.
    pub tokens: HashMap<(Bytes, Bytes), (Asked, WriteOutcome)>,
    /// How many writes changed anything.
    pub applied: usize,
    /// Every write that arrived, in order, served or not.
    pub writes: Vec<WriteRequest>,
    /// Requests that arrived, of any kind.
    pub requests: usize,
    /// Spans of the scans that were served.
    pub scanned: Vec<Span>,
    /// So many requests are served before the faults begin.
    pub serve_first: usize,
    /// What befalls the next requests, one each; after that they are served.
    pub faults: VecDeque<Fault>,
    /// Every write is answered with this.
    pub answer_writes_with: Option<WriteOutcome>,
    /// Answers that never come.
    held: Vec<Reply>,
    /// Rows a page, at most.
    pub page_rows: usize,
    /// Answers to reads wait for this to be cancelled.
    pub gate: Option<CancellationToken>,
}

#[derive(Clone, Debug)]
pub(super) struct Range {
    pub descriptor: Descriptor,
    pub leader: Option<StoreId>,
}

pub(super) type Shared = Arc<Mutex<State>>;

/// Stores 1 to 3, with one range over all keys led by store 1.
pub(super) struct Cluster {
    pub state: Shared,
    pub stores: Vec<Store>,
}

/// One store's listener.
pub(super) struct Store {
    pub id: StoreId,
    pub address: SocketAddr,
    stop: Option<DropGuard>,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Cluster {
    pub(super) async fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            page_rows: 1_000,
            ..State::default()
        }));
        let mut stores = Vec::new();
        for id in 1..=3 {
            stores.push(Store::start(StoreId(id), state.clone()).await);
        }
        let descriptor = descriptor(1, Span::everything(), 1);
        state.lock().ranges.push(Range {
            descriptor,
            leader: Some(StoreId(1)),
        });
        Self { state, stores }
    }

    /// The whole map, as the driver would send it now.
    pub(super) fn map(&self) -> MapEvent {
        let state = self.state.lock();
        let route = |range: &Range| RangeRoute {
            descriptor: range.descriptor.clone(),
            leader: range.leader,
        };
        let store = |store: &Store| StoreRoute {
            id: store.id,
            rpc_address: store.address.to_string(),
        };
        MapEvent {
            version: MapVersion { stream: 1, number: 1 },
            full: true,
            ranges: state.ranges.iter().map(route).collect(),
            gone: Vec::new(),
            stores: self.stores.iter().map(store).collect(),
        }
    }

    pub(super) fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.lock().faults.extend(faults);
    }

    pub(super) fn lead(&self, range: usize, store: Option<u64>) {
        self.state.lock().ranges[range].leader = store.map(StoreId);
    }

    /// Splits the range that holds `at`; the right half is led by `leader`.
    pub(super) fn split(&self, at: &str, leader: u64) {
        let mut state = self.state.lock();
        let key = Key::new(at.to_owned()).expect("a key");
        let id = state.ranges.len() as u64 + 1;
        let parent = state
            .ranges
            .iter_mut()
            .find(|range| range.descriptor.span.contains(at.as_bytes()));
        let parent = parent.expect("ranges tile the key space");
        let (left, right) = parent.descriptor.span.split_at(&key).expect("strictly inside");
        parent.descriptor.span = left;
        parent.descriptor.epoch.bounds += 1;
        let bounds = parent.descriptor.epoch.bounds;
        state.ranges.push(Range {
            descriptor: descriptor(id, right, bounds),
            leader: Some(StoreId(leader)),
        });
    }

    /// Merges everything into one range under a new leader.
    pub(super) fn merge_all(&self, leader: u64) {
        let mut state = self.state.lock();
        let bounds = state
            .ranges
            .iter()
            .map(|range| range.descriptor.epoch.bounds)
            .max()
            .unwrap_or(0)
            + 1;
        state.ranges = vec![Range {
            descriptor: descriptor(1, Span::everything(), bounds),
            leader: Some(StoreId(leader)),
        }];
    }

    pub(super) fn put(&self, key: &[u8], value: &[u8]) {
        let mut state = self.state.lock();
        state.last_revision += 1;
        let revision = Revision(state.last_revision);
        let record = Record {
            revision,
            expires_ms: 0,
            value: Bytes::copy_from_slice(value),
        };
        state.rows.insert(Bytes::copy_from_slice(key), record);
    }

    /// Stops a store's listener, as a killed process would.
    pub(super) async fn kill(&mut self, store: u64) {
        let store = &mut self.stores[store as usize - 1];
        store.stop.take();
        if let Some(serving) = store.serving.take() {
            serving.await.expect("no panic");
        }
    }
}

impl Store {
    async fn start(id: StoreId, state: Shared) -> Self {
        let identity = PeerInfo::new(Process::Store, id.0, format!("store-{id}"));
        let mut config = ServerConfig::new(identity, ClusterIdCell::known(CLUSTER));
        config.grace = Duration::from_millis(10);
        let server = Server::bind("127.0.0.1:0", config, Arc::new(Stored { id, state }))
            .await
            .expect("a port");
        let address = server.local_addr().expect("an address");
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.serve(stop.clone()));
        Self {
            id,
            address,
            stop: Some(stop.drop_guard()),
            serving: Some(serving),
        }
    }
}

pub(super) fn descriptor(id: u64, span: Span, bounds: u64) -> Descriptor {
    let replica = |store| Replica {
        id: ReplicaId(id * 10 + store),
        store: StoreId(store),
        role: Role::Voter,
    };
    Descriptor {
        id: RangeId(id),
        span,
        epoch: Epoch {
            bounds,
            membership: 1,
        },
        replicas: (1..=3).map(replica).collect(),
    }
}

/// The service of one store.
pub(super) struct Stored {
    id: StoreId,
    state: Shared,
}

impl Service for Stored {
    fn call(&self, request: Request, reply: Reply) {
        let mut state = self.state.lock();
        state.requests += 1;
        let spared = state.serve_first > 0;
        state.serve_first -= usize::from(spared);
        let fault = if spared { None } else { state.faults.pop_front() };
        if let (method::KV_WRITE, Ok(write)) = (request.method, proto::decode::<WriteRequest>(&request.body))
        {
            state.writes.push(write);
        }
        let mut serve = || self.serve(&mut state, request.method, &request.body);
        match fault {
            None => match serve() {
                Some(answer) => match state.gate.clone() {
                    None => reply.send(answer),
                    Some(gate) => drop(tokio::spawn(async move {
                        gate.cancelled().await;
                        reply.send(answer);
                    })),
                },
                None => reply.fail(ErrorCode::BadRequest, "not a request"),
            },
            Some(Fault::Refuse(error)) => reply.send(proto::encode(&Err::<(), _>(error))),
            Some(Fault::LoseAnswer) => {
                serve();
                reply.fail(ErrorCode::Abandoned, "as the test asked");
            }
            Some(Fault::LoseRequest) => reply.fail(ErrorCode::Abandoned, "as the test asked"),
            Some(Fault::Hang) => {
                serve();
                state.held.push(reply);
            }
            Some(Fault::Ignore) => state.held.push(reply),
            Some(Fault::Garble) => reply.send(Bytes::from_static(b"\x01not an answer")),
        }
    }
}

impl Stored {
    fn serve(&self, state: &mut State, method: u16, body: &[u8]) -> Option<Bytes> {
        Some(match method {
            method::KV_GET => proto::encode(&self.get(state, proto::decode(body).ok()?)),
            method::KV_WRITE => proto::encode(&self.write(state, proto::decode(body).ok()?)),
            method::KV_WRITE_ONCE => proto::encode(&self.write_once(state, proto::decode(body).ok()?)),
            method::KV_EXPLAIN_GET => proto::encode(&self.explain_get(state, proto::decode(body).ok()?)),
            method::KV_EXPLAIN_WRITE => proto::encode(&self.explain_write(state, proto::decode(body).ok()?)),
            method::KV_SCAN => proto::encode(&self.scan(state, proto::decode(body).ok()?)),
            _ => return None,
        })
    }

    fn check(
        &self,
        state: &State,
        target: Target,
        span: &Span,
        consistency: Consistency,
    ) -> Result<(), kv::Error> {
        let overlapping = || {
            let meant = state
                .ranges
                .iter()
                .filter(|range| range.descriptor.span.overlaps(span));
            meant.map(|range| range.descriptor.clone()).collect()
        };
        let Some(range) = state
            .ranges
            .iter()
            .find(|range| range.descriptor.id == target.range)
        else {
            return Err(kv::Error::StaleEpoch {
                current: overlapping(),
            });
        };
        if range.descriptor.epoch.bounds != target.bounds || !range.descriptor.span.covers(span) {
            return Err(kv::Error::StaleEpoch {
                current: overlapping(),
            });
        }
        if consistency == Consistency::Linearizable && range.leader != Some(self.id) {
            let leader = range.leader.map(|store| LeaderHint {
                replica: range
                    .descriptor
                    .replica_on(store)
                    .map(|replica| replica.id)
                    .unwrap_or_default(),
                store,
                address: None,
            });
            return Err(kv::Error::NotLeader {
                leader,
                descriptor: Box::new(range.descriptor.clone()),
            });
        }
        Ok(())
    }

    pub(super) fn get(&self, state: &State, request: GetRequest) -> Result<GetAnswer, kv::Error> {
        self.check(state, request.target, &just(&request.key), request.consistency)?;
        let record = state.rows.get(request.key.as_bytes()).cloned();
        let staleness_ms = if request.consistency == Consistency::Stale {
            5
        } else {
            0
        };
        Ok(GetAnswer { record, staleness_ms })
    }

    pub(super) fn write(&self, state: &mut State, request: WriteRequest) -> Result<WriteOutcome, kv::Error> {
        self.check(
            state,
            request.target,
            &just(&request.key),
            Consistency::Linearizable,
        )?;
        if let Some(outcome) = &state.answer_writes_with {
            return Ok(outcome.clone());
        }
        let name = (request.session, request.sequence);
        if let Some(outcome) = state.outcomes.get(&name) {
            return Ok(outcome.clone());
        }
        if let Mutation::Txn(txn) = &request.mutation {
            let outcome = self.transact(state, request.target, txn)?;
            state.outcomes.insert(name, outcome.clone());
            return Ok(outcome);
        }
        let present = state.rows.get(request.key.as_bytes());
        let revision = present.map(|record| record.revision);
        let outcome = if holds(&request.condition, present) {
            state.apply(&request, revision)
        } else {
            WriteOutcome::ConditionFailed(revision)
        };
        state.outcomes.insert(name, outcome.clone());
        Ok(outcome)
    }

    fn scan(&self, state: &mut State, request: ScanRequest) -> Result<ScanAnswer, kv::Error> {
        self.check(state, request.target, &request.span, request.consistency)?;
        state.scanned.push(request.span.clone());
        let upper = if request.span.end().is_empty() {
            Bound::Unbounded
        } else {
            Bound::Excluded(request.span.end())
        };
        let rows = state
            .rows
            .range::<Bytes, _>((Bound::Included(request.span.start()), upper));
        let most = state.page_rows.min(request.limit as usize);
        let row = |(key, record): (&Bytes, &Record)| {
            let value = if request.keys_only {
                Bytes::new()
            } else {
                record.value.clone()
            };
            Row {
                key: Key::new(key.clone()).expect("a key"),
                record: Record {
                    value,
                    ..record.clone()
                },
            }
        };
        let mut rows: Vec<Row> = if request.reverse {
            rows.rev().map(row).collect()
        } else {
            rows.map(row).collect()
        };
        let fits = rows
            .iter()
            .scan(0, |bytes, row| {
                let before = *bytes;
                *bytes += row.key.as_bytes().len() + row.record.value.len();
                Some(before < request.max_bytes as usize)
            })
            .take_while(|fits| *fits)
            .count();
        let resume = (rows.len() > most.min(fits)).then(|| {
            rows.truncate(most.min(fits));
            let last = rows.last().expect("at least one row").key.as_bytes();
            if request.reverse {
                last.clone()
            } else {
                [&last[..], &[0]].concat().into()
            }
        });
        Ok(ScanAnswer {
            rows,
            resume,
            staleness_ms: 0,
        })
    }
}

impl State {
    fn apply(&mut self, request: &WriteRequest, present: Option<Revision>) -> WriteOutcome {
        let key = request.key.as_bytes().clone();
        self.last_revision += 1;
        let revision = Revision(self.last_revision);
        self.applied += 1;
        match (&request.mutation, present) {
            (Mutation::Put { value, .. }, present) => {
                self.rows.insert(
                    key,
                    Record {
                        revision,
                        expires_ms: 0,
                        value: value.clone(),
                    },
                );
                if present.is_some() {
                    WriteOutcome::Replaced(revision)
                } else {
                    WriteOutcome::Created(revision)
                }
            }
            (Mutation::Delete | Mutation::Txn(_), Some(_)) => {
                self.rows.remove(&key);
                WriteOutcome::Deleted(revision)
            }
            (Mutation::Delete | Mutation::Txn(_), None) => WriteOutcome::WasAbsent,
        }
    }
}

/// The span of one key.
fn just(key: &Key) -> Span {
    Span::new(key.as_bytes().clone(), [key.as_bytes(), &[0][..]].concat()).expect("a span")
}
