//! Nine of ten requests go to one key of a hundred: the range is split and spread.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use holdfast_tests::Admin;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::json;

use crate::{MINUTE, cluster};

const KEYS: u32 = 10_000;
const HOT: std::ops::Range<u32> = 4_200..4_300;

/// What the busiest store has, as a multiple of an even share, and the number of ranges.
async fn imbalance(admin: &Admin) -> anyhow::Result<(f64, usize)> {
    let page = admin.get("/v1/ranges?limit=500").await?;
    let ranges = page["items"].as_array().cloned().unwrap_or_default();
    let mut stores = BTreeMap::<u64, f64>::new();
    for range in &ranges {
        let rate = |name: &str| range[name].as_f64().unwrap_or(0.0);
        // A write is work for every replica, a read for the leader.
        let (reads, writes) = (rate("reads_per_second"), rate("writes_per_second"));
        if let Some(leader) = range["leader_store"].as_u64() {
            *stores.entry(leader).or_default() += reads + writes;
        }
    }
    let total: f64 = stores.values().sum();
    let most = stores.values().copied().fold(0.0, f64::max);
    Ok((most * 3.0 / total.max(1.0), ranges.len()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_range_is_split_and_spread() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let admin = cluster.admin();
    // A machine that tests share serves less than what a split takes by default.
    admin
        .configure(json!({"split_operations_per_second": 400, "split_load_after_ms": 5_000}))
        .await?;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let (client, stop) = (cluster.client(), stop.clone());
            tokio::spawn(async move {
                let mut random = StdRng::seed_from_u64(number);
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let is_hot = random.random_ratio(9, 10);
                    let key = if is_hot {
                        random.random_range(HOT)
                    } else {
                        random.random_range(0..KEYS)
                    };
                    let key = format!("{key:05}");
                    let answer = if random.random_ratio(1, 5) {
                        client.put(&key, "value").await?
                    } else {
                        client.get(&key).await?
                    };
                    ensure!(
                        matches!(answer.status, 200 | 201 | 204 | 404),
                        "{key}: {answer:?}"
                    );
                    count += 1;
                }
                anyhow::Ok(count)
            })
        })
        .collect();
    let begun = Instant::now();
    let mut good = 0;
    admin
        .until(
            "no store has more than 1.4 times its share, ten times in a row",
            6 * MINUTE,
            async || {
                tokio::time::sleep(Duration::from_secs(2)).await;
                let (share, ranges) = imbalance(&admin).await?;
                println!(
                    "{:>5.0?}: {ranges} ranges, the busiest store has {share:.2} times its share",
                    begun.elapsed()
                );
                good = if share <= 1.4 { good + 1 } else { 0 };
                Ok(good == 10)
            },
        )
        .await?;
    stop.store(true, Ordering::Relaxed);
    let mut count = 0;
    for client in clients {
        count += client.await??;
    }
    println!("{count} requests, none failed");
    cluster.assert_no_errors()
}
