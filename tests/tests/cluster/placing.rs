//! The key space split beforehand, ranges scattered, replicas counted anew, and plans that change nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::ensure;
use holdfast_tests::{Options, Writers, check_tiling};
use serde_json::json;

use crate::cluster;

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_key_space_is_split_and_scattered_and_a_plan_changes_nothing() -> anyhow::Result<()> {
    let cluster = cluster(Options {
        stores: 4,
        ..Options::default()
    })
    .await?;
    let admin = cluster.admin();
    admin.place_by_hand().await?;
    let keys: Vec<String> = (0..20).map(|n| format!("{n:02}")).collect();
    let body = json!({"keys": keys, "scatter": true});
    let (status, job) = admin.post_json("/v1/ranges/split?wait=true", &body).await?;
    ensure!(
        status == 200 && job["state"] == "done" && job["split"] == 20 && job["scattered"] == 20,
        "{job}"
    );
    let ranges = admin.settled(3, MINUTE).await?;
    check_tiling(&ranges)?;
    let begins: BTreeSet<&String> = ranges.iter().map(|range| &range.start).collect();
    ensure!(keys.iter().all(|key| begins.contains(key)), "{begins:?}");
    let (mut held, mut led) = (BTreeMap::new(), BTreeMap::new());
    for range in &ranges {
        for store in range.voters() {
            *held.entry(store).or_insert(0) += 1;
        }
        *led.entry(range.leader_store).or_insert(0) += 1;
    }
    // 63 replicas and 21 leaderships on four stores; before, all were on three and led by one.
    ensure!(
        held.len() == 4 && held.values().all(|count| *count >= 8),
        "{held:?}"
    );
    ensure!(led.len() == 4, "{led:?}");
    // Once more changes nothing: every key begins a range already.
    let again = json!({"keys": keys});
    let (status, job) = admin.post_json("/v1/ranges/split?wait=true", &again).await?;
    ensure!(status == 200 && job["state"] == "done", "{job}");
    ensure!(admin.ranges().await?.len() == ranges.len());

    let before = placed(&admin.ranges().await?);
    let (status, plan) = admin
        .post_json("/v1/plan", &json!({"remove_stores": [4]}))
        .await?;
    ensure!(status == 200 && plan["rests"] == true, "{plan}");
    ensure!(
        plan["moves_total"].as_u64() == Some(held[&4]) && plan["violations"]["total"] == 0,
        "{plan}"
    );
    let (status, plan) = admin
        .post_json("/v1/plan", &json!({"fail": ["store=1", "store=2"]}))
        .await?;
    ensure!(
        status == 200 && plan["violations"]["items"].to_string().contains("no_majority"),
        "{plan}"
    );
    ensure!(placed(&admin.ranges().await?) == before, "a plan changes nothing");
    cluster.assert_no_errors()
}

fn placed(ranges: &[holdfast_tests::Range]) -> Vec<(u64, Vec<u64>)> {
    ranges.iter().map(|range| (range.id, range.voters())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_replication_factor_is_changed_under_load() -> anyhow::Result<()> {
    let cluster = cluster(Options {
        stores: 5,
        ..Options::default()
    })
    .await?;
    let admin = cluster.admin();
    for key in ["g", "n", "t"] {
        admin.split(key).await?;
    }
    let writers = Writers::start(&cluster.client(), &["a", "h", "p", "w"], 6, 4);
    for factor in [1, 3, 5, 3, 1] {
        admin.configure(json!({"replication_factor": factor})).await?;
        admin.settled(factor, MINUTE).await?;
        writers.progress(100, MINUTE).await?;
    }
    let history = writers.stop().await?;
    history.verify_unharmed(&cluster.client()).await?;
    cluster.assert_no_errors()
}
