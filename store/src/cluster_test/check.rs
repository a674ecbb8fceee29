//! Replicas are compared: what is the same agrees whatever became of the range, what is not is found and told.

use bytes::Bytes;
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::proto::check::{Report, Verdict};
use holdfast_common::proto::kv::{Mutation, Once, OnceRequest, WriteOutcome};
use holdfast_common::proto::placement::{Step, StepError};

use super::split::{RIGHT, split};
use super::*;
use crate::engine::Batch;
use crate::keys;

impl Cluster {
    /// Compares the replicas of a range, by whoever leads it, until it can be done.
    async fn compare(&self, range: RangeId) -> Report {
        eventually("a comparison", || async {
            let leader = self.leader(range)?;
            match self.store(leader).host.compare(range).await {
                Ok(report) => Some(report),
                Err(StepError::Busy(_) | StepError::NotLeader(_)) => None,
                Err(error) => panic!("{error}"),
            }
        })
        .await
    }

    /// Compares until every replica could tell, and all hold the same.
    async fn all_agree(&self, range: RangeId) {
        eventually("all to agree", || async {
            let report = self.compare(range).await;
            match report.verdict {
                Verdict::Agree => Some(()),
                Verdict::Open => None,
                Verdict::Differ { .. } => panic!("{report:?}"),
            }
        })
        .await;
    }

    /// Writes with everything that leaves rows behind: values, times to live, names of clients, deletions.
    async fn write_all_kinds(&self, prefix: &str) {
        for n in 0..20 {
            let name = format!("{prefix}{n:02}");
            self.write(&name, "value").await;
            let (address, target) = self.target(&key(&name)).unwrap();
            let mut write = self.put(target, &name, "again");
            match n % 3 {
                0 => write.mutation = Mutation::Delete,
                1 => {
                    write.mutation = Mutation::Put {
                        value: Bytes::from_static(b"short"),
                        ttl_ms: 1,
                    }
                }
                _ => {}
            }
            let once = Once {
                token: Bytes::from(name),
                window_ms: 60_000,
                done: 0,
            };
            let request = OnceRequest { write, once };
            let written: Result<WriteOutcome, Error> = self
                .call(&address, method::KV_WRITE_ONCE, &request)
                .await
                .unwrap();
            written.unwrap();
        }
    }

    fn follower(&self, range: RangeId) -> usize {
        let leader = self.leader(range);
        (1..=self.members.len())
            .find(|store| Some(*store) != leader)
            .unwrap()
    }

    /// Writes a row straight into one store's data, past the log, or deletes it.
    fn plant(&self, store: usize, name: &str, value: Option<&'static [u8]>) {
        let key = Bytes::from([&[keys::RECORD], name.as_bytes()].concat());
        let mut batch = Batch::default();
        match value {
            Some(value) => batch.put(key, Bytes::from_static(value)),
            None => batch.delete(key),
        }
        self.store(store).host.site.engine.write(batch);
    }

    /// The stores that believe that replicas differ.
    fn believers(&self) -> Vec<u64> {
        let believes = |store: &Store| !store.host.differing().is_empty();
        let believers = self.running().filter(|(_, store)| believes(store));
        believers.map(|(id, _)| id.0).collect()
    }
}

fn suspects(report: &Report) -> Option<&[ReplicaId]> {
    match &report.verdict {
        Verdict::Differ { suspects } => Some(suspects),
        Verdict::Agree | Verdict::Open => None,
    }
}

#[tokio::test]
async fn replicas_agree_after_snapshots_splits_merges_and_restarts() {
    let mut cluster = Cluster::of(3).await;
    let (range, first) = (FIRST, replica(FIRST, 1));
    cluster
        .step(
            1,
            Step::CreateFirst {
                range,
                replica: first,
            },
        )
        .await;
    cluster.await_leader(FIRST).await;
    cluster.write_all_kinds("b").await;
    cluster.all_agree(FIRST).await;
    // Whoever joins gets a snapshot.
    for store in [2, 3] {
        cluster.add_voter(FIRST, store).await;
        cluster.all_agree(FIRST).await;
    }
    cluster.write_all_kinds("t").await;
    cluster.led_step(FIRST, split(Some("m"))).await;
    cluster.await_leader(RIGHT).await;
    for part in [FIRST, RIGHT] {
        cluster.all_agree(part).await;
    }
    cluster.write_all_kinds("c").await;
    cluster.write_all_kinds("v").await;
    let restarted = cluster.follower(RIGHT);
    cluster.stop(restarted).await;
    cluster.write_all_kinds("d").await;
    cluster.start(restarted).await;
    for part in [FIRST, RIGHT] {
        cluster.all_agree(part).await;
    }
    let merge = Step::Merge {
        range: RIGHT,
        bounds: 2,
    };
    cluster.led_step(RIGHT, merge).await;
    cluster.all_agree(FIRST).await;
    cluster.write_all_kinds("v").await;
    for store in 1..=3 {
        cluster.stop(store).await;
    }
    for store in 1..=3 {
        cluster.start(store).await;
    }
    cluster.all_agree(FIRST).await;
    assert!(cluster.believers().is_empty());
    cluster.stop_all().await;
}

/// A view that held a little more or less than the entries up to the check's would not be the same everywhere.
#[tokio::test]
async fn replicas_agree_while_they_are_written_to() {
    let cluster = Cluster::with_first_range(3).await;
    let writing = async |writer: u32| {
        for n in 0.. {
            let name = format!("{writer}-{}", n % 20);
            cluster.write(&name, &n.to_string()).await;
        }
    };
    let comparing = async {
        for _ in 0..10 {
            cluster.all_agree(FIRST).await;
        }
    };
    tokio::select! {
        () = writing(1) => {}
        () = writing(2) => {}
        () = writing(3) => {}
        () = comparing => {}
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_row_that_one_replica_alone_has_is_found_and_told_everywhere() {
    let cluster = Cluster::with_first_range(3).await;
    cluster.write_all_kinds("k").await;
    cluster.all_agree(FIRST).await;
    for planted in [cluster.follower(FIRST), cluster.leader(FIRST).unwrap()] {
        cluster.plant(
            planted,
            "planted",
            Some(b"\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
        );
        let report = cluster.compare(FIRST).await;
        assert_eq!(
            suspects(&report),
            Some(&[replica(FIRST, planted)][..]),
            "{report:?}"
        );
        assert_eq!(cluster.believers(), [1, 2, 3]);
        // Said again it is no news, and stands.
        assert!(suspects(&cluster.compare(FIRST).await).is_some());
        cluster.plant(planted, "planted", None);
        cluster.all_agree(FIRST).await;
        assert!(cluster.believers().is_empty(), "put right, and found to be so");
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn without_a_majority_nobody_is_suspected_and_all_are_told() {
    let cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    for (store, value) in [(1, b"one"), (2, b"two")] {
        cluster.plant(store, "planted", Some(value));
    }
    let report = cluster.compare(FIRST).await;
    assert_eq!(suspects(&report), Some(&[][..]), "{report:?}");
    assert_eq!(cluster.believers(), [1, 2, 3]);
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_difference_goes_with_the_replica_that_differs() {
    let cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    let (leader, bad) = (cluster.leader(FIRST).unwrap(), cluster.follower(FIRST));
    cluster.plant(bad, "planted", Some(b"more"));
    assert!(suspects(&cluster.compare(FIRST).await).is_some());
    cluster.change_voters(FIRST, &[], &[replica(FIRST, bad)]).await;
    assert!(cluster.store(leader).host.differing().is_empty());
    cluster.stop_all().await;
}

#[tokio::test]
async fn who_is_away_proves_nothing() {
    let cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    cluster.all_agree(FIRST).await;
    let away = cluster.follower(FIRST);
    cluster.cut_off(away).await;
    let report = cluster.compare(FIRST).await;
    assert_eq!(report.verdict, Verdict::Open, "{report:?}");
    let known = report.replicas.iter().filter(|member| member.found.is_ok());
    assert_eq!(known.count(), 2, "{report:?}");
    cluster.introduce().await;
    cluster.all_agree(FIRST).await;
    cluster.stop_all().await;
}

/// It may run a version that stops at the entry.
#[tokio::test]
async fn nothing_is_proposed_while_a_store_has_never_said_that_it_knows_checks() {
    let mut cluster = Cluster::with_first_range(3).await;
    let stopped = cluster.follower(FIRST);
    cluster.stop(stopped).await;
    let leader = eventually("a leader", || async { cluster.leader(FIRST) }).await;
    let refused = cluster.store(leader).host.compare(FIRST).await;
    assert!(matches!(refused, Err(StepError::Busy(_))), "{refused:?}");
    cluster.stop_all().await;
}
