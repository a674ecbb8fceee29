//! Stores without a placement driver: several in one process, over real sockets and directories, told what to do directly.

mod check;
mod hibernation;
mod membership;
mod merge;
mod reads;
mod recovery;
mod restart;
mod split;
mod verify;
mod writes;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::{ClusterId, RangeId, ReplicaId, SessionId, StoreId};
use holdfast_common::key::Key;
use holdfast_common::net::{Client, ClientConfig, ClusterIdCell, Lane, PeerInfo, Role};
use holdfast_common::proto::kv::{
    Condition, Consistency, Error, GetAnswer, GetRequest, Mutation, Record, Target, WriteOutcome,
    WriteRequest,
};
use holdfast_common::proto::placement::{Step, StepError, StoreRoute, VoterChange};
use holdfast_common::proto::{self, method};
use holdfast_common::range::{Replica, Role as MemberRole};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::config::Config;
use crate::store::Store;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(30);

const FIRST: RangeId = RangeId(1);

/// An address that nobody listens at.
const NOWHERE: &str = "127.0.0.1:1";

struct Member {
    id: StoreId,
    dir: TempDir,
    store: Option<Store>,
}

struct Cluster {
    cluster: ClusterIdCell,
    client: Client,
    members: Vec<Member>,
    hibernate_after_ms: u64,
    /// Shortest and longest silence of a leader after which a replica campaigns, milliseconds.
    election_ms: (u64, u64),
    sequence: AtomicU64,
}

/// The replica of a range on a store, as these tests number them.
fn replica(range: RangeId, store: usize) -> ReplicaId {
    ReplicaId(range.0 * 100 + store as u64)
}

fn key(name: &str) -> Key {
    Key::new(name.to_owned()).unwrap()
}

fn config(store: StoreId) -> Config {
    Config {
        name: format!("store-{store}"),
        rpc: "127.0.0.1:0".to_owned(),
        raft_heartbeat_ms: 60,
        disk_reserve_bytes: 0,
        shutdown_grace_ms: 300,
        ..Config::default()
    }
}

impl Cluster {
    /// `count` stores, numbered from 1, that hold nothing.
    async fn of(count: usize) -> Self {
        Self::of_sleepers(count, Config::default().hibernate_after_ms).await
    }

    async fn of_sleepers(count: usize, hibernate_after_ms: u64) -> Self {
        Self::of_settings(count, hibernate_after_ms, (300, 500)).await
    }

    async fn of_settings(count: usize, hibernate_after_ms: u64, election_ms: (u64, u64)) -> Self {
        let cluster = ClusterIdCell::known(ClusterId(7));
        let identity = PeerInfo::new(Role::Router, 0, "test");
        let client = Client::new(ClientConfig::default(), cluster.clone(), identity);
        let members = (1..=count)
            .map(|id| Member {
                id: StoreId(id as u64),
                dir: tempfile::tempdir().unwrap(),
                store: None,
            })
            .collect();
        let mut cluster = Self {
            cluster,
            client,
            members,
            hibernate_after_ms,
            election_ms,
            sequence: AtomicU64::new(1),
        };
        for store in 1..=count {
            cluster.start(store).await;
        }
        cluster
    }

    /// `count` stores with the first range on all of them, led by the first.
    async fn with_first_range(count: usize) -> Self {
        Self::with_first_range_after(count, Config::default().hibernate_after_ms).await
    }

    async fn with_first_range_after(count: usize, hibernate_after_ms: u64) -> Self {
        let cluster = Self::of_sleepers(count, hibernate_after_ms).await;
        cluster.create_first_range().await;
        cluster
    }

    /// As [`with_first_range`](Self::with_first_range), and nobody campaigns by himself as long as a test runs.
    async fn with_first_range_and_no_elections(count: usize) -> Self {
        let never = (10 * 60 * 1_000, 20 * 60 * 1_000);
        let cluster = Self::of_settings(count, Config::default().hibernate_after_ms, never).await;
        cluster.create_first_range().await;
        cluster
    }

    async fn create_first_range(&self) {
        self.step(
            1,
            Step::CreateFirst {
                range: FIRST,
                replica: replica(FIRST, 1),
            },
        )
        .await;
        self.await_leader(FIRST).await;
        for store in 2..=self.members.len() {
            self.add_voter(FIRST, store).await;
        }
    }

    async fn start(&mut self, store: usize) {
        let member = &mut self.members[store - 1];
        let identity = PeerInfo::new(Role::Store, member.id.0, format!("store-{store}"));
        let client = Client::new(ClientConfig::default(), self.cluster.clone(), identity);
        let config = Config {
            hibernate_after_ms: self.hibernate_after_ms,
            raft_election_min_ms: self.election_ms.0,
            raft_election_max_ms: self.election_ms.1,
            ..config(member.id)
        };
        let started = Store::start(
            &config,
            member.dir.path(),
            member.id,
            self.cluster.clone(),
            (client, None),
        );
        member.store = Some(started.await.unwrap());
        self.introduce().await;
    }

    async fn stop(&mut self, store: usize) {
        self.members[store - 1].store.take().unwrap().stop().await;
    }

    async fn stop_all(mut self) {
        let stores: Vec<Store> = self
            .members
            .iter_mut()
            .filter_map(|member| member.store.take())
            .collect();
        futures::future::join_all(stores.into_iter().map(Store::stop)).await;
    }

    fn store(&self, store: usize) -> &Store {
        self.members[store - 1].store.as_ref().unwrap()
    }

    fn running(&self) -> impl Iterator<Item = (StoreId, &Store)> {
        self.members
            .iter()
            .filter_map(|member| Some((member.id, member.store.as_ref()?)))
    }

    fn address(&self, store: usize) -> String {
        self.store(store).rpc.to_string()
    }

    /// Tells every store where every other is.
    async fn introduce(&self) {
        let routes: Vec<_> = self
            .running()
            .map(|(id, store)| route(id, &store.rpc.to_string()))
            .collect();
        for (_, store) in self.running() {
            store
                .host
                .site
                .addresses
                .learn(&store.log, routes.clone())
                .await
                .unwrap();
        }
    }

    /// Cuts a store off from the others: neither finds the other any more. Clients still reach it.
    async fn cut_off(&self, cut: usize) {
        let cut = StoreId(cut as u64);
        for (id, store) in self.running() {
            let lost = self
                .running()
                .map(|(other, _)| other)
                .filter(|other| (*other == cut) != (id == cut));
            let lost = lost.map(|other| route(other, NOWHERE)).collect();
            store.host.site.addresses.learn(&store.log, lost).await.unwrap();
        }
    }

    /// Has a step carried out, asking again while the store is busy.
    async fn step(&self, store: usize, step: Step) {
        eventually(&format!("{step:?}"), || async {
            match self.try_step(store, step.clone()).await {
                Ok(()) => Some(()),
                Err(StepError::Busy(_) | StepError::NotLeader(_)) => None,
                Err(error) => panic!("{step:?}: {error}"),
            }
        })
        .await;
    }

    async fn try_step(&self, store: usize, step: Step) -> Result<(), StepError> {
        self.call(&self.address(store), method::STORE_STEP, &step)
            .await
            .unwrap()
    }

    /// Makes `store` a voter of `range`, whoever leads it.
    async fn add_voter(&self, range: RangeId, store: usize) {
        let id = replica(range, store);
        let member = Replica {
            id,
            store: StoreId(store as u64),
            role: MemberRole::Learner,
        };
        self.step(store, Step::CreateReplica { range, replica: id }).await;
        self.led_step(
            range,
            Step::AddLearner {
                range,
                replica: member,
            },
        )
        .await;
        self.change_voters(range, &[id], &[]).await;
    }

    /// Changes who votes in a range, from whoever does.
    async fn change_voters(&self, range: RangeId, promote: &[ReplicaId], remove: &[ReplicaId]) {
        let leader = self.await_leader(range).await;
        let membership = self.store(leader).host.replica(range).unwrap().membership();
        let change = VoterChange {
            from: membership.voter_ids().collect(),
            promote: promote.to_vec(),
            remove: remove.to_vec(),
        };
        self.led_step(range, Step::ChangeVoters { range, change }).await;
    }

    /// Has a step carried out by whoever leads the range.
    async fn led_step(&self, range: RangeId, step: Step) {
        eventually(&format!("{step:?}"), || async {
            let leader = self.leader(range)?;
            match self.try_step(leader, step.clone()).await {
                Ok(()) => Some(()),
                Err(StepError::Busy(_) | StepError::NotLeader(_) | StepError::NoSuchRange(_)) => None,
                Err(error) => panic!("{step:?}: {error}"),
            }
        })
        .await;
    }

    /// The store that leads a range, as far as one says so of itself.
    fn leader(&self, range: RangeId) -> Option<usize> {
        let leads = |store: &Store| store.host.replica(range).is_some_and(|replica| replica.leads());
        self.running()
            .find(|(_, store)| leads(store))
            .map(|(id, _)| id.0 as usize)
    }

    async fn await_leader(&self, range: RangeId) -> usize {
        eventually("a leader", || async { self.leader(range) }).await
    }

    /// The range that holds `key`, as its leader has it.
    fn target(&self, key: &Key) -> Option<(String, Target)> {
        self.running().find_map(|(_, store)| {
            let replicas = store.host.replicas();
            let replica = replicas.iter().find(|replica| {
                let here = replica
                    .descriptor()
                    .is_some_and(|range| range.span.contains(key.as_bytes()));
                here && replica.leads()
            })?;
            let target = Target {
                range: replica.range,
                bounds: replica.descriptor()?.epoch.bounds,
            };
            Some((store.rpc.to_string(), target))
        })
    }

    fn put(&self, target: Target, name: &str, value: &str) -> WriteRequest {
        WriteRequest {
            target,
            session: SessionId(1),
            sequence: self.sequence.fetch_add(1, Ordering::Relaxed),
            finished_below: 0,
            key: key(name),
            condition: Condition::None,
            mutation: Mutation::Put {
                value: Bytes::copy_from_slice(value.as_bytes()),
                ttl_ms: 0,
            },
        }
    }

    /// Writes, through whoever leads, until it is acknowledged.
    async fn write(&self, name: &str, value: &str) -> WriteOutcome {
        let mut request = self.put(
            Target {
                range: FIRST,
                bounds: 0,
            },
            name,
            value,
        );
        eventually(&format!("writing {name}"), || {
            let found = self.target(&request.key);
            if let Some((_, target)) = &found {
                request.target = *target;
            }
            let request = request.clone();
            async move { self.try_write(&found?.0, &request).await.ok() }
        })
        .await
    }

    async fn try_write(&self, address: &str, request: &WriteRequest) -> Result<WriteOutcome, Error> {
        self.call(address, method::KV_WRITE, request)
            .await
            .unwrap_or(Err(Error::OutcomeUnknown))
    }

    /// Reads what is there, through whoever leads, until there is an answer.
    async fn read(&self, name: &str) -> Option<String> {
        eventually(&format!("reading {name}"), || async {
            let (address, target) = self.target(&key(name))?;
            self.try_read(&address, target, name, Consistency::Linearizable)
                .await
                .ok()
        })
        .await
        .record
        .map(text)
    }

    async fn try_read(
        &self,
        address: &str,
        target: Target,
        name: &str,
        consistency: Consistency,
    ) -> Result<GetAnswer, Error> {
        let request = GetRequest {
            target,
            consistency,
            key: key(name),
        };
        let unreachable = Err(Error::NotReady("unreachable".to_owned()));
        self.call(address, method::KV_GET, &request)
            .await
            .unwrap_or(unreachable)
    }

    async fn call<A: DeserializeOwned>(
        &self,
        address: &str,
        method: u16,
        request: &impl Serialize,
    ) -> Result<A, holdfast_common::net::Error> {
        let answer = self
            .client
            .call(address, Lane::Fast, method, proto::encode(request), deadline())
            .await?;
        Ok(proto::decode(&answer).unwrap())
    }
}

fn deadline() -> Instant {
    clock::now() + Duration::from_secs(5)
}

fn route(id: StoreId, address: &str) -> StoreRoute {
    StoreRoute {
        id,
        rpc_address: address.to_owned(),
    }
}

fn text(record: Record) -> String {
    String::from_utf8(record.value.to_vec()).unwrap()
}

/// Tries again until there is something, or patience ends.
async fn eventually<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let tries = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    clock::timeout(PATIENCE, tries)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"))
}
