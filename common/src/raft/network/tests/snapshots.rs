use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::cluster::{Cluster, PATIENCE, metrics, replica, same, until, write};
use super::memory::MemoryMachine;
use crate::clock;
use crate::ids::{RangeId, StoreId};
use crate::net::Lane;
use crate::proto::raft::{
    LogId, Membership, Refusal, Route, SnapshotAnswer, SnapshotChunk, SnapshotHeader, SnapshotMessage,
};
use crate::proto::{self, method};
use crate::raft::types::{Node, Raft};

/// A range on store 1 whose log is gone, so that a new replica needs a snapshot, of about 2 MiB.
async fn compacted(cluster: &Cluster) -> (Raft<MemoryMachine>, Vec<Bytes>) {
    let leader = cluster.range(1, &[1]).await;
    let commands = write(&leader, 0, 2_000, 1_024).await;
    leader.trigger().snapshot().await.expect("triggered");
    let last = metrics(&leader).last_applied.expect("something is applied");
    leader
        .wait(Some(PATIENCE))
        .metrics(|metrics| metrics.purged >= Some(last), "the log is purged")
        .await
        .expect("purged");
    (leader, commands)
}

async fn add_learner(leader: &Raft<MemoryMachine>, store: u64) {
    leader
        .add_learner(
            replica(1, store),
            Node {
                store: StoreId(store),
            },
            false,
        )
        .await
        .expect("added");
}

#[tokio::test]
async fn a_replica_without_a_log_gets_a_snapshot_and_then_follows() {
    let cluster = Cluster::start(2).await;
    let (leader, mut commands) = compacted(&cluster).await;
    let newcomer = cluster.process(2);
    newcomer.create(1).await;
    add_learner(&leader, 2).await;
    let machine = newcomer.machine(1);
    until("the snapshot is installed", || machine.installed() == 1).await;
    commands.extend(write(&leader, 2_000, 100, 8).await);
    until("the learner follows", || {
        machine.commands().len() == commands.len()
    })
    .await;
    assert!(same(&machine.commands(), &commands));
    assert!(
        newcomer.gate.chunk_offsets.lock().len() > 4,
        "it took several chunks"
    );
    until("no file is left", || {
        cluster.process(1).staged_files() + newcomer.staged_files() == 0
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_snapshot_goes_on_where_its_connection_broke() {
    let cluster = Cluster::start(2).await;
    let (leader, commands) = compacted(&cluster).await;
    let (sender, newcomer) = (cluster.process(1), cluster.process(2));
    newcomer.create(1).await;
    let (client, address) = (sender.client.clone(), cluster.world.address(2));
    *newcomer.gate.at_third_chunk.lock() = Some(Box::new(move || client.forget(&address)));
    add_learner(&leader, 2).await;
    let machine = newcomer.machine(1);
    until("the snapshot is installed", || machine.installed() == 1).await;
    assert!(same(&machine.commands(), &commands));
    assert!(
        newcomer.gate.offers.load(Ordering::SeqCst) >= 2,
        "it was offered again"
    );
    let offsets = newcomer.gate.chunk_offsets.lock().clone();
    assert_eq!(
        offsets.iter().filter(|&&offset| offset == 0).count(),
        1,
        "it did not start over: {offsets:?}"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_is_refused_comes_again() {
    let cluster = Cluster::start(2).await;
    let (leader, commands) = compacted(&cluster).await;
    let newcomer = cluster.process(2);
    newcomer.create(1).await;
    newcomer.host.refuses_snapshots.store(true, Ordering::SeqCst);
    add_learner(&leader, 2).await;
    let gate = &newcomer.gate;
    until("it is offered and refused", || {
        gate.offers.load(Ordering::SeqCst) >= 2
    })
    .await;
    assert!(
        gate.chunk_offsets.lock().is_empty(),
        "nothing is sent that nobody wants"
    );
    newcomer.host.refuses_snapshots.store(false, Ordering::SeqCst);
    let machine = newcomer.machine(1);
    until("the snapshot is installed", || {
        same(&machine.commands(), &commands)
    })
    .await;
    cluster.stop().await;
}

/// What a test sends in a leader's place: one chunk of `content`, offered as `len` bytes.
struct Stranger<'c> {
    cluster: &'c Cluster,
    header: SnapshotHeader,
}

impl<'c> Stranger<'c> {
    fn new(cluster: &'c Cluster, transfer: u64, len: u64, checksum: u64) -> Self {
        let route = Route {
            range: RangeId(1),
            from: replica(1, 2),
            to: replica(1, 1),
        };
        let (last, membership) = (
            Some(LogId {
                term: 90,
                index: 1_000,
            }),
            Membership::default(),
        );
        let header = SnapshotHeader {
            route,
            term: 90,
            transfer,
            last,
            membership_log_id: None,
            membership,
            len,
            checksum,
        };
        Self { cluster, header }
    }

    async fn send(&self, message: SnapshotMessage) -> Result<SnapshotAnswer, Refusal> {
        let client = &self.cluster.process(2).client;
        let (address, body) = (self.cluster.world.address(1), proto::encode(&message));
        let deadline = clock::now() + PATIENCE;
        let answer = client
            .call(&address, Lane::Bulk, method::RAFT_SNAPSHOT, body, deadline)
            .await;
        proto::decode(&answer.expect("an answer")).expect("a snapshot answer")
    }

    async fn offer(&self) -> Result<SnapshotAnswer, Refusal> {
        self.send(SnapshotMessage::Offer(self.header.clone())).await
    }

    async fn chunk(&self, offset: u64, data: &'static [u8]) -> Result<SnapshotAnswer, Refusal> {
        let SnapshotHeader { route, transfer, .. } = self.header;
        let data = Bytes::from_static(data);
        self.send(SnapshotMessage::Chunk(SnapshotChunk {
            route,
            transfer,
            offset,
            data,
        }))
        .await
    }

    async fn install(&self) -> Result<SnapshotAnswer, Refusal> {
        let SnapshotHeader { route, transfer, .. } = self.header;
        self.send(SnapshotMessage::Install { route, transfer }).await
    }
}

#[tokio::test]
async fn a_damaged_snapshot_is_not_installed() {
    let cluster = Cluster::start(2).await;
    cluster.process(1).create(1).await;
    let stranger = Stranger::new(&cluster, 7, 6, 12345);
    assert_eq!(stranger.offer().await, Ok(SnapshotAnswer::Have(0)));
    assert_eq!(stranger.chunk(0, b"abc").await, Ok(SnapshotAnswer::Have(3)));
    assert_eq!(
        stranger.install().await,
        Ok(SnapshotAnswer::Have(3)),
        "half of it is not installed"
    );
    assert_eq!(
        stranger.chunk(5, b"f").await,
        Ok(SnapshotAnswer::Have(3)),
        "a gap is not filled"
    );
    assert_eq!(
        stranger.chunk(0, b"xyz").await,
        Ok(SnapshotAnswer::Have(3)),
        "nothing is written twice"
    );
    assert_eq!(stranger.chunk(3, b"def").await, Ok(SnapshotAnswer::Have(6)));
    assert!(matches!(stranger.install().await, Err(Refusal::Snapshot(_))));
    assert_eq!(cluster.process(1).machine(1).installed(), 0);
    until("its file is gone", || cluster.process(1).staged_files() == 0).await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_snapshot_takes_no_more_than_it_announced() {
    let cluster = Cluster::start(2).await;
    cluster.process(1).create(1).await;
    let stranger = Stranger::new(&cluster, 7, 2, 0);
    assert_eq!(stranger.offer().await, Ok(SnapshotAnswer::Have(0)));
    assert!(matches!(
        stranger.chunk(0, b"abc").await,
        Err(Refusal::Snapshot(_))
    ));
    assert!(
        matches!(stranger.chunk(0, b"ab").await, Err(Refusal::Snapshot(_))),
        "the transfer has ended"
    );
    cluster.stop().await;
}

#[tokio::test]
async fn a_later_offer_takes_the_place_of_an_earlier_one_but_not_an_older_leaders() {
    let cluster = Cluster::start(2).await;
    cluster.process(1).create(1).await;
    let (first, second) = (Stranger::new(&cluster, 1, 3, 0), Stranger::new(&cluster, 2, 3, 0));
    let mut older = Stranger::new(&cluster, 3, 3, 0);
    older.header.term -= 1;
    assert_eq!(first.offer().await, Ok(SnapshotAnswer::Have(0)));
    assert_eq!(first.chunk(0, b"ab").await, Ok(SnapshotAnswer::Have(2)));
    assert_eq!(second.offer().await, Ok(SnapshotAnswer::Have(0)));
    assert!(matches!(first.chunk(2, b"c").await, Err(Refusal::Snapshot(_))));
    assert!(matches!(older.offer().await, Err(Refusal::Snapshot(_))));
    assert_eq!(second.chunk(0, b"a").await, Ok(SnapshotAnswer::Have(1)));
    assert_eq!(
        second.offer().await,
        Ok(SnapshotAnswer::Have(1)),
        "the same offer goes on"
    );
    cluster.stop().await;
}
