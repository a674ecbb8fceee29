//! Three thousand ranges that nobody asks anything of, and then one store less.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use holdfast_tests::{Cluster, Member};
use serde_json::json;

use crate::probe::resident;
use crate::{MINUTE, cluster};

const RANGES: usize = 3_000;
/// Cuts in one request.
const CUTS: usize = 500;
/// Ranges are asleep by then, again too once those that the lost store led have other leaders.
const TO_REST: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(10);
/// Processor time of a store, percent of one core: with all stores, and with one down.
const MAX_PERCENT: f64 = 3.0;
const MAX_PERCENT_ONE_DOWN: f64 = 10.0;
const MAX_KIB_A_REPLICA: u64 = 200;

/// Processor time that a process has taken so far.
fn processor(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| Ok::<u64, anyhow::Error>(fields.get(at).context("too short")?.parse()?);
    // User and system time, in hundredths of a second.
    Ok(Duration::from_millis(10 * (ticks(11)? + ticks(12)?)))
}

fn stores(cluster: &Cluster) -> anyhow::Result<Vec<(Member, u32)>> {
    let members = cluster.members()?.into_iter();
    let stores = members.filter(|member| member.role == "store");
    Ok(stores
        .filter_map(|store| store.pid.map(|pid| (store, pid)))
        .collect())
}

/// Looks on for a while; the most that a store took, percent of one core.
async fn most_percent(cluster: &Cluster, what: &str) -> anyhow::Result<f64> {
    tokio::time::sleep(TO_REST).await;
    let stores = stores(cluster)?;
    let before = stores
        .iter()
        .map(|(_, pid)| processor(*pid))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let begun = Instant::now();
    tokio::time::sleep(LOOK).await;
    let took = begun.elapsed().as_secs_f64();
    let mut most = 0.0_f64;
    for ((store, pid), before) in stores.iter().zip(before) {
        let percent = 100.0 * (processor(*pid)? - before).as_secs_f64() / took;
        println!("{what}, {}: {percent:.1} % of a core", store.name);
        most = most.max(percent);
    }
    Ok(most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_thousand_idle_ranges_cost_next_to_nothing() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let admin = cluster.admin();
    admin.place_by_hand().await?;
    let one_range = resident(stores(&cluster)?.first().context("no store")?.1)?;
    let keys: Vec<String> = (1..RANGES).map(|number| format!("{number:04}")).collect();
    let begun = Instant::now();
    for keys in keys.chunks(CUTS) {
        let body = json!({ "keys": keys });
        let (status, job) = admin.post_json("/v1/ranges/split?wait=true", &body).await?;
        ensure!(status == 200 && job["state"] == "done", "{status}: {job}");
    }
    println!("{RANGES} ranges after {:.0?}", begun.elapsed());
    admin.settled(3, 5 * MINUTE).await?;

    let percent = most_percent(&cluster, "idle").await?;
    let mut most_kib = 0;
    for (store, pid) in stores(&cluster)? {
        let kib = resident(pid)?.saturating_sub(one_range) / 1024 / RANGES as u64;
        println!("{}: {kib} KiB a replica", store.name);
        most_kib = most_kib.max(kib);
    }
    cluster.kill("store-3")?;
    let one_down = most_percent(&cluster, "one store down").await?;
    ensure!(percent < MAX_PERCENT, "{percent:.1} %");
    ensure!(one_down < MAX_PERCENT_ONE_DOWN, "{one_down:.1} %");
    ensure!(most_kib < MAX_KIB_A_REPLICA, "{most_kib} KiB a replica");
    Ok(())
}
