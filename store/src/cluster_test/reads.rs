//! Reads: by lease, by quorum, stale; and never an old value where a new one was acknowledged.

use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_common::key::Span;
use holdfast_common::proto::kv::{Consistency, Error, ScanAnswer, ScanRequest};
use holdfast_common::proto::method;

use super::{Cluster, FIRST, eventually, key, text};
use crate::read::lease::Lease;

#[tokio::test]
async fn a_leader_that_is_cut_off_never_answers_with_what_was_overwritten_elsewhere() {
    let cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "old").await;
    let (address, target) = cluster.target(&key("a")).unwrap();
    let cut = cluster.await_leader(FIRST).await;
    assert_eq!(
        cluster.store(cut).host.replica(FIRST).unwrap().lease(),
        Lease::Held
    );

    cluster.cut_off(cut).await;
    let overwritten = AtomicBool::new(false);
    let overwrite = async {
        // Not through `target`: the store that is cut off still believes that it leads.
        let request = cluster.put(target, "a", "new");
        eventually("a write elsewhere", || async {
            for store in (1..=3).filter(|store| *store != cut) {
                if cluster.try_write(&cluster.address(store), &request).await.is_ok() {
                    return Some(());
                }
            }
            None
        })
        .await;
        overwritten.store(true, Ordering::SeqCst);
    };
    let watch = async {
        let mut served = 0;
        loop {
            let was_overwritten = overwritten.load(Ordering::SeqCst);
            match cluster
                .try_read(&address, target, "a", Consistency::Linearizable)
                .await
            {
                Ok(answer) => {
                    assert!(
                        !was_overwritten,
                        "an old value after the new one was acknowledged: {answer:?}"
                    );
                    served += 1;
                }
                Err(_) if was_overwritten => return served,
                Err(_) => {}
            }
        }
    };
    let (served, ()) = futures::future::join(watch, overwrite).await;
    assert!(served > 0, "the lease served nothing before it ended");
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_leader_without_a_lease_asks_a_quorum() {
    let cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    let leader = cluster.await_leader(FIRST).await;
    let replica = cluster.store(leader).host.replica(FIRST).unwrap();
    replica.renounce_leases();
    assert_eq!(replica.lease(), Lease::Lapsed);
    let reads = futures::future::join_all((0..100).map(|_| cluster.read("a"))).await;
    assert!(reads.iter().all(|read| read.as_deref() == Some("1")));
    cluster.stop_all().await;
}

#[tokio::test]
async fn any_replica_answers_a_stale_read_and_says_how_stale() {
    let cluster = Cluster::with_first_range(3).await;
    cluster.write("a", "1").await;
    let (_, target) = cluster.target(&key("a")).unwrap();
    for store in 1..=3 {
        let address = cluster.address(store);
        let answer = eventually("a stale read", || async {
            let answer = cluster
                .try_read(&address, target, "a", Consistency::Stale)
                .await
                .ok()?;
            (answer.record.is_some() && answer.staleness_ms < 5_000).then_some(answer)
        })
        .await;
        assert_eq!(answer.record.map(text).as_deref(), Some("1"));
    }
    let leader = cluster.await_leader(FIRST).await;
    let follower = (1..=3).find(|store| *store != leader).unwrap();
    let linearizable = cluster
        .try_read(&cluster.address(follower), target, "a", Consistency::Linearizable)
        .await;
    assert!(matches!(linearizable, Err(Error::NotLeader { .. })));
    cluster.stop_all().await;
}

#[tokio::test]
async fn a_scan_is_read_page_by_page() {
    let cluster = Cluster::with_first_range(1).await;
    for name in ["a", "b", "c", "d", "e"] {
        cluster.write(name, name).await;
    }
    let (address, target) = cluster.target(&key("a")).unwrap();
    for reverse in [false, true] {
        let mut span = Span::new("a", "e").unwrap();
        let mut names = Vec::new();
        loop {
            let request = ScanRequest {
                target,
                consistency: Consistency::Linearizable,
                span: span.clone(),
                reverse,
                keys_only: false,
                limit: 2,
                max_bytes: 1_000,
            };
            let answer: Result<ScanAnswer, Error> =
                cluster.call(&address, method::KV_SCAN, &request).await.unwrap();
            let answer = answer.unwrap();
            names.extend(answer.rows.iter().map(|row| row.key.to_string()));
            span = match answer.resume {
                None => break,
                Some(resume) if reverse => Span::new(span.start().clone(), resume).unwrap(),
                Some(resume) => Span::new(resume, span.end().clone()).unwrap(),
            };
        }
        if reverse {
            names.reverse();
        }
        assert_eq!(names, ["a", "b", "c", "d"]);
    }
    cluster.stop_all().await;
}

#[tokio::test]
async fn stores_whose_disks_are_slow_fetch_rows_before_they_read_them() {
    let cluster = Cluster::with_first_range(3).await;
    let mut before = Vec::new();
    for (id, store) in cluster.running() {
        let engine = store.host.replica(FIRST).unwrap().site.engine.clone();
        engine.seem_slow();
        before.push((id, engine.mean_search_ns(), engine));
    }
    for name in ["a", "b", "c"] {
        assert_eq!(cluster.read(name).await, None);
        cluster.write(name, "1").await;
        cluster.write(name, "2").await;
        assert_eq!(cluster.read(name).await.as_deref(), Some("2"));
    }
    let leader = cluster.await_leader(FIRST).await;
    let replica = cluster.store(leader).host.replica(FIRST).unwrap();
    assert!(replica.site.engine.is_slow(), "it was slow all along");
    for (id, before, engine) in &before {
        let fetched = || async { (engine.mean_search_ns() < *before).then_some(()) };
        eventually(&format!("fetches on store {id}"), fetched).await;
    }
    drop(before);
    cluster.stop_all().await;
}
