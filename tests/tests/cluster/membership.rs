//! Replicas moved and replaced by hand, stores added.

use std::time::Duration;

use anyhow::ensure;
use holdfast_tests::{Options, Writers, check_tiling};

use crate::cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_moves_to_a_new_store_under_load() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    cluster.admin().split("m").await?;
    let writers = Writers::start(&cluster.client(), &["a", "z"], 16, 4);
    cluster.add_store("node5").await?;
    let newcomer = cluster.member("node5")?.id.expect("it has registered");

    cluster.admin().settled(3, Duration::from_secs(30)).await?;
    let leader = cluster.admin().range_of("z").await?;
    let from = leader.leader_store.expect("a leader");
    cluster.admin().move_replica(leader.id, from, newcomer).await?;
    cluster.admin().transfer_leader(leader.id, newcomer).await?;

    let history = writers.stop().await?;
    ensure!(
        history.failures.is_empty(),
        "requests failed: {:?}",
        history.failures
    );
    history.verify(&cluster.client()).await?;
    let ranges = cluster.admin().settled(3, Duration::from_secs(30)).await?;
    check_tiling(&ranges)?;
    let moved = ranges
        .iter()
        .find(|range| range.id == leader.id)
        .expect("it is still there");
    ensure!(
        moved.voters().contains(&newcomer) && !moved.voters().contains(&from),
        "{moved:?}"
    );
    cluster.assert_no_errors()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_store_serves_alone_and_is_joined_by_others() -> anyhow::Result<()> {
    let cluster = cluster(Options {
        stores: 1,
        ..Options::default()
    })
    .await?;
    ensure!(cluster.client().put("k", "alone").await?.status == 201);
    cluster.add_store("second").await?;
    cluster.add_store("third").await?;
    cluster.admin().settled(3, Duration::from_secs(30)).await?;
    cluster.kill("store-1")?;
    let read = cluster.client().get("k").await?;
    ensure!(read.status == 200 && read.body == b"alone", "{read:?}");
    Ok(())
}
