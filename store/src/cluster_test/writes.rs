//! Writes: acknowledged, ordered, applied once, bounded.

use holdfast_common::proto::kv::{Condition, Error, Mutation, Target, WriteOutcome};

use super::{Cluster, FIRST, key};

#[tokio::test]
async fn a_write_is_read_back_and_its_revision_grows() {
    let cluster = Cluster::with_first_range(3).await;
    let WriteOutcome::Created(first) = cluster.write("a", "1").await else {
        panic!("not created")
    };
    let WriteOutcome::Replaced(second) = cluster.write("a", "2").await else {
        panic!("not replaced")
    };
    assert!(second > first);
    assert_eq!(cluster.read("a").await.as_deref(), Some("2"));
    assert_eq!(cluster.read("b").await, None);
    cluster.stop_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_all_succeed_on_several_threads() {
    let cluster = Cluster::with_first_range(3).await;
    let names: Vec<String> = (0..300).map(|n| format!("key-{n:03}")).collect();
    futures::future::join_all(names.iter().map(|name| cluster.write(name, name))).await;
    for name in &names {
        assert_eq!(cluster.read(name).await.as_ref(), Some(name));
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_write_that_is_sent_again_is_applied_once() {
    let cluster = Cluster::with_first_range(3).await;
    let (address, target) = cluster.target(&key("counter")).unwrap();
    let create = cluster.put(target, "counter", "1");
    let first = cluster.try_write(&address, &create).await.unwrap();
    cluster.write("counter", "2").await;
    assert_eq!(cluster.try_write(&address, &create).await.unwrap(), first);
    assert_eq!(cluster.read("counter").await.as_deref(), Some("2"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn conditions_are_decided_in_order() {
    let cluster = Cluster::with_first_range(1).await;
    let (address, target) = cluster.target(&key("lock")).unwrap();
    let claims = (0..20).map(|claim| {
        let mut request = cluster.put(target, "lock", &claim.to_string());
        request.condition = Condition::Absent;
        request
    });
    let claims: Vec<_> = claims.collect();
    let outcomes =
        futures::future::join_all(claims.iter().map(|claim| cluster.try_write(&address, claim))).await;
    let won = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Ok(WriteOutcome::Created(_))))
        .count();
    let lost = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Ok(WriteOutcome::ConditionFailed(Some(_)))))
        .count();
    assert_eq!((won, lost), (1, 19));
    cluster.stop_all().await;
}

#[tokio::test]
async fn what_is_not_right_is_refused_with_the_reason() {
    let cluster = Cluster::with_first_range(3).await;
    let (address, target) = cluster.target(&key("a")).unwrap();
    let stale = cluster.put(
        Target {
            bounds: target.bounds + 1,
            ..target
        },
        "a",
        "1",
    );
    match cluster.try_write(&address, &stale).await {
        Err(Error::StaleEpoch { current }) => assert_eq!(current[0].epoch.bounds, target.bounds),
        other => panic!("{other:?}"),
    }
    let unknown = cluster.put(
        Target {
            range: super::RangeId(99),
            ..target
        },
        "a",
        "1",
    );
    assert_eq!(
        cluster.try_write(&address, &unknown).await,
        Err(Error::NoSuchRange)
    );

    let leader = cluster.await_leader(FIRST).await;
    let follower = (1..=3).find(|store| *store != leader).unwrap();
    match cluster
        .try_write(&cluster.address(follower), &cluster.put(target, "a", "1"))
        .await
    {
        Err(Error::NotLeader {
            leader: Some(hint), ..
        }) => assert_eq!(hint.address, Some(address)),
        other => panic!("{other:?}"),
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_delete_of_nothing_is_no_error() {
    let cluster = Cluster::with_first_range(1).await;
    let (address, target) = cluster.target(&key("a")).unwrap();
    let mut delete = cluster.put(target, "a", "");
    delete.mutation = Mutation::Delete;
    assert_eq!(
        cluster.try_write(&address, &delete).await,
        Ok(WriteOutcome::WasAbsent)
    );
    cluster.stop_all().await;
}
