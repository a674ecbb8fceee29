//! A few processes in one: each with its own server, client and groups.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::error::ForwardReason;
use openraft::network::RaftNetworkFactory;
use openraft::{Config, RaftMetrics, ReadPolicy};
use parking_lot::{Mutex, RwLock};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::memory::{MemoryLog, MemoryMachine};
use crate::ids::{ClusterId, RangeId, ReplicaId, StoreId};
use crate::net::{
    Client, ClientConfig, ClusterIdCell, ConnId, PeerInfo, Reply, Request, Role, Server, ServerConfig,
    Service,
};
use crate::proto::raft::{Heartbeats, SnapshotHeader, SnapshotMessage};
use crate::proto::{self, method};
use crate::raft::network::{
    Groups, Inbound, Leader, Outbound, PeerReplica, RaftTimings, Resolve, SnapshotLimits, Staging, is_raft,
};
use crate::raft::types::{Command, Node, Raft, TypeConfig};

/// Long enough for anything that is going to happen at all.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Where everybody is, and who can't reach whom.
#[derive(Default)]
pub(super) struct World {
    addresses: RwLock<HashMap<StoreId, String>>,
    isolated: Mutex<HashSet<StoreId>>,
    /// How often each store has looked for another.
    lookups: DashMap<StoreId, u64>,
}

struct Directory {
    world: Arc<World>,
    me: StoreId,
}

impl Resolve for Directory {
    fn address(&self, store: StoreId) -> Option<String> {
        *self.world.lookups.entry(self.me).or_default() += 1;
        let isolated = self.world.isolated.lock();
        if isolated.contains(&self.me) || isolated.contains(&store) {
            return None;
        }
        self.world.addresses.read().get(&store).cloned()
    }
}

impl World {
    pub(super) fn isolate(&self, store: u64) {
        self.isolated.lock().insert(StoreId(store));
    }

    pub(super) fn heal(&self) {
        self.isolated.lock().clear();
    }

    pub(super) fn lookups(&self, store: u64) -> u64 {
        self.lookups.get(&StoreId(store)).map_or(0, |count| *count)
    }

    pub(super) fn address(&self, store: u64) -> String {
        self.addresses
            .read()
            .get(&StoreId(store))
            .cloned()
            .expect("a known store")
    }
}

/// The groups of a process.
#[derive(Default)]
pub(super) struct Host {
    rafts: DashMap<(RangeId, ReplicaId), Raft<MemoryMachine>>,
    pub(super) abstains: AtomicBool,
    pub(super) refuses_snapshots: AtomicBool,
}

impl Groups<MemoryMachine> for Host {
    fn raft(&self, range: RangeId, replica: ReplicaId, _: Option<Leader>) -> Option<Raft<MemoryMachine>> {
        self.rafts.get(&(range, replica)).map(|raft| raft.clone())
    }

    fn may_vote(&self, _range: RangeId, _replica: ReplicaId) -> bool {
        !self.abstains.load(Ordering::SeqCst)
    }

    fn accept_snapshot(&self, _: RangeId, _: ReplicaId, _: &SnapshotHeader) -> Result<(), String> {
        if self.refuses_snapshots.load(Ordering::SeqCst) {
            Err("not now".to_owned())
        } else {
            Ok(())
        }
    }
}

/// Serves a process and keeps count of what comes in.
pub(super) struct Gate {
    inbound: Inbound<MemoryMachine>,
    messages: DashMap<u16, u64>,
    pub(super) beats: AtomicU64,
    pub(super) offers: AtomicU64,
    pub(super) chunk_offsets: Mutex<Vec<u64>>,
    /// Runs when the third chunk of a snapshot has come in and is not answered yet.
    pub(super) at_third_chunk: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Gate {
    pub(super) fn messages(&self, method: u16) -> u64 {
        self.messages.get(&method).map_or(0, |count| *count)
    }

    fn note(&self, request: &Request) {
        *self.messages.entry(request.method).or_default() += 1;
        match request.method {
            method::RAFT_HEARTBEATS => {
                let beats =
                    proto::decode::<Heartbeats>(&request.body).map_or(0, |message| message.beats.len());
                self.beats.fetch_add(beats as u64, Ordering::SeqCst);
            }
            method::RAFT_SNAPSHOT => match proto::decode(&request.body) {
                Ok(SnapshotMessage::Offer(_)) => drop(self.offers.fetch_add(1, Ordering::SeqCst)),
                Ok(SnapshotMessage::Chunk(chunk)) => self.note_chunk(chunk.offset),
                Ok(SnapshotMessage::Install { .. }) | Err(_) => {}
            },
            _ => {}
        }
    }
}

impl Gate {
    fn note_chunk(&self, offset: u64) {
        let mut offsets = self.chunk_offsets.lock();
        offsets.push(offset);
        let act = if offsets.len() == 3 {
            self.at_third_chunk.lock().take()
        } else {
            None
        };
        if let Some(act) = act {
            act();
        }
    }
}

impl Service for Gate {
    fn call(&self, request: Request, reply: Reply) {
        assert!(is_raft(request.method));
        self.note(&request);
        self.inbound.handle(request, reply);
    }

    fn closed(&self, conn: ConnId) {
        self.inbound.closed(conn);
    }
}

/// A process.
pub(super) struct Process {
    pub(super) store: StoreId,
    pub(super) host: Arc<Host>,
    pub(super) gate: Arc<Gate>,
    pub(super) outbound: Outbound,
    pub(super) client: Client,
    machines: DashMap<RangeId, MemoryMachine>,
    dir: TempDir,
    _running: DropGuard,
}

impl Process {
    async fn start(world: &Arc<World>, store: StoreId) -> Self {
        let dir = tempfile::tempdir().expect("tempdir");
        let staging = Staging::open(dir.path(), SnapshotLimits::default()).expect("staging");
        let cluster = ClusterIdCell::known(ClusterId(1));
        let identity = PeerInfo::new(Role::Store, store.0, format!("store-{store}"));

        let host = Arc::new(Host::default());
        let gate = Arc::new(Gate {
            inbound: Inbound::new(host.clone(), staging.clone()),
            messages: DashMap::new(),
            beats: AtomicU64::new(0),
            offers: AtomicU64::new(0),
            chunk_offsets: Mutex::default(),
            at_third_chunk: Mutex::default(),
        });
        let config = ServerConfig::new(identity.clone(), cluster.clone());
        let server = Server::bind("127.0.0.1:0", config, gate.clone())
            .await
            .expect("bind");
        world
            .addresses
            .write()
            .insert(store, server.local_addr().expect("address").to_string());
        let running = CancellationToken::new();
        tokio::spawn(server.serve(running.clone()));

        let client = Client::new(ClientConfig::default(), cluster, identity);
        let directory = Arc::new(Directory {
            world: world.clone(),
            me: store,
        });
        let outbound = Outbound::new(client.clone(), directory, staging, RaftTimings::default());
        let _running = running.drop_guard();
        let machines = DashMap::new();
        Self {
            store,
            host,
            gate,
            outbound,
            client,
            machines,
            dir,
            _running,
        }
    }

    /// Creates this store's replica of a range, empty. It is patient: on a busy machine a test must not lose its leader.
    pub(super) async fn create(&self, range: u64) -> Raft<MemoryMachine> {
        let patient = RaftTimings {
            election_min: Duration::from_secs(20),
            election_max: Duration::from_secs(30),
            ..RaftTimings::default()
        };
        self.create_with(range, &patient).await
    }

    /// Creates this store's replica of a range, empty.
    pub(super) async fn create_with(&self, range: u64, timings: &RaftTimings) -> Raft<MemoryMachine> {
        let (range, replica) = (RangeId(range), replica(range, self.store.0));
        let machine = MemoryMachine::default();
        self.machines.insert(range, machine.clone());
        let network = self.outbound.group(range, replica, |_| false);
        let raft = Raft::new(replica, config(timings), network, MemoryLog::default(), machine)
            .await
            .expect("starts");
        self.host.rafts.insert((range, replica), raft.clone());
        raft
    }

    pub(super) fn raft(&self, range: u64) -> Raft<MemoryMachine> {
        self.host
            .raft(RangeId(range), replica(range, self.store.0), None)
            .expect("a replica here")
    }

    pub(super) fn machine(&self, range: u64) -> MemoryMachine {
        self.machines
            .get(&RangeId(range))
            .expect("a replica here")
            .clone()
    }

    /// A line from any replica, real or not, to any other.
    pub(super) async fn line(&self, range: u64, from: ReplicaId, to: ReplicaId, store: u64) -> PeerReplica {
        let node = Node {
            store: StoreId(store),
        };
        self.outbound
            .group(RangeId(range), from, |_| false)
            .new_client(to, &node)
            .await
    }

    /// Files in the staging directory.
    pub(super) fn staged_files(&self) -> usize {
        std::fs::read_dir(self.dir.path())
            .expect("staging directory")
            .count()
    }
}

/// Several processes, stores 1, 2, ….
pub(super) struct Cluster {
    pub(super) world: Arc<World>,
    processes: Vec<Process>,
}

impl Cluster {
    pub(super) async fn start(processes: u64) -> Self {
        let world = Arc::new(World::default());
        let starting = (1..=processes).map(|store| Process::start(&world, StoreId(store)));
        let processes = join_all(starting).await;
        Self { world, processes }
    }

    pub(super) fn process(&self, store: u64) -> &Process {
        &self.processes[store as usize - 1]
    }

    /// Creates a range with replicas on these stores and waits for its leader, which the first store is.
    pub(super) async fn range(&self, range: u64, stores: &[u64]) -> Raft<MemoryMachine> {
        for &store in stores {
            self.process(store).create(range).await;
        }
        self.begin(range, stores).await
    }

    /// Makes the replicas on these stores a group and waits for its leader, which the first store is.
    pub(super) async fn begin(&self, range: u64, stores: &[u64]) -> Raft<MemoryMachine> {
        let first = self.process(stores[0]).raft(range);
        let members: BTreeMap<_, _> = stores
            .iter()
            .map(|&store| {
                (
                    replica(range, store),
                    Node {
                        store: StoreId(store),
                    },
                )
            })
            .collect();
        first.initialize(members).await.expect("initializes");
        first
            .wait(Some(PATIENCE))
            .metrics(
                |metrics| metrics.current_leader == Some(metrics.id),
                "the first store leads",
            )
            .await
            .expect("elected");
        first
    }

    /// Stops all groups.
    pub(super) async fn stop(self) {
        for process in &self.processes {
            let rafts: Vec<_> = process.host.rafts.iter().map(|raft| raft.clone()).collect();
            for raft in rafts {
                raft.shutdown().await.expect("stops");
            }
            process.client.close();
        }
    }
}

/// Proposes `count` commands of `len` bytes, numbered from `from`, and waits until they are applied.
pub(super) async fn write(raft: &Raft<MemoryMachine>, from: u64, count: u64, len: usize) -> Vec<Bytes> {
    let commands: Vec<_> = (from..from + count).map(|number| command(number, len)).collect();
    for batch in commands.chunks(1000) {
        join_all(batch.iter().map(|command| propose(raft, command))).await;
    }
    commands
}

/// Has one command applied. A leader without a lease refuses, and has one as soon as a majority answers it.
async fn propose(raft: &Raft<MemoryMachine>, command: &Bytes) {
    while let Err(error) = raft.client_write(Command(command.clone())).await {
        let forward = error.forward_to_leader().expect("the only error that is met");
        assert_eq!(forward.reason, ForwardReason::LeaseExpired);
        let _ = raft.get_read_linearizer(ReadPolicy::ReadIndex).await;
    }
}

/// Whether these are the commands, in any order.
pub(super) fn same(applied: &[Bytes], commands: &[Bytes]) -> bool {
    let mut sorted = applied.to_vec();
    sorted.sort();
    sorted == commands
}

fn command(number: u64, len: usize) -> Bytes {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(len.max(8), number as u8);
    bytes.into()
}

/// Waits until `condition` holds.
pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// What a replica says of itself.
pub(super) fn metrics(raft: &Raft<MemoryMachine>) -> RaftMetrics<TypeConfig> {
    raft.metrics().borrow_watched().clone()
}

/// The replica of a range on a store.
pub(super) fn replica(range: u64, store: u64) -> ReplicaId {
    ReplicaId(range * 100 + store)
}

fn config(timings: &RaftTimings) -> Arc<Config> {
    let config = timings.config().expect("valid");
    // Logs are purged when a test says so.
    Arc::new(Config {
        max_in_snapshot_log_to_keep: 0,
        purge_batch_size: 1,
        ..config
    })
}
