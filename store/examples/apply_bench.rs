//! How fast a replica applies and reads, without Raft and the network.
//!
//! `cargo run --release -p holdfast-store --example apply_bench -- [KEYS [SECONDS]]`
//!
//! Applies entries of 1, 8 and 64 writes (128-byte values, random keys) to one range, each with its outcome row, and
//! reads random keys back, with and without writes going on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream;
use holdfast_common::ids::{RangeId, ReplicaId, SessionId, StoreId};
use holdfast_common::key::{Key, Span};
use holdfast_common::proto::kv::{Condition, Mutation};
use holdfast_common::raft::types::{self, Entry, LogId, Payload, StoredMembership};
use holdfast_common::range::{Descriptor, Epoch, Replica, Role};
use holdfast_common::revision::Revision;
use holdfast_store::apply::{BIRTH_INDEX, ChildSeed};
use holdfast_store::command::{Absorb, Write, encode_writes};
use holdfast_store::engine::{Batch, Engine, Options};
use holdfast_store::keys::{self, RecordKey};
use holdfast_store::machine::{RangeHost, RangeMachine, birth_log_id};
use holdfast_store::row;
use holdfast_store::sessions::Sessions;
use holdfast_store::state::{Identity, Merge, RangeState};
use openraft::storage::RaftStateMachine;

struct Alone;

impl RangeHost for Alone {
    fn before_split<'a>(&'a self, _: &'a ChildSeed) -> BoxFuture<'a, std::io::Result<bool>> {
        Box::pin(async { Ok(true) })
    }
    fn after_split(&self, _: ChildSeed) {}
    fn take_over<'a>(&'a self, _: &'a Absorb) -> BoxFuture<'a, std::io::Result<RangeState>> {
        Box::pin(async { Err(std::io::Error::other("it has no neighbour")) })
    }
    fn taken_over(&self, _: RangeId) {}
    fn buried(&self, _: ReplicaId) -> bool {
        false
    }
    fn overlaps(&self, _: ReplicaId, _: &Span) -> Option<RangeId> {
        None
    }
    fn changed(&self, _: RangeId) {}
}

/// Makes entries as a leader would; writes of the last hundred sequence numbers are unfinished.
struct Workload {
    keys: u64,
    index: u64,
    sequence: u64,
    random: u64,
    value: Bytes,
}

impl Workload {
    fn key(&mut self) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % self.keys
    }

    fn entry(&mut self, writes: usize, sequential: bool) -> Entry {
        self.index += 1;
        let writes: Vec<Write> = (0..writes)
            .map(|_| {
                self.sequence += 1;
                let key = if sequential {
                    self.sequence % self.keys
                } else {
                    self.key()
                };
                Write {
                    session: SessionId(1),
                    sequence: self.sequence,
                    finished_below: self.sequence.saturating_sub(100),
                    key: Key::new(name(key)).expect("a short key"),
                    condition: Condition::None,
                    mutation: Mutation::Put {
                        value: self.value.clone(),
                        ttl_ms: 0,
                    },
                    once: None,
                }
            })
            .collect();
        let command = encode_writes(Revision::at_millis(self.index), writes.iter());
        let log_id = LogId::new_term_index(1, self.index);
        Entry {
            log_id,
            payload: Payload::Normal(types::Command(command)),
        }
    }
}

fn name(key: u64) -> String {
    format!("key-{key:012}")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let keys: u64 = arguments.next().map_or(Ok(200_000), |keys| keys.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(3), |seconds| seconds.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(keys, Duration::from_secs(seconds)))
}

async fn run(keys: u64, time: Duration) -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("holdfast-apply-bench-{}", std::process::id()));
    let engine = Engine::open(&dir, Options::default())?;
    let identity = Identity {
        range: RangeId(1),
        replica: ReplicaId(1),
        store: StoreId(1),
    };
    create(&engine, identity);
    let mut machine = RangeMachine::open(identity, engine.clone(), Arc::new(Alone)).await?;
    let value = Bytes::from(vec![b'v'; 128]);
    let mut workload = Workload {
        keys,
        index: BIRTH_INDEX,
        sequence: 0,
        random: 42,
        value,
    };

    for _ in 0..keys.div_ceil(64) {
        let entry = workload.entry(64, true);
        machine.apply(stream::iter([Ok((entry, None))])).await?;
    }
    engine.persist().await?;
    println!("{keys} keys of 16 bytes with values of 128");
    for writes in [1, 8, 64] {
        apply(&mut machine, &mut workload, writes, time).await?;
        engine.persist().await?;
    }
    read(&engine, keys, time, "reads, nothing written")?;
    let (stop, applied) = (Arc::new(AtomicBool::new(false)), AtomicU64::new(0));
    let reader = {
        let (engine, stop) = (engine.clone(), stop.clone());
        std::thread::spawn(move || {
            let outcome =
                read(&engine, keys, time, "reads, while entries of 8 are applied").map_err(|e| e.to_string());
            stop.store(true, Ordering::Release);
            outcome
        })
    };
    while !stop.load(Ordering::Acquire) {
        let entries: Vec<_> = (0..64).map(|_| Ok((workload.entry(8, false), None))).collect();
        machine.apply(stream::iter(entries)).await?;
        applied.fetch_add(512, Ordering::Relaxed);
    }
    println!(
        "  meanwhile {:>9.0} writes/s",
        applied.into_inner() as f64 / time.as_secs_f64()
    );
    reader.join().map_err(|_| "the reader panicked")??;
    engine.close().await;
    drop(machine);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Writes the row of a range over everything, as one is born.
fn create(engine: &Engine, identity: Identity) {
    let replicas = vec![Replica {
        id: identity.replica,
        store: identity.store,
        role: Role::Voter,
    }];
    let membership = StoredMembership::new(Some(birth_log_id()), row::membership_of(&replicas));
    let epoch = Epoch {
        bounds: 1,
        membership: BIRTH_INDEX,
    };
    let descriptor = Descriptor {
        id: identity.range,
        span: Span::everything(),
        epoch,
        replicas,
    };
    let state = RangeState {
        identity,
        descriptor: Arc::new(descriptor),
        last_revision: Revision::ZERO,
        size_bytes: 0,
        keys: 0,
        sessions: Sessions::default(),
        merge: Merge::No,
        tokens: Default::default(),
    };
    let mut batch = Batch::with_capacity(1);
    let key = Bytes::copy_from_slice(&keys::range_row(identity.range));
    batch.put(key, row::encode(&state, Some(birth_log_id()), &membership));
    engine.write(batch);
}

async fn apply(
    machine: &mut RangeMachine,
    workload: &mut Workload,
    writes: usize,
    time: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut applied, mut busy) = (0u64, Duration::ZERO);
    let (start, cpu) = (Instant::now(), cpu_time());
    while start.elapsed() < time {
        // What openraft hands over at a time; making the entries is not counted.
        let entries: Vec<_> = (0..64)
            .map(|_| Ok((workload.entry(writes, false), None)))
            .collect();
        let begun = Instant::now();
        machine.apply(stream::iter(entries)).await?;
        busy += begun.elapsed();
        applied += 64 * writes as u64;
    }
    let (rate, each) = (
        applied as f64 / start.elapsed().as_secs_f64(),
        busy.as_secs_f64() * 1e6 / applied as f64,
    );
    let cpu = (cpu_time() - cpu).as_secs_f64() * 1e6 / applied as f64;
    println!(
        "entries of {writes:>2}: {rate:>9.0} writes/s, apply {each:.2} µs a write ({:.1} µs an entry), process {cpu:.2} µs of CPU a write",
        each * writes as f64
    );
    Ok(())
}

fn read(engine: &Engine, keys: u64, time: Duration, what: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut workload = Workload {
        keys,
        index: 0,
        sequence: 0,
        random: 7,
        value: Bytes::new(),
    };
    let (start, mut reads) = (Instant::now(), 0u64);
    while start.elapsed() < time {
        for _ in 0..1_000 {
            let key = name(workload.key());
            let found = engine.get(RecordKey::new(key.as_bytes()).as_ref())?;
            assert!(found.is_some(), "{key} is missing");
        }
        reads += 1_000;
    }
    println!(
        "{what}: {:>9.0} gets/s",
        reads as f64 / start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Processor time of this process, to ten milliseconds; zero where there is no `/proc`.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // User and system time are the 12th and 13th field behind the name, which may hold spaces.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(11)
        .take(2);
    Duration::from_millis(10 * fields.filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>())
}
