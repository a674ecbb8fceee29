//! Who holds and who leads a range.

use holdfast_common::clock;
use holdfast_common::ids::StoreId;
use holdfast_common::proto::kv::{Consistency, Error};
use holdfast_common::proto::placement::{Step, StepError};
use holdfast_common::range::{Replica, Role};

use super::{Cluster, FIRST, PATIENCE, eventually, key, replica};
use crate::read::lease::Lease;

#[tokio::test]
async fn a_leadership_is_handed_over_and_the_lease_with_it() {
    let cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    let (address, target) = cluster.target(&key("a")).unwrap();
    let old = cluster.await_leader(FIRST).await;
    let new = (1..=3).find(|store| *store != old).unwrap();
    let leaving = cluster.store(old).host.replica(FIRST).unwrap();

    cluster
        .led_step(
            FIRST,
            Step::TransferLeader {
                range: FIRST,
                to: replica(FIRST, new),
            },
        )
        .await;
    assert_ne!(leaving.lease(), Lease::Held);
    eventually("the new leader", || async {
        (cluster.leader(FIRST)? == new).then_some(())
    })
    .await;
    cluster.write("a", "2").await;
    let elsewhere = cluster
        .try_read(&address, target, "a", Consistency::Linearizable)
        .await;
    assert!(matches!(elsewhere, Err(Error::NotLeader { .. })), "{elsewhere:?}");
    assert_eq!(cluster.read("a").await.as_deref(), Some("2"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_leadership_goes_to_another_if_the_chosen_one_does_not_take_it() {
    let cluster = Cluster::with_first_range_and_no_elections(3).await;
    cluster.write("a", "1").await;
    let old = cluster.await_leader(FIRST).await;
    let others: Vec<usize> = (1..=3).filter(|store| *store != old).collect();
    cluster.cut_off(others[0]).await;
    let to = replica(FIRST, others[0]);
    let refused = cluster
        .try_step(old, Step::TransferLeader { range: FIRST, to })
        .await;
    assert!(matches!(refused, Err(StepError::Busy(_))), "{refused:?}");
    cluster.write("a", "still").await;
    // As if it had been lost right after it had answered.
    let leader = cluster.store(old).host.replica(FIRST).unwrap();
    let transfer = clock::timeout(PATIENCE, leader.transfer(to));
    assert_eq!(transfer.await, Ok(Ok(())));
    eventually("the other leads", || async {
        (cluster.leader(FIRST)? == others[1]).then_some(())
    })
    .await;
    cluster.write("a", "2").await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_leadership_goes_to_nobody_who_could_not_take_it() {
    let mut cluster = Cluster::with_first_range(3).await;
    let leader = cluster.await_leader(FIRST).await;
    let gone = (1..=3).find(|store| *store != leader).unwrap();
    cluster.stop(gone).await;
    let to = replica(FIRST, gone);
    eventually("the leader to notice", || async {
        let replica = cluster.store(leader).host.replica(FIRST)?;
        replica
            .peers()
            .iter()
            .any(|peer| peer.id == to && !peer.live)
            .then_some(())
    })
    .await;
    let refused = cluster
        .try_step(leader, Step::TransferLeader { range: FIRST, to })
        .await;
    assert!(matches!(refused, Err(StepError::Busy(_))), "{refused:?}");
    let stranger = Step::TransferLeader {
        range: FIRST,
        to: replica(FIRST, 9),
    };
    assert!(matches!(
        cluster.try_step(leader, stranger).await,
        Err(StepError::Refused(_))
    ));
    cluster.write("a", "1").await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_replica_is_replaced_and_never_comes_back() {
    let cluster = Cluster::with_first_range(4).await;
    for n in 0..50 {
        cluster.write(&format!("{n}"), "value").await;
    }
    // The leader itself is replaced: it makes way first.
    let old = cluster.await_leader(FIRST).await;
    let remove = vec![replica(FIRST, old)];
    cluster.change_voters(FIRST, &[], &remove).await;
    assert_ne!(cluster.await_leader(FIRST).await, old);
    cluster
        .step(
            old,
            Step::DestroyReplica {
                range: FIRST,
                replica: replica(FIRST, old),
            },
        )
        .await;
    assert!(cluster.store(old).host.replica(FIRST).is_none());

    let again = Step::CreateReplica {
        range: FIRST,
        replica: replica(FIRST, old),
    };
    let refused = cluster.try_step(old, again).await;
    assert!(matches!(refused, Err(StepError::Refused(_))), "{refused:?}");

    // Under another id the store may hold the range again, by snapshot.
    let id = replica(FIRST, 10 + old);
    let member = Replica {
        id,
        store: StoreId(old as u64),
        role: Role::Learner,
    };
    cluster
        .step(
            old,
            Step::CreateReplica {
                range: FIRST,
                replica: id,
            },
        )
        .await;
    cluster
        .led_step(
            FIRST,
            Step::AddLearner {
                range: FIRST,
                replica: member,
            },
        )
        .await;
    cluster.change_voters(FIRST, &[id], &[]).await;
    eventually("all rows on the new replica", || async {
        (cluster.store(old).host.replica(FIRST)?.shared.get().keys == 50).then_some(())
    })
    .await;
    cluster.write("a", "1").await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn steps_that_are_done_do_nothing() {
    let cluster = Cluster::with_first_range(3).await;
    cluster
        .step(
            1,
            Step::CreateFirst {
                range: FIRST,
                replica: replica(FIRST, 1),
            },
        )
        .await;
    for store in 2..=3 {
        cluster.add_voter(FIRST, store).await;
    }
    let second_first = Step::CreateFirst {
        range: super::RangeId(9),
        replica: replica(FIRST, 99),
    };
    assert!(matches!(
        cluster.try_step(2, second_first).await,
        Err(StepError::Refused(_))
    ));
    cluster.stop_all().await;
}

#[tokio::test]
async fn the_heirs_of_a_lost_leader_stand_without_waiting_for_election_timeouts() {
    let cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    let lost = cluster.await_leader(FIRST).await;
    cluster.cut_off(lost).await;
    eventually("an heir that leads", || async {
        let others = (1..=3).filter(|store| *store != lost);
        let mut heirs = others.filter_map(|store| cluster.store(store).host.replica(FIRST));
        heirs
            .any(|heir| {
                // Nobody campaigns by himself. Said each time: stores allow it once when they have been up for a while.
                heir.raft.runtime_config().elect(false);
                heir.leads()
            })
            .then_some(())
    })
    .await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_leader_is_destroyed_only_when_nobody_follows_it() {
    let mut cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    let leader = cluster.await_leader(FIRST).await;
    let destroy = Step::DestroyReplica {
        range: FIRST,
        replica: replica(FIRST, leader),
    };
    let refused = cluster.try_step(leader, destroy.clone()).await;
    assert!(matches!(refused, Err(StepError::Refused(_))), "{refused:?}");
    assert_eq!(cluster.read("a").await.as_deref(), Some("1"));

    for other in (1..=3).filter(|store| *store != leader) {
        cluster.stop(other).await;
    }
    let left = cluster.store(leader).host.replica(FIRST).unwrap();
    assert!(left.leads(), "nobody told it otherwise");
    cluster.step(leader, destroy).await;
    assert!(cluster.store(leader).host.replica(FIRST).is_none());
    cluster.stop_all().await;
}
