//! Counters, while answers are lost and their ranges split, merge, move and change leaders: every increment counts once.
//!
//! `HOLDFAST_INCREMENTS` says how many, of all counters together (2,000 if not given).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use holdfast_tests::{Admin, Client, Options, check_tiling};
use serde_json::json;

use crate::{cluster, from_environment};

/// Each has two clients, which get into each other's way. Many, since a client whose answer was lost waits for a while.
const COUNTERS: usize = 64;

/// Where the ranges are cut.
const CUT: &str = "counter-32";

const MINUTE: Duration = Duration::from_secs(60);

/// What the clients of one counter were told.
#[derive(Default)]
struct Tally {
    key: String,
    acknowledged: AtomicUsize,
    /// Answered 504: such an increment may have been made or not.
    unknown: AtomicUsize,
}

/// Increments until enough are acknowledged.
async fn increment(client: Client, tally: Arc<Tally>, wanted: usize) -> anyhow::Result<()> {
    while tally.acknowledged.load(Ordering::Relaxed) < wanted {
        let read = client.get(&tally.key).await?;
        if read.status == 504 || read.status == 503 {
            continue;
        }
        ensure!(read.status == 200, "{read:?}");
        let value: usize = str::from_utf8(&read.body)?.parse()?;
        let revision = read.revision.context("a revision")?;
        let write = client
            .compare_and_set(&tally.key, revision, (value + 1).to_string())
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

/// Splits between the counters, moves a replica of the right part, hands it to another leader and merges it again, over and over.
async fn disturb(admin: Admin, stop: Arc<AtomicBool>) -> anyhow::Result<usize> {
    let mut rounds = 0;
    while !stop.load(Ordering::Relaxed) {
        for path in ["split", "move", "transfer-leader", "merge"] {
            let range = admin.range_of(CUT).await?;
            let voters = range.voters();
            let Some(free) = (1..=4).find(|store| !voters.contains(store)) else {
                continue;
            };
            let (path, body) = match path {
                "split" => ("/v1/ranges/split".to_owned(), json!({"key": CUT})),
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
    let wanted = usize::try_from(from_environment("HOLDFAST_INCREMENTS", 2_000)?)?;
    let cluster = cluster(Options {
        stores: 4,
        faults: "answer-lost=5%return",
        ..Options::default()
    })
    .await?;
    let (admin, client) = (cluster.admin(), cluster.client());
    admin.place_by_hand().await?;
    let tally = |number| Tally {
        key: format!("counter-{number:02}"),
        ..Tally::default()
    };
    let tallies: Vec<_> = (0..COUNTERS).map(|number| Arc::new(tally(number))).collect();
    for tally in &tallies {
        ensure!(client.put(&tally.key, "0").await?.status < 300);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let disturber = tokio::spawn(disturb(admin.clone(), stop.clone()));
    let clients: Vec<_> = tallies
        .iter()
        .chain(&tallies)
        .map(|tally| tokio::spawn(increment(client.clone(), tally.clone(), wanted / COUNTERS)))
        .collect();
    for client in clients {
        client.await??;
    }
    stop.store(true, Ordering::Relaxed);
    let rounds = disturber.await??;

    let mut all = (0, 0);
    for tally in &tallies {
        let key = &tally.key;
        let counted: usize = str::from_utf8(&client.get(key).await?.body)?.parse()?;
        let acknowledged = tally.acknowledged.load(Ordering::Relaxed);
        let unknown = tally.unknown.load(Ordering::Relaxed);
        ensure!(
            (acknowledged..=acknowledged + unknown).contains(&counted),
            "{key}: {counted} counted, {acknowledged} acknowledged, {unknown} unknown"
        );
        all = (all.0 + acknowledged, all.1 + unknown);
    }
    println!(
        "{} acknowledged, {} unknown, {rounds} rounds of changes",
        all.0, all.1
    );
    ensure!(rounds > 0, "nothing was disturbed");
    check_tiling(&admin.settled(3, MINUTE).await?)
}
