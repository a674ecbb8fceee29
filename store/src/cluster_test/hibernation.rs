//! Ranges that are led undisturbed sleep, and work in their sleep; what needs timers wakes them, and so does the loss of their leader.

use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::proto::kv::Consistency;

use super::{Cluster, FIRST, eventually, key};
use crate::metrics::Cause;
use crate::read::lease::Lease;

/// How soon ranges fall asleep in these tests, milliseconds.
const SOON: u64 = 300;

impl Cluster {
    /// As [`with_first_range`](Self::with_first_range), of stores whose ranges fall asleep soon.
    async fn drowsy(count: usize) -> Self {
        Self::with_first_range_after(count, SOON).await
    }

    fn sleeps(&self, store: usize) -> bool {
        let replica = self.store(store).host.replica(FIRST);
        replica.is_some_and(|replica| replica.bed().is_some())
    }

    async fn all_asleep(&self, stores: &[usize]) {
        eventually("sleep", || async {
            stores.iter().all(|store| self.sleeps(*store)).then_some(())
        })
        .await;
    }

    fn applied(&self, store: usize) -> Option<u64> {
        let replica = self.store(store).host.replica(FIRST)?;
        let applied = replica.shared.read().applied;
        applied.map(|applied| applied.index)
    }

    async fn same_applied(&self, stores: &[usize]) {
        eventually("the same is applied", || async {
            let applied = self.applied(stores[0])?;
            let same = stores.iter().all(|store| self.applied(*store) == Some(applied));
            same.then_some(())
        })
        .await;
    }

    fn others(&self, store: usize) -> Vec<usize> {
        (1..=self.members.len()).filter(|other| *other != store).collect()
    }
}

#[tokio::test]
async fn a_sleeping_range_reads_and_writes_in_its_sleep() {
    let cluster = Cluster::drowsy(3).await;
    cluster.write("a", "0").await;
    cluster.all_asleep(&[1, 2, 3]).await;
    let beds = || [1, 2, 3].map(|store| cluster.store(store).host.replica(FIRST).unwrap().bed());
    let before = beds();
    for round in 0..20 {
        cluster.write("a", &round.to_string()).await;
        assert_eq!(cluster.read("a").await, Some(round.to_string()));
    }
    // Nothing follows the last commit, and no heartbeat tells of it by itself.
    cluster.same_applied(&[1, 2, 3]).await;
    // The lease has run out by the clock: a majority confirms it.
    clock::sleep(Duration::from_millis(700)).await;
    assert_eq!(cluster.read("a").await.as_deref(), Some("19"));
    assert!(before.iter().all(Option::is_some));
    assert_eq!(beds(), before, "nobody woke");
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_sleeping_leader_whom_nobody_answers_wakes() {
    let cluster = Cluster::drowsy(3).await;
    cluster.write("a", "0").await;
    cluster.all_asleep(&[1, 2, 3]).await;
    let leader = cluster.await_leader(FIRST).await;
    let (_, target) = cluster.target(&key("a")).unwrap();
    cluster.cut_off(leader).await;
    let request = cluster.put(target, "a", "1");
    let address = cluster.address(leader);
    let write = cluster.try_write(&address, &request);
    let woke = eventually("the leader wakes", || async {
        (!cluster.sleeps(leader)).then_some(())
    });
    let (written, ()) = tokio::join!(write, woke);
    assert!(written.is_err(), "no majority has it: {written:?}");
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_follower_that_wakes_has_its_leader_wake() {
    let cluster = Cluster::drowsy(3).await;
    cluster.write("a", "0").await;
    cluster.all_asleep(&[1, 2, 3]).await;
    let leader = cluster.await_leader(FIRST).await;
    let replica = |store| cluster.store(store).host.replica(FIRST).unwrap();
    let before = replica(leader).bed().unwrap();
    replica(cluster.others(leader)[0]).wake(Cause::Step);
    eventually("the leader wakes", || async {
        let bed = replica(leader).bed();
        bed.is_none_or(|bed| !Arc::ptr_eq(&bed, &before)).then_some(())
    })
    .await;
    cluster.all_asleep(&[1, 2, 3]).await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_single_replica_sleeps_and_wakes() {
    let cluster = Cluster::drowsy(1).await;
    cluster.all_asleep(&[1]).await;
    cluster.write("a", "1").await;
    assert_eq!(cluster.read("a").await.as_deref(), Some("1"));
    cluster.all_asleep(&[1]).await;
    cluster.stop_all().await;
}

/// openraft has a leader that has long heard of no majority keep silent for a while, and one that slept would be taken for
/// such a one: the first to ask something of it would wait for the end of the silence, and in vain.
#[tokio::test]
async fn a_leader_does_not_wake_into_a_silence() {
    let cluster = Cluster::drowsy(3).await;
    cluster.write("a", "0").await;
    cluster.all_asleep(&[1, 2, 3]).await;
    let leader = cluster.await_leader(FIRST).await;
    let replica = cluster.store(leader).host.replica(FIRST).unwrap();
    let lease = replica.site.terms.lease;
    eventually("the end of the lease", || async {
        let age = replica.standing().quorum_acked?;
        (age > lease + Duration::from_millis(100)).then_some(())
    })
    .await;
    assert_eq!(replica.lease(), Lease::Lapsed, "the lease ends by the clock");
    let (address, target) = cluster.target(&key("a")).unwrap();
    let read = cluster
        .try_read(&address, target, "a", Consistency::Linearizable)
        .await;
    assert!(read.is_ok(), "{read:?}");
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_group_whose_sleeping_leader_is_lost_elects_another() {
    let cluster = Cluster::drowsy(3).await;
    cluster.write("a", "old").await;
    cluster.all_asleep(&[1, 2, 3]).await;
    let lost = cluster.await_leader(FIRST).await;
    let (_, target) = cluster.target(&key("a")).unwrap();
    cluster.cut_off(lost).await;
    // Nobody asks anything of the range: it must come to this by itself.
    let heir = eventually("another leader", || async {
        let leads = |store: &usize| {
            let replica = cluster.store(*store).host.replica(FIRST);
            replica.is_some_and(|replica| replica.leads())
        };
        cluster.others(lost).into_iter().find(leads)
    })
    .await;
    let request = cluster.put(target, "a", "new");
    eventually("a write", || async {
        cluster.try_write(&cluster.address(heir), &request).await.ok()
    })
    .await;
    let stale = cluster
        .try_read(&cluster.address(lost), target, "a", Consistency::Linearizable)
        .await;
    assert!(stale.is_err(), "the lost leader answered: {stale:?}");

    // The two of them sleep without the third, and wake for it.
    cluster.all_asleep(&cluster.others(lost)).await;
    cluster.introduce().await;
    cluster.all_asleep(&[1, 2, 3]).await;
    cluster.same_applied(&[lost, heir]).await;
    assert_eq!(cluster.read("a").await.as_deref(), Some("new"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_follower_that_was_left_behind_is_told_what_it_missed() {
    let mut cluster = Cluster::drowsy(3).await;
    cluster.write("a", "0").await;
    cluster.all_asleep(&[1, 2, 3]).await;
    let leader = cluster.await_leader(FIRST).await;
    let gone = cluster.others(leader)[0];
    cluster.stop(gone).await;
    cluster.write("a", "1").await;
    let stay: Vec<_> = (1..=3).filter(|store| *store != gone).collect();
    cluster.all_asleep(&stay).await;
    cluster.start(gone).await;
    cluster.all_asleep(&[1, 2, 3]).await;
    cluster.same_applied(&[gone, stay[0]]).await;
    assert_eq!(cluster.read("a").await.as_deref(), Some("1"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_stale_read_at_a_sleeping_follower_says_how_stale_and_wakes_the_group() {
    let cluster = Cluster::drowsy(3).await;
    cluster.write("a", "1").await;
    cluster.all_asleep(&[1, 2, 3]).await;
    let follower = cluster.others(cluster.await_leader(FIRST).await)[0];
    let (_, target) = cluster.target(&key("a")).unwrap();
    clock::sleep(Duration::from_millis(700)).await;
    let address = cluster.address(follower);
    let read = || cluster.try_read(&address, target, "a", Consistency::Stale);
    let first = read().await.unwrap();
    assert!(first.staleness_ms >= 700, "nobody told it anything: {first:?}");
    eventually("a fresher answer", || async {
        let staleness_ms = read().await.ok()?.staleness_ms;
        (staleness_ms < first.staleness_ms).then_some(())
    })
    .await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn steps_find_a_sleeping_range_awake() {
    let cluster = Cluster::drowsy(2).await;
    cluster.write("a", "1").await;
    cluster.all_asleep(&[1, 2]).await;
    let leader = cluster.await_leader(FIRST).await;
    let other = cluster.others(leader)[0];
    let transfer = holdfast_common::proto::placement::Step::TransferLeader {
        range: FIRST,
        to: super::replica(FIRST, other),
    };
    cluster.try_step(leader, transfer).await.unwrap();
    eventually("the other leads", || async {
        (cluster.leader(FIRST) == Some(other)).then_some(())
    })
    .await;
    cluster.all_asleep(&[1, 2]).await;
    assert_eq!(cluster.read("a").await.as_deref(), Some("1"));
    cluster.stop_all().await;
}
