//! The comparison of replicas, through the program and the admin API, on processes whose data was tampered with.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use holdfast_store::engine::{Batch, Engine, Options as EngineOptions};
use holdfast_store::keys;
use holdfast_tests::{Cluster, Options};
use serde_json::Value;

use crate::{PROGRAM, cluster};

/// `holdfast range check …`: its exit code, and what it prints.
fn check(cluster: &Cluster, what: &str) -> anyhow::Result<(Option<i32>, Value)> {
    let placement = cluster.member("placement-1")?.http;
    let ran = Command::new(PROGRAM)
        .args([
            "range",
            "check",
            what,
            "--output",
            "json",
            "--placement",
            &placement,
        ])
        .output()?;
    let printed = serde_json::from_slice(&ran.stdout)
        .with_context(|| format!("{}", String::from_utf8_lossy(&ran.stderr)))?;
    Ok((ran.status.code(), printed))
}

/// Writes a record into the data of a store that does not run.
async fn plant(cluster: &Cluster, store: u64, key: &str) -> anyhow::Result<()> {
    let dir = cluster
        .store(store)?
        .data_dir
        .context("a store has a directory")?;
    let engine = Engine::open(&dir.join("data"), EngineOptions::default())?;
    let mut batch = Batch::default();
    // Version 1, no flags, revision 1.
    let value = [&[1, 0, 1, 0, 0, 0, 0, 0, 0, 0], &b"planted"[..]].concat();
    batch.put([&[keys::RECORD], key.as_bytes()].concat().into(), value.into());
    engine.write(batch);
    engine.persist().await?;
    engine.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tampered_replica_is_found_told_and_gone_when_it_is_moved_away() -> anyhow::Result<()> {
    let options = Options {
        stores: 4,
        ..Options::default()
    };
    let cluster = cluster(options).await?;
    let (client, admin) = (cluster.client(), cluster.admin());
    admin.place_by_hand().await?;
    for n in 0..50 {
        client.put(&format!("k{n:02}"), "value").await?;
    }
    admin.split("k25").await?;
    admin.settled(3, Duration::from_secs(60)).await?;
    let (exit, sound) = check(&cluster, "--all")?;
    let verdicts: Vec<_> = sound.as_array().context("a list")?.iter().collect();
    ensure!(
        exit == Some(0) && verdicts.len() == 2 && verdicts.iter().all(|range| range["verdict"] == "agree"),
        "{exit:?}: {sound}"
    );

    let range = admin.range_of("k30").await?;
    let stores = range.voters();
    let bad = stores
        .iter()
        .copied()
        .find(|store| Some(*store) != range.leader_store)
        .context("a follower")?;
    let name = cluster.store(bad)?.name;
    cluster.stop_member(&name).await?;
    plant(&cluster, bad, "k30x").await?;
    cluster.start_member(&name).await?;
    admin.settled(3, Duration::from_secs(60)).await?;

    let mut last = Value::Null;
    admin
        .until("it is found", Duration::from_secs(60), async || {
            let (exit, found) = check(&cluster, &range.id.to_string())?;
            let differs = found[0]["verdict"] == "differ";
            ensure!(!differs || exit == Some(1), "{exit:?}: {found}");
            last = found;
            Ok(differs)
        })
        .await
        .with_context(|| last.to_string())?;
    let replicas = last[0]["replicas"].as_array().context("replicas")?;
    let suspects = replicas.iter().filter(|replica| replica["suspect"] == true);
    let suspects: Vec<_> = suspects.map(|replica| &replica["store_id"]).collect();
    ensure!(suspects == [bad], "{last}");
    admin
        .until("the driver knows", Duration::from_secs(30), async || {
            let now = admin.cluster().await?;
            Ok(now["health"] == "critical" && now["divergent_ranges"][0]["range_id"] == range.id)
        })
        .await?;
    for store in &stores {
        let url = format!("{}/metrics", cluster.store(*store)?.http);
        let metrics = reqwest::get(url).await?.text().await?;
        let told = metrics
            .lines()
            .any(|line| line.starts_with("holdfast_store_divergent_ranges 1"));
        ensure!(told, "store {store} has no word of it in its metrics");
    }

    // What the runbook says to do.
    let free = (1..=4)
        .find(|store| !stores.contains(store))
        .context("a free store")?;
    admin.move_replica(range.id, bad, free).await?;
    admin
        .until("it is forgotten", Duration::from_secs(30), async || {
            let now = admin.cluster().await?;
            Ok(now["health"] == "ok" && now["divergent_ranges"] == Value::Array(Vec::new()))
        })
        .await?;
    let (exit, mended) = check(&cluster, "--all")?;
    ensure!(exit == Some(0), "{mended}");
    Ok(())
}
