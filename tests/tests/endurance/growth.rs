//! Two stores added to three: everything spreads by itself, and then stays still.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use holdfast_tests::{Admin, Writers};

use crate::{MINUTE, cluster, cut, prefixes};

const RANGES: usize = 60;

/// Replicas and leaderships of each store.
async fn tally(admin: &Admin) -> anyhow::Result<BTreeMap<u64, (usize, usize)>> {
    let mut held: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
    for range in admin.ranges().await? {
        for store in range.replicas.iter().map(|replica| replica.store_id) {
            held.entry(store).or_default().0 += 1;
        }
        if let Some(leader) = range.leader_store {
            held.entry(leader).or_default().1 += 1;
        }
    }
    Ok(held)
}

/// Whether all have within a tenth of `mean`, or the nearest whole number.
fn is_even(counts: impl Iterator<Item = usize>, mean: usize) -> bool {
    let slack = (mean / 10).max(1);
    let mut counts = counts;
    counts.all(|count| count.abs_diff(mean) <= slack)
}

/// The latest decision to change something, and what was decided: by scheduler, kind and reason.
async fn taken(admin: &Admin) -> anyhow::Result<BTreeMap<u64, String>> {
    let page = admin.get("/v1/decisions?limit=500").await?;
    let decisions = page["items"].as_array().cloned().unwrap_or_default();
    let taken = decisions.iter().filter(|decision| decision["verdict"] == "taken");
    let told = taken.map(|decision| {
        let said = format!(
            "{} {}: {}",
            decision["scheduler"], decision["kind"], decision["why"]
        );
        (decision["id"].as_u64().unwrap_or_default(), said)
    });
    Ok(told.collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stores_are_added_to_three_with_sixty_ranges() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let admin = cluster.admin();
    cut(&admin, RANGES).await?;
    admin.settled(3, MINUTE).await?;
    let prefixes = prefixes(RANGES, 1);
    let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let writers = Writers::start(&cluster.client(), &prefixes, 8, 2);
    cluster.add_store("node4").await?;
    cluster.add_store("node5").await?;

    let begun = Instant::now();
    admin
        .until("spread over five stores", 3 * MINUTE, async || {
            let held = tally(&admin).await?;
            Ok(held.len() == 5
                && is_even(held.values().map(|(replicas, _)| *replicas), 3 * RANGES / 5)
                && is_even(held.values().map(|(_, leaders)| *leaders), RANGES / 5))
        })
        .await?;
    println!("even after {:.1?}: {:?}", begun.elapsed(), tally(&admin).await?);
    // What is under way is finished; from then on nothing is begun.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let last = taken(&admin).await?.into_keys().max();
    let placed = tally(&admin).await?;
    tokio::time::sleep(5 * MINUTE).await;
    let later: Vec<String> = taken(&admin)
        .await?
        .into_iter()
        .filter_map(|(id, said)| (Some(id) > last).then_some(said))
        .collect();
    ensure!(later.is_empty(), "not still: {later:#?}");
    println!("still for five minutes: {placed:?}");

    let history = writers.stop().await?;
    println!("{} writes acknowledged, none failed", history.acknowledged());
    history.verify_unharmed(&cluster.client()).await?;
    cluster.assert_no_errors()
}
