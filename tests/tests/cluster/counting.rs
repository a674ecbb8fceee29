//! A counter, while answers are lost and its range splits, merges, moves and changes leaders: every increment counts once.
//!
//! `HOLDFAST_INCREMENTS` says how many (300 if not given).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use holdfast_tests::{Admin, Client, Options, check_tiling};
use serde_json::json;

use crate::{cluster, from_environment};

const CLIENTS: usize = 16;
const MINUTE: Duration = Duration::from_secs(60);

/// What the clients were told.
#[derive(Default)]
struct Tally {
    acknowledged: AtomicUsize,
    /// Answered 504: such an increment may have been made or not.
    unknown: AtomicUsize,
}

/// Increments until enough are acknowledged.
async fn increment(client: Client, tally: Arc<Tally>, wanted: usize) -> anyhow::Result<()> {
    while tally.acknowledged.load(Ordering::Relaxed) < wanted {
        let read = client.get("counter").await?;
        if read.status == 504 || read.status == 503 {
            continue;
        }
        ensure!(read.status == 200, "{read:?}");
        let value: usize = str::from_utf8(&read.body)?.parse()?;
        let revision = read.revision.context("a revision")?;
        let write = client
            .compare_and_set("counter", revision, (value + 1).to_string())
            .await?;
        match write.status {
            200 | 204 => drop(tally.acknowledged.fetch_add(1, Ordering::Relaxed)),
            504 => drop(tally.unknown.fetch_add(1, Ordering::Relaxed)),
            412 | 503 => {}
            _ => anyhow::bail!("{write:?}"),
        }
    }
    Ok(())
}

/// Splits beside the counter, moves a replica of its range, hands it to another leader and merges it again, over and over.
async fn disturb(admin: Admin, stop: Arc<AtomicBool>) -> anyhow::Result<usize> {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        for path in ["split", "move", "transfer-leader", "merge"] {
            let range = admin.range_of("counter").await?;
            let voters = range.voters();
            let Some(free) = (1..=4).find(|store| !voters.contains(store)) else {
                continue;
            };
            let (path, body) = match path {
                "split" => ("/v1/ranges/split".to_owned(), json!({"key": "counter"})),
                "move" => (
                    format!("/v1/ranges/{}/move", range.id),
                    json!({"from_store": voters[rounds % voters.len()], "to_store": free}),
                ),
                "transfer-leader" => (
                    format!("/v1/ranges/{}/transfer-leader", range.id),
                    json!({"to_store": voters[(rounds + 1) % voters.len()]}),
                ),
                _ => {
                    let left = admin.range_of("a").await?;
                    (format!("/v1/ranges/{}/merge", left.id), json!({}))
                }
            };
            // One that can't be made at this moment is made in a later round.
            admin.post_json(&format!("{path}?wait=true"), &body).await?;
        }
        rounds += 1;
    }
    Ok(rounds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_increment_counts_once_though_answers_are_lost() -> anyhow::Result<()> {
    let wanted = usize::try_from(from_environment("HOLDFAST_INCREMENTS", 300)?)?;
    let cluster = cluster(Options {
        stores: 4,
        faults: "answer-lost=5%return",
        ..Options::default()
    })
    .await?;
    let (admin, client) = (cluster.admin(), cluster.client());
    admin.place_by_hand().await?;
    ensure!(client.put("counter", "0").await?.status < 300);
    let (tally, stop) = (Arc::new(Tally::default()), Arc::new(AtomicBool::new(false)));
    let disturber = tokio::spawn(disturb(admin.clone(), stop.clone()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| tokio::spawn(increment(client.clone(), tally.clone(), wanted)))
        .collect();
    for client in clients {
        client.await??;
    }
    stop.store(true, Ordering::Relaxed);
    let rounds = disturber.await??;

    let counted: usize = str::from_utf8(&client.get("counter").await?.body)?.parse()?;
    let acknowledged = tally.acknowledged.load(Ordering::Relaxed);
    let unknown = tally.unknown.load(Ordering::Relaxed);
    println!("{counted} counted, {acknowledged} acknowledged, {unknown} unknown, {rounds} rounds of changes");
    ensure!(
        (acknowledged..=acknowledged + unknown).contains(&counted),
        "{counted} counted, {acknowledged} acknowledged, {unknown} unknown"
    );
    ensure!(rounds > 0, "nothing was disturbed");
    check_tiling(&admin.settled(3, MINUTE).await?)
}
