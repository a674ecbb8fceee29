//! A store with a thousand ranges and a gibibyte of data starts again.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use holdfast_tests::Cluster;

use crate::filling::fill;
use crate::{MINUTE, cluster, cut};

const RANGES: usize = 1_000;
const VALUE_BYTES: usize = 16 << 10;
const VALUES: usize = (1 << 30) / VALUE_BYTES;
const BOUND: Duration = Duration::from_secs(5);

/// A row in one of the ranges, each getting its share.
fn row(number: usize) -> (String, Vec<u8>) {
    let value = (0..VALUE_BYTES).map(|at| (at * 31 + number * 7 + at / 251) as u8);
    (format!("{:03}-{number:06}", number % RANGES), value.collect())
}

/// Starts a store and waits until it says that it serves.
async fn start(cluster: &Cluster, name: &str) -> anyhow::Result<Duration> {
    let begun = Instant::now();
    let starting = cluster.start_member(name);
    let http = cluster.member(name)?.http;
    let ready = async {
        let url = format!("{http}/ready");
        while !reqwest::get(&url)
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        begun.elapsed()
    };
    let (started, ready) = tokio::join!(starting, tokio::time::timeout(MINUTE, ready));
    started?;
    ready.context("it is not ready after a minute")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_with_a_thousand_ranges_and_a_gibibyte_serves_within_seconds() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let admin = cluster.admin();
    admin.place_by_hand().await?;
    cut(&admin, RANGES).await?;
    fill(&cluster.client(), VALUES, 16, row).await?;
    admin.settled(3, 5 * MINUTE).await?;
    cluster.stop_member("store-2").await?;
    let stopped = start(&cluster, "store-2").await?;
    println!("after an ordered stop it serves after {stopped:.2?}");
    admin.settled(3, 5 * MINUTE).await?;
    cluster.kill("store-3")?;
    let killed = start(&cluster, "store-3").await?;
    println!("after kill -9 it serves after {killed:.2?}");
    admin.settled(3, 5 * MINUTE).await?;
    ensure!(stopped.max(killed) <= BOUND, "{stopped:?}, {killed:?}");
    Ok(())
}
