//! Splits: both parts serve, old epochs are refused, nothing is lost.

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::proto::kv::{Consistency, Error};
use holdfast_common::proto::placement::{Step, StepError};
use holdfast_common::range::{Replica, Role};

use super::{Cluster, FIRST, eventually, key, replica};

pub(super) const RIGHT: RangeId = RangeId(2);

pub(super) fn split(at: Option<&str>) -> Step {
    let replicas = (1..=3)
        .map(|store| (StoreId(store as u64), replica(RIGHT, store)))
        .collect();
    Step::Split {
        range: FIRST,
        bounds: 1,
        at: at.map(key),
        right: RIGHT,
        replicas,
    }
}

#[tokio::test]
async fn both_parts_serve_what_was_there_and_what_comes() {
    let cluster = Cluster::with_first_range(3).await;
    for name in ["a", "g", "m", "z"] {
        cluster.write(name, name).await;
    }
    let (_, before) = cluster.target(&key("z")).unwrap();
    cluster.led_step(FIRST, split(Some("m"))).await;
    let leader = cluster.await_leader(FIRST).await;

    // Whoever asks with the old bounds learns both parts.
    match cluster
        .try_read(&cluster.address(leader), before, "z", Consistency::Linearizable)
        .await
    {
        Err(Error::StaleEpoch { current }) => {
            let mut known: Vec<_> = current
                .iter()
                .map(|range| (range.id, range.epoch.bounds))
                .collect();
            known.sort_unstable();
            assert_eq!(known, [(FIRST, 2), (RIGHT, 2)]);
        }
        other => panic!("{other:?}"),
    }
    cluster.await_leader(RIGHT).await;
    for name in ["a", "g", "m", "z"] {
        assert_eq!(cluster.read(name).await.as_deref(), Some(name));
        cluster.write(name, "again").await;
        assert_eq!(cluster.read(name).await.as_deref(), Some("again"));
    }
    // A repeated step does nothing; the right part is a range like any other.
    cluster.led_step(FIRST, split(Some("m"))).await;
    let to = (1..=3)
        .find(|store| Some(*store) != cluster.leader(RIGHT))
        .unwrap();
    cluster
        .led_step(
            RIGHT,
            Step::TransferLeader {
                range: RIGHT,
                to: replica(RIGHT, to),
            },
        )
        .await;
    assert_eq!(cluster.read("z").await.as_deref(), Some("again"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn without_a_key_the_middle_of_the_data_is_found() {
    let cluster = Cluster::with_first_range(3).await;
    for n in 0..100 {
        cluster.write(&format!("{n:03}"), "value").await;
    }
    cluster.led_step(FIRST, split(None)).await;
    cluster.await_leader(RIGHT).await;
    let keys = |range| {
        let leader = cluster.leader(range)?;
        Some(cluster.store(leader).host.replica(range)?.shared.get().keys)
    };
    let (left, right) = eventually("both parts", || async { Some((keys(FIRST)?, keys(RIGHT)?)) }).await;
    assert_eq!(left + right, 100);
    assert!(left.abs_diff(right) <= 10, "{left} and {right}");
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_split_that_makes_no_sense_changes_nothing() {
    let cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    let leader = cluster.await_leader(FIRST).await;
    let Step::Split {
        range,
        bounds,
        at,
        right,
        ..
    } = split(Some("m"))
    else {
        unreachable!()
    };
    let too_few = vec![(StoreId(1), replica(RIGHT, 1))];
    let refused = cluster
        .try_step(
            leader,
            Step::Split {
                range,
                bounds,
                at,
                right,
                replicas: too_few,
            },
        )
        .await;
    assert!(matches!(refused, Err(StepError::Refused(_))), "{refused:?}");
    // The fence is down again.
    cluster.write("z", "2").await;
    assert_eq!(cluster.read("z").await.as_deref(), Some("2"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_replica_that_was_away_during_the_split_catches_up_with_both_parts() {
    let mut cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    let away = (1..=3)
        .find(|store| Some(*store) != cluster.leader(FIRST))
        .unwrap();
    cluster.stop(away).await;
    cluster.led_step(FIRST, split(Some("m"))).await;
    cluster.await_leader(RIGHT).await;
    cluster.write("z", "2").await;
    cluster.start(away).await;
    eventually("both parts on the store that was away", || async {
        let keys = |range| Some(cluster.store(away).host.replica(range)?.shared.get().keys);
        (keys(FIRST)? == 1 && keys(RIGHT)? == 1).then_some(())
    })
    .await;
    cluster.stop_all().await;
}

/// The range moved away from the store and back before the store had got to the split that the range comes of.
#[tokio::test]
async fn the_child_of_a_split_gives_way_to_a_later_replica_of_its_range() {
    let mut cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    let away = (1..=3)
        .find(|store| Some(*store) != cluster.leader(FIRST))
        .unwrap();
    cluster.cut_off(away).await;
    cluster.led_step(FIRST, split(Some("m"))).await;
    cluster.change_voters(RIGHT, &[], &[replica(RIGHT, away)]).await;
    cluster.write("z", "2").await;
    let later = ReplicaId(replica(RIGHT, 3).0 + 7);
    let (range, store) = (RIGHT, StoreId(away as u64));
    cluster
        .step(
            away,
            Step::CreateReplica {
                range,
                replica: later,
            },
        )
        .await;
    let before = cluster.store(away).host.replica(FIRST).unwrap();
    assert_eq!(before.descriptor().unwrap().span, Span::everything(), "it lags");

    cluster.introduce().await;
    eventually("the split on the store that was cut off", || async {
        (before.descriptor()?.epoch.bounds == 2).then_some(())
    })
    .await;
    assert_eq!(cluster.store(away).host.replica(RIGHT).unwrap().id, later);
    let member = Replica {
        id: later,
        store,
        role: Role::Learner,
    };
    cluster
        .led_step(
            RIGHT,
            Step::AddLearner {
                range,
                replica: member,
            },
        )
        .await;
    cluster.change_voters(RIGHT, &[later], &[]).await;
    let both = |cluster: &Cluster| {
        let keys = |range| Some(cluster.store(away).host.replica(range)?.shared.get().keys);
        (keys(FIRST) == Some(1) && keys(RIGHT) == Some(1)).then_some(())
    };
    eventually("both parts there", || async { both(&cluster) }).await;
    drop(before);
    cluster.stop(away).await;
    cluster.start(away).await;
    eventually("both parts after a restart", || async { both(&cluster) }).await;
    assert_eq!(cluster.store(away).host.replica(RIGHT).unwrap().id, later);
    cluster.stop_all().await;
}
