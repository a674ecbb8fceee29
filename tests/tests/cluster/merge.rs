//! Ranges that become one again: by command under load, with leaders that move and a store that is killed, and by themselves.

use std::time::Duration;

use anyhow::ensure;
use holdfast_tests::{Admin, Options, Writers, check_tiling};
use serde_json::json;

use crate::cluster;

const MINUTE: Duration = Duration::from_secs(60);

/// Merges the first range with its right neighbour until that is done: a store that is away takes a merge back.
async fn merge_first(admin: &Admin) -> anyhow::Result<()> {
    let before = admin.ranges().await?.len();
    admin
        .until("one range less", MINUTE, async || {
            let ranges = admin.ranges().await?;
            if ranges.len() == before {
                let _ = admin
                    .post(&format!("/v1/ranges/{}/merge?wait=true", ranges[0].id))
                    .await;
            }
            Ok(admin.ranges().await?.len() < before)
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_merge_under_load_while_leaders_move_and_a_store_is_killed() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    let admin = cluster.admin();
    admin.place_by_hand().await?;
    for key in ["b", "d", "f", "h", "j", "l"] {
        admin.split(key).await?;
    }
    admin.settled(3, MINUTE).await?;
    let writers = Writers::start(&cluster.client(), &["a", "c", "e", "g", "i", "k", "m"], 8, 4);

    // A leadership moves before each merge, so that the two ranges are led by any stores.
    for store in 1..=3 {
        let right = &admin.ranges().await?[1];
        if right.leader_store != Some(store) {
            admin.transfer_leader(right.id, store).await?;
        }
        merge_first(&admin).await?;
    }
    // In the middle of a merge the store that leads its source is killed.
    let ranges = admin.ranges().await?;
    let victim = cluster.store(ranges[1].leader_store.expect("a leader"))?.name;
    let merging = tokio::spawn({
        let (admin, id) = (admin.clone(), ranges[0].id);
        async move { admin.post(&format!("/v1/ranges/{id}/merge")).await }
    });
    cluster.kill(&victim)?;
    merging.await??;
    cluster.start_member(&victim).await?;
    while admin.ranges().await?.len() > 1 {
        merge_first(&admin).await?;
    }

    let history = writers.stop().await?;
    history.verify(&cluster.client()).await?;
    let ranges = admin.settled(3, MINUTE).await?;
    check_tiling(&ranges)?;
    ensure!(ranges.len() == 1, "{ranges:#?}");
    // Every store has forgotten the others.
    admin
        .until("one replica on each store", MINUTE, async || {
            let stores = admin.get("/v1/stores").await?;
            let stores = stores["items"].as_array().cloned().unwrap_or_default();
            Ok(stores.iter().all(|store| store["ranges"] == 1))
        })
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_ranges_that_nobody_asks_merge_by_themselves_wherever_they_lie() -> anyhow::Result<()> {
    let cluster = cluster(Options {
        stores: 4,
        ..Options::default()
    })
    .await?;
    let admin = cluster.admin();
    for key in ["b", "d", "f", "h", "j", "l", "n", "p", "r", "t", "v"] {
        admin.split(key).await?;
    }
    ensure!(cluster.client().put("m", "kept").await?.status == 201);
    admin.configure(json!({"merge_after_ms": 0})).await?;
    admin
        .until("a single range", MINUTE, async || {
            Ok(admin.ranges().await?.len() == 1)
        })
        .await?;
    let read = cluster.client().get("m").await?;
    ensure!(read.status == 200 && read.body == b"kept", "{read:?}");
    check_tiling(&admin.settled(3, MINUTE).await?)?;
    cluster.assert_no_errors()
}
