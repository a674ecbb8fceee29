//! Merges: nothing is lost or done twice, whoever dies in the middle.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::proto::kv::{Consistency, Error, WriteOutcome};
use holdfast_common::proto::placement::{Step, StepError};

use super::split::RIGHT;
use super::{Cluster, FIRST, eventually, key};
use crate::apply::MergeAnswer;
use crate::command::Command;
use crate::replica::Replica;
use crate::state::Merge;
use crate::store::Store;

/// Two ranges that meet at `m`, with something on both sides.
async fn halves() -> Cluster {
    let cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "left").await;
    cluster.write("z", "right").await;
    cluster.part(FIRST, 1, "m", RIGHT).await;
    cluster
}

fn merge(bounds: u64) -> Step {
    Step::Merge { range: RIGHT, bounds }
}

impl Cluster {
    fn held_by(&self, store: usize, range: RangeId) -> Option<Arc<Replica>> {
        self.store(store).host.replica(range)
    }

    /// Waits until all running stores have the first range alone, over everything.
    async fn await_one_range(&self) {
        eventually("one range everywhere", || async {
            let merged = self.running().all(|(_, store)| {
                let whole = store.host.replica(FIRST).and_then(|left| left.descriptor());
                let whole = whole.is_some_and(|left| left.span == Span::everything());
                whole && store.host.replica(RIGHT).is_none()
            });
            merged.then_some(())
        })
        .await;
    }

    fn all_but(&self, store: usize) -> impl Iterator<Item = (StoreId, &Store)> {
        self.running().filter(move |(id, _)| id.0 as usize != store)
    }

    /// Hands the leadership of a range to a store's replica.
    async fn lead(&self, range: RangeId, store: usize) {
        let to = super::replica(range, store);
        self.led_step(range, Step::TransferLeader { range, to }).await;
        eventually("the new leader", || async {
            (self.leader(range)? == store).then_some(())
        })
        .await;
    }

    /// Splits a range whose version of the bounds is `bounds`.
    async fn part(&self, range: RangeId, bounds: u64, at: &str, right: RangeId) {
        let replicas = (1..=3).map(|store| (StoreId(store as u64), super::replica(right, store)));
        let parted = Step::Split {
            range,
            bounds,
            at: Some(key(at)),
            right,
            replicas: replicas.collect(),
        };
        self.led_step(range, parted).await;
        self.await_leader(right).await;
    }

    async fn await_serving(&self) {
        for (name, value) in [("a", "left"), ("z", "right")] {
            assert_eq!(self.read(name).await.as_deref(), Some(value));
        }
        self.write("z", "again").await;
        assert_eq!(self.read("z").await.as_deref(), Some("again"));
    }

    /// Has a range's leader propose a command, with nobody driving the merge.
    async fn undriven(&self, range: RangeId, command: Command) -> u64 {
        let (index, answer) = eventually("a leader with a lease", || async {
            let leader = self.await_leader(range).await;
            let replica = self.held_by(leader, range)?;
            let term = replica.standing().term;
            let proposed = replica.propose_in::<MergeAnswer>(term, &command, || {});
            proposed.await.ok()
        })
        .await;
        assert_eq!(answer, Ok(()));
        index
    }

    /// Keeps every replica of all ranges but the first from driving its merge, or lets it.
    fn keep_from_driving(&self, keep: bool) {
        for (_, store) in self.running() {
            let others = (RIGHT.0..=4).map(RangeId);
            for replica in others.filter_map(|range| store.host.replica(range)) {
                replica.driving.store(keep, Ordering::Release);
                replica.merging.notify_one();
            }
        }
    }

    /// Freezes the right range, waits until every replica has that, and gives the range up.
    async fn give_up(&self) {
        self.give_up_of(RIGHT, 2).await;
    }

    /// As [`give_up`](Self::give_up), of any range under `bounds`.
    async fn give_up_of(&self, range: RangeId, bounds: u64) {
        self.keep_from_driving(true);
        let frozen = self.undriven(range, Command::Freeze { bounds }).await;
        let leader = self.await_leader(range).await;
        let replica = self.held_by(leader, range).unwrap();
        eventually("the freeze everywhere", || async {
            let all = replica.peers().iter().all(|peer| peer.lag == Some(0));
            all.then_some(())
        })
        .await;
        assert_eq!(replica.shared.merge(), Merge::Frozen { at: frozen });
        self.undriven(range, Command::Yield { bounds: bounds + 1 }).await;
    }
}

#[tokio::test]
async fn two_ranges_become_one_that_remembers_both() {
    let cluster = halves().await;
    let (address, target) = cluster.target(&key("z")).unwrap();
    let mut once = cluster.put(target, "y", "once");
    let Ok(WriteOutcome::Created(revision)) = cluster.try_write(&address, &once).await else {
        panic!("not written")
    };
    cluster.led_step(RIGHT, merge(2)).await;
    cluster.await_one_range().await;

    // Whoever still believes in the right range learns who holds its keys.
    let (address, target) = cluster.target(&key("y")).unwrap();
    assert_eq!((target.range, target.bounds), (FIRST, 4));
    // The answer was lost, and the write is sent again to the new owner.
    once.target = target;
    let again = cluster.try_write(&address, &once).await;
    assert_eq!(again, Ok(WriteOutcome::Created(revision)), "applied once");
    let later = cluster.put(target, "y", "later");
    match cluster.try_write(&address, &later).await {
        Ok(WriteOutcome::Replaced(later)) => assert!(later > revision),
        other => panic!("{other:?}"),
    }
    cluster.await_serving().await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn what_was_merged_is_one_range_after_a_restart() {
    let mut cluster = halves().await;
    cluster.led_step(RIGHT, merge(2)).await;
    cluster.await_one_range().await;
    for store in 1..=3 {
        cluster.stop(store).await;
    }
    for store in 1..=3 {
        cluster.start(store).await;
    }
    cluster.await_one_range().await;
    cluster.await_serving().await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_merged_range_can_be_split_and_merged_again() {
    let cluster = halves().await;
    cluster.led_step(RIGHT, merge(2)).await;
    cluster.await_one_range().await;
    let third = RangeId(3);
    cluster.part(FIRST, 4, "m", third).await;
    let merge = Step::Merge {
        range: third,
        bounds: 5,
    };
    cluster.led_step(third, merge).await;
    cluster.await_one_range().await;
    cluster.await_serving().await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_frozen_range_serves_nothing_and_its_next_leader_thaws_it() {
    let cluster = halves().await;
    cluster.keep_from_driving(true);
    cluster.undriven(RIGHT, Command::Freeze { bounds: 2 }).await;
    let (address, target) = cluster.target(&key("z")).unwrap();
    for consistency in [Consistency::Linearizable, Consistency::Stale] {
        let read = cluster.try_read(&address, target, "z", consistency).await;
        assert!(matches!(read, Err(Error::NotReady(_))), "{read:?}");
    }
    let written = cluster.try_write(&address, &cluster.put(target, "z", "no")).await;
    assert!(matches!(written, Err(Error::NotReady(_))), "{written:?}");

    cluster.keep_from_driving(false);
    cluster.await_serving().await;
    let (_, target) = cluster.target(&key("z")).unwrap();
    assert_eq!((target.range, target.bounds), (RIGHT, 4));
    // The first attempt was taken back; a second one goes through.
    cluster.led_step(RIGHT, merge(4)).await;
    cluster.await_one_range().await;
    assert_eq!(cluster.read("z").await.as_deref(), Some("again"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_write_in_the_log_behind_the_freeze_is_not_applied() {
    let cluster = halves().await;
    cluster.keep_from_driving(true);
    let leader = cluster.await_leader(RIGHT).await;
    let replica = cluster.held_by(leader, RIGHT).unwrap();
    cluster.undriven(RIGHT, Command::Freeze { bounds: 2 }).await;
    let write = crate::command::encode_writes(
        holdfast_common::revision::Revision(1),
        [cluster
            .put(cluster.target(&key("z")).unwrap().1, "z", "late")
            .into()]
        .iter(),
    );
    let command = holdfast_common::raft::types::Command(write);
    let response = replica.raft.client_write(command).await.unwrap();
    let answers: crate::apply::WriteAnswers = holdfast_common::proto::decode(&response.data.0).unwrap();
    assert!(matches!(answers[..], [Err(Error::NotReady(_))]), "{answers:?}");
    cluster.keep_from_driving(false);
    cluster.await_serving().await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_range_that_gave_itself_up_is_taken_over_without_its_leader() {
    let mut cluster = halves().await;
    cluster.give_up().await;
    let leader = cluster.await_leader(RIGHT).await;
    cluster.stop(leader).await;
    cluster.keep_from_driving(false);
    cluster.await_one_range().await;
    cluster.await_serving().await;
    cluster.start(leader).await;
    cluster.await_one_range().await;
    assert_eq!(cluster.read("z").await.as_deref(), Some("again"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_store_that_was_away_takes_over_what_it_has_itself() {
    let mut cluster = halves().await;
    cluster.give_up().await;
    let leader = cluster.await_leader(RIGHT).await;
    let left = cluster.await_leader(FIRST).await;
    let away = (1..=3).find(|store| ![leader, left].contains(store)).unwrap();
    cluster.stop(away).await;
    cluster.keep_from_driving(false);
    cluster.await_one_range().await;
    cluster.await_serving().await;
    cluster.start(away).await;
    cluster.await_one_range().await;
    let keys = |store| cluster.held_by(store, FIRST).map(|left| left.shared.get().keys);
    eventually("the same on all", || async {
        (keys(away)? == keys(left)?).then_some(())
    })
    .await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_store_that_was_away_for_too_long_makes_way_for_a_snapshot() {
    let mut cluster = halves().await;
    cluster.give_up().await;
    let leader = cluster.await_leader(RIGHT).await;
    let left = cluster.await_leader(FIRST).await;
    let away = (1..=3).find(|store| ![leader, left].contains(store)).unwrap();
    cluster.stop(away).await;
    cluster.keep_from_driving(false);
    cluster.await_one_range().await;
    cluster.await_serving().await;
    for (_, store) in cluster.running() {
        purge(store).await;
    }
    cluster.start(away).await;
    cluster.await_one_range().await;
    assert_eq!(cluster.read("z").await.as_deref(), Some("again"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn those_that_were_taken_over_one_after_another_make_way_for_a_snapshot_over_all() {
    let mut cluster = halves().await;
    cluster.part(RIGHT, 2, "p", RangeId(3)).await;
    cluster.part(RangeId(3), 3, "t", RangeId(4)).await;
    for (range, bounds) in [(RIGHT, 3), (RangeId(3), 4), (RangeId(4), 4)] {
        cluster.give_up_of(range, bounds).await;
    }
    let left = cluster.await_leader(FIRST).await;
    let away = (1..=3).find(|store| *store != left).unwrap();
    cluster.stop(away).await;
    cluster.keep_from_driving(false);
    cluster.await_one_range().await;
    for (_, store) in cluster.running() {
        purge(store).await;
    }
    // None of the three can go before the one to its left, into which it may have gone here.
    cluster.start(away).await;
    cluster.await_one_range().await;
    cluster.await_serving().await;
    cluster.stop_all().await;
}

/// The right range was taken over while the store of its leader was cut off, which knows nothing of it: the cluster, who leads
/// what came of it, and that store.
async fn merged_behind_its_leaders_back() -> (Cluster, usize, usize) {
    let cluster = halves().await;
    let left = cluster.await_leader(FIRST).await;
    let to = (1..=3).find(|store| *store != left).unwrap();
    cluster.lead(RIGHT, to).await;
    cluster.give_up().await;
    assert_eq!(cluster.leader(RIGHT), Some(to));
    cluster.keep_from_driving(true);
    cluster.cut_off(to).await;
    for (_, store) in cluster.all_but(to) {
        let replica = store.host.replica(RIGHT).unwrap();
        replica.driving.store(false, Ordering::Release);
        replica.merging.notify_one();
    }
    eventually("one range on the others", || async {
        let mut others = cluster.all_but(to);
        let merged = others.all(|(_, store)| store.host.replica(RIGHT).is_none());
        merged.then_some(())
    })
    .await;
    (cluster, left, to)
}

#[tokio::test]
async fn the_last_of_a_merged_range_makes_way_though_it_leads() {
    let (cluster, _, to) = merged_behind_its_leaders_back().await;
    for (_, store) in cluster.all_but(to) {
        purge(store).await;
    }
    let last = cluster.held_by(to, RIGHT).unwrap();
    assert!(last.leads(), "nobody told it otherwise");
    cluster.introduce().await;
    cluster.await_one_range().await;
    cluster.await_serving().await;
    cluster.stop_all().await;
}

#[tokio::test]
async fn what_was_taken_over_and_split_off_again_is_not_taken_over_twice() {
    split_off_again(false).await;
}

/// Nothing in the bounds of the left range's replica says then that it has the merge behind it.
#[tokio::test]
async fn what_was_taken_over_makes_way_for_one_that_has_had_more_splits_since() {
    split_off_again(true).await;
}

/// What was taken over behind its leader's back is split off again, and once more if so wished, before that comes back.
async fn split_off_again(once_more: bool) {
    let third = RangeId(3);
    let (cluster, left, to) = merged_behind_its_leaders_back().await;
    cluster.part(FIRST, 4, "m", third).await;
    if once_more {
        cluster.part(third, 5, "t", RangeId(4)).await;
    }
    for (_, store) in cluster.all_but(to) {
        purge(store).await;
    }
    // It gets the left part by snapshot, in which nothing tells of the merge, and the right part as one that has missed the split.
    cluster.introduce().await;
    let create = Step::CreateReplica {
        range: third,
        replica: super::replica(third, to),
    };
    cluster.step(to, create).await;
    let last = cluster.held_by(to, RIGHT).unwrap();
    last.driving.store(false, Ordering::Release);
    last.merging.notify_one();
    eventually("three replicas of both", || async {
        let bounds = |store, range| Some(cluster.held_by(store, range)?.descriptor()?.epoch.bounds);
        let both = |store| bounds(store, FIRST) == bounds(left, FIRST) && bounds(store, third).is_some();
        ((1..=3).all(both) && cluster.held_by(to, RIGHT).is_none()).then_some(())
    })
    .await;
    cluster.await_serving().await;
    cluster.stop_all().await;
}

/// Has a store's replica of the first range make a snapshot of all that it applied, and forget that part of its log.
async fn purge(store: &Store) {
    let replica = store.host.replica(FIRST).unwrap();
    let applied = replica.shared.get().applied.unwrap().index;
    replica.raft.trigger().snapshot().await.unwrap();
    eventually("the purge", || async {
        // Not before the snapshot is there.
        replica.raft.trigger().purge_log(applied).await.unwrap();
        let bounds = store.log.log_bounds(FIRST, replica.id).unwrap();
        bounds
            .purged
            .is_some_and(|purged| purged.index >= applied)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_is_frozen_in_vain() {
    let mut cluster = halves().await;
    let leader = cluster.await_leader(RIGHT).await;
    let refused = cluster.try_step(leader, merge(1)).await;
    assert!(matches!(refused, Err(StepError::Refused(_))), "{refused:?}");
    let away = (1..=3).find(|store| *store != leader).unwrap();
    cluster.stop(away).await;
    let id = super::replica(RIGHT, away);
    eventually("the leader to notice", || async {
        let peers = cluster.held_by(leader, RIGHT)?.peers();
        peers.iter().any(|peer| peer.id == id && !peer.live).then_some(())
    })
    .await;
    let busy = cluster.try_step(leader, merge(2)).await;
    assert!(
        matches!(busy, Err(StepError::Busy(_) | StepError::NotLeader(_))),
        "{busy:?}"
    );
    let (_, target) = cluster.target(&key("z")).unwrap();
    assert_eq!(target.bounds, 2, "it was never frozen");
    cluster.await_serving().await;
    cluster.stop_all().await;
}
