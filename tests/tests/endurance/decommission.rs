//! A store is decommissioned, and in the middle of that another one is killed and never comes back.

use std::time::Instant;

use anyhow::{Context, ensure};
use holdfast_tests::{Range, Writers, check_tiling};
use serde_json::json;

use crate::{MINUTE, cluster, cut, prefixes};

const RANGES: usize = 40;
const LEAVING: u64 = 1;

/// The range that could not go on without the killed store, if there is one.
fn without_majority(ranges: &[Range], killed: u64) -> Option<&Range> {
    ranges.iter().find(|range| {
        let voters = range.voters();
        let alive = voters.iter().filter(|store| **store != killed).count();
        2 * alive <= voters.len()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_killed_while_another_is_decommissioned() -> anyhow::Result<()> {
    let cluster = cluster(5).await?;
    let admin = cluster.admin();
    admin
        .configure(json!({
            "store_suspect_after_ms": 3_000, "store_down_after_ms": 5_000, "store_replace_after_ms": 10_000,
            // One at a time, so that there is a middle.
            "max_operators_per_store": 1,
        }))
        .await?;
    cut(&admin, RANGES).await?;
    admin.settled(3, MINUTE).await?;
    let prefixes = prefixes(RANGES, 1);
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let writers = Writers::start(&cluster.client(), &prefixes, 8, 2);

    let begun = Instant::now();
    let held = |ranges: &[Range], store: u64| {
        let holds = |range: &&Range| range.replicas.iter().any(|replica| replica.store_id == store);
        ranges.iter().filter(holds).count()
    };
    let at_first = held(&admin.ranges().await?, LEAVING);
    let (status, answer) = admin.post(&format!("/v1/stores/{LEAVING}/decommission")).await?;
    ensure!(status == 202 || status == 200, "{status}: {answer}");
    admin
        .until("a part of it is away", MINUTE, async || {
            Ok(held(&admin.ranges().await?, LEAVING) < at_first)
        })
        .await?;
    let left = held(&admin.ranges().await?, LEAVING);
    ensure!(left > 0, "it was too quick: there is no middle");
    let killed = 3;
    cluster.kill(&cluster.store(killed)?.name)?;
    println!("killed store {killed} when store {LEAVING} had {left} of {at_first} replicas left");

    admin
        .until(
            "the store is removed, and the dead one replaced",
            5 * MINUTE,
            async || {
                let ranges = admin.ranges().await?;
                if let Some(range) = without_majority(&ranges, killed) {
                    anyhow::bail!("no majority: {range:#?}");
                }
                let store = admin.get(&format!("/v1/stores/{LEAVING}")).await?;
                let moved = held(&ranges, LEAVING) == 0 && held(&ranges, killed) == 0;
                Ok(moved && store["state"] == "removed")
            },
        )
        .await?;
    println!("done after {:.1?}", begun.elapsed());
    writers.progress(500, MINUTE).await?;
    let history = writers.stop().await?;
    println!(
        "{} writes acknowledged; failed: {:?}",
        history.acknowledged(),
        history.failures
    );
    history.verify(&cluster.client()).await?;
    let ranges = admin.settled(3, MINUTE).await?;
    check_tiling(&ranges)?;
    ranges.first().context("ranges")?;
    Ok(())
}
