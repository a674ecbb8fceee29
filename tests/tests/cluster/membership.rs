//! Stores added, drained and removed; replicas moved by hand and by the driver.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use holdfast_tests::{Admin, Options, Writers, check_tiling};

use crate::cluster;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_moves_to_a_new_store_under_load() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    cluster.admin().place_by_hand().await?;
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
    history.verify_unharmed(&cluster.client()).await?;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_come_and_go_under_load_and_nobody_thinks_about_ranges() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    let admin = cluster.admin();
    for key in ["b", "d", "f", "h", "j", "l", "n", "p", "r", "t", "v"] {
        admin.split(key).await?;
    }
    admin.settled(3, Duration::from_secs(30)).await?;
    let (refused, why) = admin.post("/v1/stores/1/decommission").await?;
    ensure!(refused == 409, "two stores can't hold three replicas: {why}");

    let writers = Writers::start(&cluster.client(), &["a", "g", "m", "s", "y"], 8, 4);
    cluster.add_store("node4").await?;
    cluster.add_store("node5").await?;
    // 36 replicas and 12 leaderships on five stores.
    let minute = Duration::from_secs(60);
    let even = async || {
        let held = tally(&admin).await?;
        Ok(held.len() == 5
            && held
                .values()
                .all(|(replicas, leaders)| (6..=9).contains(replicas) && (1..=4).contains(leaders)))
    };
    admin.until("spread over five stores", minute, even).await?;

    let (drained, store) = admin.post("/v1/stores/2/drain?wait=true").await?;
    ensure!(drained == 200 && store["drain"]["leaders_left"] == 0, "{store}");
    let (_, plan) = admin.post("/v1/stores/1/decommission?dry_run=true").await?;
    ensure!(
        plan["possible"] == true && plan["moves"] != serde_json::json!([]),
        "{plan}"
    );
    let (emptied, store) = admin.post("/v1/stores/1/decommission?wait=true").await?;
    ensure!(emptied == 200 && store["state"] == "removed", "{store}");
    let (resumed, store) = admin.post("/v1/stores/2/resume").await?;
    ensure!(resumed == 200 && store["state"] == "up", "{store}");

    let history = writers.stop().await?;
    history.verify_unharmed(&cluster.client()).await?;
    let ranges = admin.settled(3, minute).await?;
    ensure!(
        ranges.iter().all(|range| !range.voters().contains(&1)),
        "{ranges:#?}"
    );
    Ok(())
}

/// Replicas and leaderships of each store.
async fn tally(admin: &Admin) -> anyhow::Result<BTreeMap<u64, (usize, usize)>> {
    let mut held: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for range in admin.ranges().await? {
        for replica in &range.replicas {
            held.entry(replica.store_id).or_default().0 += 1;
        }
        if let Some(leader) = range.leader_store {
            held.entry(leader).or_default().1 += 1;
        }
    }
    Ok(held)
}
