//! Restarts: what was acknowledged is there, promises are kept, what was created is there again.

use holdfast_common::proto::placement::Step;
use holdfast_common::raft::network::Groups;

use super::{Cluster, FIRST, eventually, replica};

#[tokio::test]
async fn what_was_acknowledged_outlives_a_restart_of_all() {
    let mut cluster = Cluster::with_first_range(3).await;
    for n in 0..50 {
        cluster.write(&format!("{n}"), &n.to_string()).await;
    }
    for store in 1..=3 {
        cluster.stop(store).await;
    }
    for store in 1..=3 {
        cluster.start(store).await;
    }
    for n in 0..50 {
        assert_eq!(cluster.read(&format!("{n}")).await, Some(n.to_string()));
    }
    cluster.write("a", "1").await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_single_replica_serves_again_at_once() {
    let mut cluster = Cluster::with_first_range(1).await;
    cluster.write("a", "1").await;
    cluster.stop(1).await;
    cluster.start(1).await;
    assert_eq!(cluster.read("a").await.as_deref(), Some("1"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_restarted_replica_does_not_vote_while_a_promise_may_be_in_force() {
    let mut cluster = Cluster::with_first_range(3).await;
    let follower = (1..=3)
        .find(|store| Some(*store) != cluster.leader(FIRST))
        .unwrap();
    let id = replica(FIRST, follower);
    assert!(cluster.store(follower).host.may_vote(FIRST, id), "it was fresh");
    cluster.stop(follower).await;
    cluster.start(follower).await;
    assert!(!cluster.store(follower).host.may_vote(FIRST, id));
    assert!(
        !cluster.store(follower).host.may_vote(FIRST, replica(FIRST, 9)),
        "there is no such replica"
    );
    eventually("the end of the grace", || async {
        cluster.store(follower).host.may_vote(FIRST, id).then_some(())
    })
    .await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_replica_that_nothing_was_sent_to_is_there_again() {
    let mut cluster = Cluster::of(1).await;
    cluster
        .step(
            1,
            Step::CreateReplica {
                range: FIRST,
                replica: replica(FIRST, 1),
            },
        )
        .await;
    cluster.stop(1).await;
    cluster.start(1).await;
    assert_eq!(
        cluster.store(1).host.replica(FIRST).unwrap().id,
        replica(FIRST, 1)
    );
    cluster
        .step(
            1,
            Step::DestroyReplica {
                range: FIRST,
                replica: replica(FIRST, 1),
            },
        )
        .await;
    cluster.stop(1).await;
    cluster.start(1).await;
    assert!(cluster.store(1).host.replica(FIRST).is_none());
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_store_that_stops_hands_its_leaderships_over() {
    let mut cluster = Cluster::with_first_range_and_no_elections(3).await;
    cluster.write("a", "1").await;
    let old = cluster.await_leader(FIRST).await;
    cluster.stop(old).await;
    // Nobody would campaign by himself so soon.
    cluster.await_leader(FIRST).await;
    assert_eq!(cluster.read("a").await.as_deref(), Some("1"));
    cluster.stop_all().await;
}
