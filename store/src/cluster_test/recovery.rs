//! A majority is lost for good: the range goes on with one survivor, and nothing that comes back disturbs it.

use holdfast_common::ids::ReplicaId;
use holdfast_common::key::Span;
use holdfast_common::proto::placement::{Step, StepError};
use holdfast_common::proto::recovery::{LogEnd, Recover, Survivor};

use super::{Cluster, FIRST, eventually, key, replica};
use crate::ledger::Succession;

/// The replica that takes a survivor's place, as these tests number it.
const SUCCESSOR: ReplicaId = ReplicaId(900);

impl Cluster {
    fn survivor(&self, store: usize) -> Survivor {
        self.store(store).host.survey(&[FIRST]).unwrap().remove(0)
    }

    /// The order to go on with what `survivor` has.
    fn order(&self, survivor: &Survivor) -> Step {
        let order = Recover {
            from: survivor.replica,
            to: SUCCESSOR,
            last: survivor.last,
            epoch: survivor.descriptor.epoch.after_loss(),
            span: Span::everything(),
        };
        Step::Recover {
            range: FIRST,
            order: Box::new(order),
        }
    }

    /// Stops the last two of three stores, so that the first has no majority, and an entry of its log that it can't commit.
    async fn lose_two(&mut self) {
        for n in 0..20 {
            self.write(&format!("k{n}"), &n.to_string()).await;
        }
        assert_eq!(self.leader(FIRST), Some(1));
        let before = self.survivor(1).last;
        self.stop(2).await;
        self.stop(3).await;
        let (address, target) = self.target(&key("tail")).unwrap();
        let (client, request) = (self.client.clone(), self.put(target, "tail", "maybe"));
        let body = holdfast_common::proto::encode(&request);
        let deadline = super::deadline();
        tokio::spawn(async move {
            let write = holdfast_common::proto::method::KV_WRITE;
            let lane = holdfast_common::net::Lane::Fast;
            drop(client.call(&address, lane, write, body, deadline).await);
        });
        eventually("the write is in the log", || async {
            (self.survivor(1).last > before).then_some(())
        })
        .await;
        eventually("the leader knows that nobody answers", || async {
            (!self.survivor(1).has_majority).then_some(())
        })
        .await;
    }

    async fn assert_all_there(&self) {
        for n in 0..20 {
            assert_eq!(self.read(&format!("k{n}")).await, Some(n.to_string()));
        }
        assert_eq!(
            self.read("tail").await.as_deref(),
            Some("maybe"),
            "it may have been acknowledged"
        );
    }
}

#[tokio::test]
async fn the_range_goes_on_with_all_that_the_survivor_had() {
    let mut cluster = Cluster::with_first_range(3).await;
    cluster.lose_two().await;
    let order = cluster.order(&cluster.survivor(1));
    cluster.step(1, order.clone()).await;
    cluster.assert_all_there().await;
    cluster.write("after", "1").await;
    // A repeated order is done already, and one that comes when all is over names a buried replica.
    cluster.step(1, order).await;
    let epoch = cluster.survivor(1).descriptor.epoch;
    assert_eq!(epoch.generation(), 1);

    // The lost two have a majority of the old group between them. They are fenced, whoever of them leads it.
    cluster.start(2).await;
    cluster.start(3).await;
    for store in [2, 3] {
        cluster
            .step(
                store,
                Step::Fence {
                    range: FIRST,
                    replica: replica(FIRST, store),
                },
            )
            .await;
        assert!(cluster.store(store).host.replica(FIRST).is_none());
        assert!(cluster.store(store).host.survey(&[FIRST]).unwrap().is_empty());
    }
    // They are welcome as new replicas.
    for store in [2, 3] {
        let id = ReplicaId(900 + store as u64);
        let member = holdfast_common::range::Replica {
            id,
            store: holdfast_common::ids::StoreId(store as u64),
            role: holdfast_common::range::Role::Learner,
        };
        cluster
            .step(
                store,
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
    }
    cluster.stop(1).await;
    cluster.assert_all_there().await;
    assert_eq!(cluster.read("after").await.as_deref(), Some("1"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_range_that_is_not_dead_is_left_alone() {
    let mut cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    let leader = cluster.await_leader(FIRST).await;
    let order = cluster.order(&cluster.survivor(leader));
    let refused = cluster.try_step(leader, order).await;
    assert!(matches!(refused, Err(StepError::Refused(_))), "{refused:?}");

    // Chosen, but then its log went on: the group was alive.
    let follower = (1..=3).find(|store| *store != leader).unwrap();
    let stale = cluster.survivor(follower);
    cluster.write("b", "2").await;
    eventually("the follower has it", || async {
        (cluster.survivor(follower).last > stale.last).then_some(())
    })
    .await;
    let refused = cluster.try_step(follower, cluster.order(&stale)).await;
    assert!(matches!(refused, Err(StepError::Refused(_))), "{refused:?}");
    cluster.write("c", "3").await;
    assert_eq!(cluster.survivor(follower).replica, stale.replica, "it runs on");
    cluster.stop(leader).await;
    cluster.write("d", "4").await;
    assert_eq!(cluster.read("c").await.as_deref(), Some("3"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_crash_anywhere_in_the_middle_is_finished_at_the_next_start() {
    let mut cluster = Cluster::with_first_range(3).await;
    cluster.lose_two().await;
    let survivor = cluster.survivor(1);
    let succession = Succession {
        from: survivor.replica,
        to: SUCCESSOR,
        epoch: survivor.descriptor.epoch.after_loss(),
        span: Span::everything(),
    };
    // The intent is recorded, and nothing else has been done.
    let store = cluster.store(1);
    let ledger = store.host.ledger_for_tests();
    ledger.begin_recovery(FIRST, succession.clone()).await.unwrap();
    drop(ledger);
    cluster.stop(1).await;
    cluster.start(1).await;
    cluster.assert_all_there().await;
    assert_eq!(cluster.survivor(1).replica, SUCCESSOR);
    let born = cluster.survivor(1).descriptor;

    // All is done but for the intent.
    let ledger = cluster.store(1).host.ledger_for_tests();
    ledger.begin_recovery(FIRST, succession).await.unwrap();
    drop(ledger);
    cluster.write("after", "1").await;
    cluster.stop(1).await;
    cluster.start(1).await;
    cluster.assert_all_there().await;
    assert_eq!(
        cluster.read("after").await.as_deref(),
        Some("1"),
        "it did not begin anew"
    );
    assert_eq!(cluster.survivor(1).descriptor, born);
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_range_of_which_nothing_is_left_begins_anew() {
    let mut cluster = Cluster::with_first_range(1).await;
    cluster.write("a", "1").await;
    let order = Recover {
        from: ReplicaId::NONE,
        to: SUCCESSOR,
        last: LogEnd::default(),
        epoch: cluster.survivor(1).descriptor.epoch.after_loss(),
        span: Span::new("k", "").unwrap(),
    };
    let step = |range| Step::Recover {
        range,
        order: Box::new(order.clone()),
    };
    let refused = cluster.try_step(1, step(FIRST)).await;
    assert!(refused.is_err(), "another replica of it is here");
    let other = holdfast_common::ids::RangeId(2);
    let refused = cluster.try_step(1, step(other)).await;
    assert!(refused.is_err(), "its keys are held by another range here");
    cluster
        .step(
            1,
            Step::Fence {
                range: FIRST,
                replica: replica(FIRST, 1),
            },
        )
        .await;
    cluster.step(1, step(other)).await;
    cluster.step(1, step(other)).await;
    assert_eq!(cluster.read("m").await, None);
    cluster.write("m", "2").await;
    cluster.stop(1).await;
    cluster.start(1).await;
    assert_eq!(cluster.read("m").await.as_deref(), Some("2"));
    let descriptor = cluster
        .store(1)
        .host
        .survey(&[other])
        .unwrap()
        .remove(0)
        .descriptor;
    assert_eq!((descriptor.span, descriptor.epoch), (order.span, order.epoch));
    cluster.stop_all().await;
}
