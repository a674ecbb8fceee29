//! Ranges that nobody asks anything of sleep; the loss of the store that leads most of them wakes them, and they take
//! writes again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use holdfast_tests::{Cluster, Options};
use serde_json::json;

use crate::cluster;

/// How many ranges there are besides the first.
const SPLITS: usize = 30;

const MINUTE: Duration = Duration::from_secs(60);

/// How long a write may be tried after a store was killed.
const PATIENCE: Duration = Duration::from_secs(15);

fn keys() -> Vec<String> {
    (0..SPLITS).map(|number| format!("k{number:03}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_ranges_sleep_and_take_writes_again_when_the_store_that_leads_most_is_killed()
-> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    cluster.admin().place_by_hand().await?;
    let (status, answer) = cluster
        .admin()
        .post_json("/v1/ranges/split", &json!({"keys": keys()}))
        .await?;
    ensure!(status < 300, "{status}: {answer}");
    cluster
        .admin()
        .until("the ranges are split", MINUTE, async || {
            Ok(cluster.admin().ranges().await?.len() == SPLITS + 1)
        })
        .await?;
    cluster.admin().settled(3, MINUTE).await?;
    let mut written = BTreeMap::new();
    for key in keys() {
        write(&cluster, &mut written, &key, "before").await?;
    }
    asleep(&cluster, 3 * (SPLITS + 1)).await?;
    ensure!(woken(&cluster, "leader_lost").await? == 0, "nobody was lost");

    let victim = cluster.store(cluster.admin().busiest_store().await?)?.name;
    cluster.kill(&victim)?;
    for key in keys() {
        write(&cluster, &mut written, &key, "after").await?;
    }
    // Those that nobody wrote to have woken, elected and gone to sleep as well: two of each.
    asleep(&cluster, 2 * (SPLITS + 1)).await?;

    cluster.start_member(&victim).await?;
    cluster.admin().settled(3, MINUTE).await?;
    asleep(&cluster, 3 * (SPLITS + 1)).await?;
    for (key, value) in &written {
        let read = cluster.client().get(key).await?;
        ensure!(
            read.body == value.as_bytes(),
            "{key} is {:?}",
            String::from_utf8_lossy(&read.body)
        );
    }
    cluster.assert_no_errors()
}

/// Writes until it is acknowledged.
async fn write(
    cluster: &Cluster,
    written: &mut BTreeMap<String, String>,
    key: &str,
    value: &str,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let answer = cluster.client().put(key, value).await?;
        if answer.status < 300 {
            written.insert(key.to_owned(), value.to_owned());
            return Ok(());
        }
        ensure!(
            begun.elapsed() < PATIENCE,
            "{key} takes no write: {} {:?}",
            answer.status,
            answer.code()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until so many replicas sleep.
async fn asleep(cluster: &Cluster, replicas: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let present = sum(cluster, "holdfast_raft_hibernating", "role", "").await?;
        if present == replicas as f64 {
            return Ok(());
        }
        ensure!(
            begun.elapsed() < 2 * MINUTE,
            "{present} of {replicas} replicas sleep"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn woken(cluster: &Cluster, cause: &str) -> anyhow::Result<usize> {
    Ok(sum(cluster, "holdfast_raft_wakes_total", "cause", cause).await? as usize)
}

/// The sum over all stores that run of the series whose label is `value`, or of all of them when that is empty.
async fn sum(cluster: &Cluster, metric: &str, label: &str, value: &str) -> anyhow::Result<f64> {
    let mut total = 0.0;
    let stores = cluster.members()?.into_iter();
    for store in stores.filter(|member| member.role == "store" && member.pid.is_some()) {
        // One that is just starting does not serve yet.
        let Ok(answer) = reqwest::get(format!("{}/metrics", store.http)).await else {
            continue;
        };
        let text = answer.text().await?;
        let wanted = format!("{metric}{{{label}=\"{value}");
        let series = text.lines().filter(|line| line.starts_with(&wanted));
        let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        total += values.sum::<f64>();
    }
    Ok(total)
}
