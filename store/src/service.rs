//! The RPC service of a store: takes requests off connections and sends each on its way.
//!
//! `call` runs on the task that reads a connection, once for each request; `flush` once for all that one socket read
//! brought. Reads and writes are gathered in between: writes of one range then share an entry, and reads of one range
//! share a look at the lease.

use std::sync::Arc;

use dashmap::DashMap;
use holdfast_common::blocking;
use holdfast_common::clock::{self, Instant};
use holdfast_common::net::{ConnId, ErrorCode, Reply, Request, Service};
use holdfast_common::proto::check::{Check, Question, Report};
use holdfast_common::proto::hibernation::{AreYouThere, Sleep, Wake};
use holdfast_common::proto::kv::{
    self, Consistency, Error, ExplainWriteRequest, GetRequest, OnceRequest, ScanRequest, Target,
    WriteOutcome, WriteRequest,
};
use holdfast_common::proto::merge::Absorb;
use holdfast_common::proto::placement::{Step, StepError};
use holdfast_common::proto::recovery::{Survey, Surveyed};
use holdfast_common::proto::{self, method};
use holdfast_common::raft::network::{Inbound, is_raft};
use serde::de::DeserializeOwned;

use crate::command::{Write, bounds};
use crate::engine::Engine;
use crate::host::Host;
use crate::keys;
use crate::machine::RangeMachine;
use crate::memory::Held;
use crate::metrics::{self, Op, Outcome, ReadPath};
use crate::read::index::Waiting as WaitingRead;
use crate::read::lease::Lease;
use crate::read::{point, scan};
use crate::replica::Replica;
use crate::replica::writes::Waiting as WaitingWrite;

/// When a writer that the engine can't keep up with may come again, milliseconds.
const PRESSURE_RETRY_MS: u32 = 100;

/// What one socket read has brought so far.
#[derive(Default)]
struct Gathered {
    reads: Vec<(Arc<Replica>, WaitingRead)>,
    /// Replicas with new writes.
    proposers: Vec<Arc<Replica>>,
}

/// Answers for one store.
pub(crate) struct StoreService {
    host: Arc<Host>,
    raft: Inbound<RangeMachine>,
    gathered: DashMap<ConnId, Gathered>,
}

impl StoreService {
    /// A service for the replicas of `host`, whose Raft messages go through `raft`.
    pub(crate) fn new(host: Arc<Host>, raft: Inbound<RangeMachine>) -> Self {
        Self {
            host,
            raft,
            gathered: DashMap::new(),
        }
    }

    fn get(&self, request: &Request, reply: Reply) {
        let Some((get, reply)) = decode::<GetRequest>(request, reply) else {
            return;
        };
        let Some(replica) = self.host.replica(get.target.range) else {
            return WaitingRead::Get(get, reply).refuse(&Error::NoSuchRange);
        };
        match get.consistency {
            Consistency::Linearizable => self.gather(request.conn, replica, WaitingRead::Get(get, reply)),
            Consistency::Stale => stale(replica, WaitingRead::Get(get, reply)),
        }
    }

    fn explain_get(&self, request: &Request, reply: Reply) {
        let Some((get, reply)) = decode::<GetRequest>(request, reply) else {
            return;
        };
        let (range, consistency) = (get.target.range, get.consistency);
        let read = WaitingRead::Explain(get, reply, clock::now());
        match (self.host.replica(range), consistency) {
            (None, _) => read.refuse(&Error::NoSuchRange),
            (Some(replica), Consistency::Linearizable) => self.gather(request.conn, replica, read),
            (Some(replica), Consistency::Stale) => stale(replica, read),
        }
    }

    fn scan(&self, request: &Request, reply: Reply) {
        let Some((scan, reply)) = decode::<ScanRequest>(request, reply) else {
            return;
        };
        let Some(replica) = self.host.replica(scan.target.range) else {
            return WaitingRead::Scan(scan, reply).refuse(&Error::NoSuchRange);
        };
        match scan.consistency {
            Consistency::Linearizable => self.gather(request.conn, replica, WaitingRead::Scan(scan, reply)),
            Consistency::Stale => stale(replica, WaitingRead::Scan(scan, reply)),
        }
    }

    fn gather(&self, conn: ConnId, replica: Arc<Replica>, read: WaitingRead) {
        self.gathered.entry(conn).or_default().reads.push((replica, read));
    }

    fn write(&self, request: &Request, reply: Reply) {
        if let Some((write, reply)) = decode::<WriteRequest>(request, reply) {
            self.take_write(request, write.target, write.into(), false, reply);
        }
    }

    fn write_once(&self, request: &Request, reply: Reply) {
        if let Some((once, reply)) = decode::<OnceRequest>(request, reply) {
            self.take_write(request, once.write.target, once.into(), false, reply);
        }
    }

    fn explain_write(&self, request: &Request, reply: Reply) {
        if let Some((explain, reply)) = decode::<ExplainWriteRequest>(request, reply) {
            let target = explain.write.target;
            let write = Write {
                once: explain.once,
                ..explain.write.into()
            };
            self.take_write(request, target, write, true, reply);
        }
    }

    fn take_write(&self, request: &Request, target: Target, write: Write, is_explained: bool, reply: Reply) {
        let (replica, held) = match self.admit(target, &write) {
            Ok(admitted) => admitted,
            Err(error) => {
                metrics::ops(Op::Write, Outcome::of(&error), 1);
                return reply.send(proto::encode(&Err::<WriteOutcome, _>(error)));
            }
        };
        let arrived = clock::now();
        replica.enqueue(WaitingWrite {
            write,
            is_explained,
            reply,
            deadline: request.deadline,
            arrived,
            _held: held,
        });
        let mut gathered = self.gathered.entry(request.conn).or_default();
        if !gathered
            .proposers
            .iter()
            .any(|known| Arc::ptr_eq(known, &replica))
        {
            gathered.proposers.push(replica);
        }
    }

    /// Whether a write may wait at this store to be proposed.
    fn admit(&self, target: Target, write: &Write) -> Result<(Arc<Replica>, Held), Error> {
        let replica = self.host.replica(target.range).ok_or(Error::NoSuchRange)?;
        replica.admit_key(target, write.key.as_bytes())?;
        if !replica.leads() {
            return Err(replica.not_leader());
        }
        bounds::check(write).map_err(Error::Invalid)?;
        if bounds::takes_space(&write.mutation) && replica.site.disk.refuses_puts() {
            return Err(Error::DiskFull);
        }
        let held = replica.site.room.take(write.encoded_len());
        let Some(held) = held.filter(|_| !replica.site.is_pressed()) else {
            return Err(Error::Busy {
                retry_after_ms: PRESSURE_RETRY_MS,
            });
        };
        Ok((replica, held))
    }

    fn step(&self, request: &Request, reply: Reply) {
        let Some((step, reply)) = decode::<Step>(request, reply) else {
            return;
        };
        let host = self.host.clone();
        tokio::spawn(async move {
            let taken: Result<(), StepError> = host.take_step(step).await;
            reply.send(proto::encode(&taken));
        });
    }

    fn absorb(&self, request: &Request, reply: Reply) {
        let Some((absorb, reply)) = decode::<Absorb>(request, reply) else {
            return;
        };
        let host = self.host.clone();
        tokio::spawn(async move {
            let absorbed: Result<(), StepError> = host.absorb(absorb).await;
            reply.send(proto::encode(&absorbed));
        });
    }
}

impl StoreService {
    fn survey(&self, request: &Request, reply: Reply) {
        let Some((survey, reply)) = decode::<Survey>(request, reply) else {
            return;
        };
        let host = self.host.clone();
        blocking::start(move || match host.survey(&survey.ranges) {
            Ok(replicas) => reply.send(proto::encode(&Surveyed { replicas })),
            Err(error) => reply.fail(ErrorCode::Unavailable, &error.to_string()),
        });
    }
}

impl StoreService {
    fn sleep(&self, request: &Request, reply: Reply) {
        if let Some((sleep, reply)) = decode::<Sleep>(request, reply) {
            let host = self.host.clone();
            tokio::spawn(async move { reply.send(proto::encode(&host.sleep(&sleep))) });
        }
    }

    fn wake(&self, request: &Request, reply: Reply) {
        if let Some((wake, reply)) = decode::<Wake>(request, reply) {
            self.host.wake(wake);
            reply.send(proto::encode(&()));
        }
    }

    fn alive(&self, request: &Request, reply: Reply) {
        if let Some((AreYouThere {}, reply)) = decode(request, reply) {
            reply.send(proto::encode(&self.host.here_i_am()));
        }
    }
}

impl StoreService {
    fn check(&self, request: &Request, reply: Reply) {
        let Some((check, reply)) = decode::<Check>(request, reply) else {
            return;
        };
        let host = self.host.clone();
        // Goes on even if nobody waits any more: what it finds has to be told.
        tokio::spawn(async move {
            let compared: Result<Report, StepError> = host.compare(check.range).await;
            reply.send(proto::encode(&compared));
        });
    }

    fn sum(&self, request: &Request, reply: Reply) {
        if let Some((question, reply)) = decode::<Question>(request, reply) {
            reply.send(proto::encode(&self.host.answer(&question)));
        }
    }

    fn compared(&self, request: &Request, reply: Reply) {
        if let Some((report, reply)) = decode::<Report>(request, reply) {
            self.host.learn(&report);
            reply.send(proto::encode(&()));
        }
    }
}

impl Service for StoreService {
    fn call(&self, request: Request, reply: Reply) {
        match request.method {
            method::KV_GET => self.get(&request, reply),
            method::KV_WRITE => self.write(&request, reply),
            method::KV_WRITE_ONCE => self.write_once(&request, reply),
            method::KV_SCAN => self.scan(&request, reply),
            method::KV_EXPLAIN_GET => self.explain_get(&request, reply),
            method::KV_EXPLAIN_WRITE => self.explain_write(&request, reply),
            method::STORE_STEP => self.step(&request, reply),
            method::STORE_ABSORB => self.absorb(&request, reply),
            method::STORE_SURVEY => self.survey(&request, reply),
            method::STORE_SLEEP => self.sleep(&request, reply),
            method::STORE_WAKE => self.wake(&request, reply),
            method::STORE_ALIVE => self.alive(&request, reply),
            method::STORE_CHECK => self.check(&request, reply),
            method::STORE_SUM => self.sum(&request, reply),
            method::STORE_COMPARED => self.compared(&request, reply),
            raft if is_raft(raft) => self.raft.handle(request, reply),
            _ => reply.fail(ErrorCode::UnknownMethod, "not a method of a store"),
        }
    }

    fn flush(&self, conn: ConnId) {
        let Some(mut gathered) = self.gathered.get_mut(&conn) else {
            return;
        };
        let Gathered { reads, proposers } = std::mem::take(&mut *gathered);
        drop(gathered);
        for replica in proposers {
            replica.propose();
        }
        if !reads.is_empty() {
            answer_soon(reads);
        }
    }

    fn closed(&self, conn: ConnId) {
        self.gathered.remove(&conn);
        self.raft.closed(conn);
    }
}

/// Answers linearizable reads that arrived together: those at once that need not wait for the disk.
fn answer_soon(reads: Vec<(Arc<Replica>, WaitingRead)>) {
    let arrived = clock::now();
    let engine = reads.first().map(|(replica, _)| replica.site.engine.clone());
    let Some(engine) = engine.filter(Engine::is_slow) else {
        return answer_together(reads, arrived);
    };
    let mut keys = Vec::new();
    let (later, now): (Vec<_>, Vec<_>) = reads.into_iter().partition(|(_, read)| {
        let key = read.key().map(|key| keys::record(key.as_bytes()));
        let missing = key.filter(|key| engine.must_search(key));
        let is_missing = missing.is_some();
        keys.extend(missing);
        is_missing
    });
    answer_together(now, arrived);
    if !later.is_empty() {
        // What may be answered, and by whom, is looked at after the wait.
        tokio::spawn(async move {
            engine.fetch(keys).await;
            answer_together(later, arrived);
        });
    }
}

/// Answers linearizable reads that arrived together, with one look at the lease of each range.
fn answer_together(reads: Vec<(Arc<Replica>, WaitingRead)>, arrived: Instant) {
    let mut looked: Option<(Arc<Replica>, Lease)> = None;
    let (mut held, mut gets) = (false, false);
    for (replica, read) in reads {
        let lease = match &looked {
            Some((known, lease)) if Arc::ptr_eq(known, &replica) => *lease,
            _ => replica.lease(),
        };
        let is_get = read.is_get();
        match (lease, read) {
            (Lease::Held, WaitingRead::Get(request, reply)) => point::answer(&replica, &request, 0, reply),
            (Lease::Held, WaitingRead::Scan(request, reply)) => scan::start(&replica, request, 0, reply),
            (Lease::Held, WaitingRead::Explain(request, reply, arrived)) => {
                point::explain(&replica, &request, 0, kv::ReadPath::Lease, arrived, reply);
            }
            (Lease::Lapsed, read) => replica.join_round(read),
            (Lease::NotLeader, read) => read.refuse(&replica.not_leader()),
        }
        held |= lease == Lease::Held;
        gets |= is_get && lease == Lease::Held;
        looked = Some((replica, lease));
    }
    if held {
        metrics::read_took(ReadPath::Lease, arrived.elapsed());
    }
    if gets {
        metrics::op_took(Op::Get, arrived.elapsed());
    }
}

/// Answers a stale read, at once when it is known how stale.
fn stale(replica: Arc<Replica>, read: WaitingRead) {
    let arrived = clock::now();
    // The next one is to find it fresh.
    replica.ask_for_freshness();
    match replica.staleness_ms() {
        Some(staleness_ms) => answer_stale(&replica, read, staleness_ms, arrived),
        None => {
            tokio::spawn(async move {
                let staleness_ms = replica.learn_staleness_ms().await;
                answer_stale(&replica, read, staleness_ms, arrived);
            });
        }
    }
}

fn answer_stale(replica: &Arc<Replica>, read: WaitingRead, staleness_ms: u64, arrived: Instant) {
    metrics::read_took(ReadPath::Stale, arrived.elapsed());
    if read.is_get() {
        metrics::op_took(Op::Get, arrived.elapsed());
    }
    match read {
        WaitingRead::Get(request, reply) => point::answer(replica, &request, staleness_ms, reply),
        WaitingRead::Scan(request, reply) => scan::start(replica, request, staleness_ms, reply),
        WaitingRead::Explain(request, reply, arrived) => {
            point::explain(
                replica,
                &request,
                staleness_ms,
                kv::ReadPath::Stale,
                arrived,
                reply,
            );
        }
    }
}

fn decode<T: DeserializeOwned>(request: &Request, reply: Reply) -> Option<(T, Reply)> {
    match proto::decode(&request.body) {
        Ok(message) => Some((message, reply)),
        Err(error) => {
            reply.fail(ErrorCode::BadRequest, &error.to_string());
            None
        }
    }
}
