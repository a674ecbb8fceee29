//! Minutes of load and change on clusters of real processes, with figures: `just endurance`.
//!
//! Each test fails when a promise is broken, and prints what it measured. They take too long for every change. The crowd, the overload, the outage
//! and fairness last `HOLDFAST_SECONDS` if that is given.

mod crowd;
mod decommission;
mod failover;
mod fairness;
mod filling;
mod growth;
mod hot;
mod idle;
mod large_move;
mod merging;
mod outage;
mod overload;
mod probe;
mod restart;
mod scan;
mod steady;

use std::time::Duration;

use anyhow::{Context, ensure};
use holdfast_tests::{Admin, Cluster, Options};
use serde_json::json;

/// The `holdfast` under test: the one that `HOLDFAST` names, a release for figures, else this workspace's.
fn program() -> String {
    let built = env!("CARGO_BIN_EXE_holdfast-under-test");
    std::env::var("HOLDFAST").unwrap_or_else(|_| built.to_owned())
}

const MINUTE: Duration = Duration::from_secs(60);

/// How long something is kept up: as `HOLDFAST_SECONDS` says, or else `otherwise`.
fn length(otherwise: Duration) -> anyhow::Result<Duration> {
    let Ok(given) = std::env::var("HOLDFAST_SECONDS") else {
        return Ok(otherwise);
    };
    let seconds = given
        .parse()
        .with_context(|| format!("HOLDFAST_SECONDS={given}"))?;
    Ok(Duration::from_secs(seconds))
}

/// Starts a cluster and waits until its ranges have all their replicas.
async fn cluster(stores: u16) -> anyhow::Result<Cluster> {
    started(Options {
        stores,
        ..Options::default()
    })
    .await
}

/// As [`cluster`], with all options.
async fn started(options: Options) -> anyhow::Result<Cluster> {
    let stores = options.stores;
    let cluster = Cluster::start(&program(), options)?;
    cluster
        .admin()
        .settled(usize::from(stores.min(3)), MINUTE)
        .await?;
    Ok(cluster)
}

/// Cuts the empty key space at `{000..}` into so many ranges.
async fn cut(admin: &Admin, ranges: usize) -> anyhow::Result<()> {
    let keys: Vec<String> = (1..ranges).map(|number| format!("{number:03}")).collect();
    let body = json!({ "keys": keys });
    let (status, job) = admin.post_json("/v1/ranges/split?wait=true", &body).await?;
    ensure!(status == 200 && job["state"] == "done", "{status}: {job}");
    Ok(())
}

/// Prefixes that lie in every so manieth of the ranges that [`cut`] made.
fn prefixes(ranges: usize, step: usize) -> Vec<String> {
    (0..ranges)
        .step_by(step)
        .map(|number| format!("{number:03}-"))
        .collect()
}
