//! Somebody who reads everything over and over, and many who want the same key, beside a few who work elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::StreamExt;
use holdfast_tests::Client;
use reqwest::{Method, header};
use tokio::task::JoinHandle;

use crate::filling::fill;
use crate::probe::{Foreground, Latencies, Memories};
use crate::{cluster, length};

const ROWS: usize = 100_000;
const CLIENTS: usize = 4;
/// Clients of the hot key; every other one writes it.
const CROWD: usize = 16;
const LENGTH: Duration = Duration::from_secs(10);
const ALONE: Duration = Duration::from_secs(20);
/// For whoever holds nothing but requests.
const MAX_EXTRA_MIB: u64 = 64;
/// For a store: what it keeps of rows written lately, its memtable and one that is being written out, and the log's fill up, each to 64 MiB.
const MAX_STORE_EXTRA_MIB: u64 = 4 * 64 + MAX_EXTRA_MIB;

fn max_extra_mib(member: &str) -> u64 {
    match member.starts_with("store") {
        true => MAX_STORE_EXTRA_MIB,
        false => MAX_EXTRA_MIB,
    }
}

/// Reads every row as a stream, and counts them.
async fn read_everything(client: &Client) -> anyhow::Result<usize> {
    let request = client
        .request(Method::GET, "/v1/kv?prefix=row/")
        .header(header::ACCEPT, "application/x-ndjson");
    let mut body = request.send().await?.error_for_status()?.bytes_stream();
    let mut lines = 0;
    while let Some(chunk) = body.next().await {
        lines += chunk?.iter().filter(|byte| **byte == b'\n').count();
    }
    lines.checked_sub(1).context("a stream without a last line")
}

/// Reads everything until told to stop, and tells how often that was.
fn scanning(client: Client, stop: Arc<AtomicBool>) -> JoinHandle<anyhow::Result<usize>> {
    tokio::spawn(async move {
        let mut times = 0;
        while !stop.load(Ordering::Relaxed) {
            let rows = read_everything(&client).await?;
            ensure!(rows == ROWS, "{rows} of {ROWS} rows");
            times += 1;
        }
        Ok(times)
    })
}

/// Clients that write or read the hot key until told to stop; each tells how often.
fn wanting(client: &Client, stop: &Arc<AtomicBool>) -> Vec<JoinHandle<anyhow::Result<usize>>> {
    let want = |number: usize| {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let mut times = 0;
            while !stop.load(Ordering::Relaxed) {
                let answer = match number % 2 {
                    0 => client.put("hot", "what everybody wants").await?,
                    _ => client.get("hot").await?,
                };
                ensure!(matches!(answer.status, 200..300 | 404), "{answer:?}");
                times += 1;
            }
            Ok(times)
        })
    };
    (0..CROWD).map(want).collect()
}

/// What some felt, and how often others did what they did beside them.
async fn beside(
    client: &Client,
    prefix: &str,
    long: Duration,
    others: impl FnOnce(Arc<AtomicBool>) -> Vec<JoinHandle<anyhow::Result<usize>>>,
) -> anyhow::Result<(Latencies, usize)> {
    let stop = Arc::new(AtomicBool::new(false));
    let others = others(stop.clone());
    let work = Foreground::start(client, prefix, CLIENTS);
    tokio::time::sleep(long).await;
    let felt = work.stop().await?;
    stop.store(true, Ordering::Relaxed);
    let mut done = 0;
    for other in others {
        done += other.await.context("somebody else")??;
    }
    Ok((felt, done))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_of_everything_and_a_hot_key_leave_room_for_others() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let (admin, client) = (cluster.admin(), cluster.client());
    for key in ["hot", "row/", "row/025000", "row/050000", "row/075000", "work"] {
        admin.split(key).await?;
    }
    fill(&client, ROWS, 64, |row| {
        (format!("row/{row:06}"), vec![b'x'; 100])
    })
    .await?;
    // What fills the caches of blocks once is not counted.
    read_everything(&client).await?;
    let watched = Memories::watch(&cluster)?;

    let long = length(LENGTH)?;
    let (alone, _) = beside(&client, "work/alone", ALONE, |_| Vec::new()).await?;
    let scanning = |stop| vec![scanning(client.clone(), stop)];
    let (scanned, scans) = beside(&client, "work/scan", long, scanning).await?;
    let (crowded, requests) = beside(&client, "work/hot", long, |stop| wanting(&client, &stop)).await?;
    let (again, _) = beside(&client, "work/again", ALONE, |_| Vec::new()).await?;

    for (when, felt) in [
        ("alone", &alone),
        ("beside a scan", &scanned),
        ("beside a hot key", &crowded),
        ("again", &again),
    ] {
        println!("{when}: {felt}");
    }
    println!("{scans} scans of {ROWS} rows, {requests} requests for the hot key");
    let extras = watched.extra_mib();
    println!("extra memory, MiB: {extras:?}");
    let bound = 3 * alone.per_mille(990).max(again.per_mille(990));
    ensure!(scanned.per_mille(990) <= bound, "the scan is felt");
    ensure!(crowded.per_mille(990) <= bound, "the hot key is felt");
    ensure!(
        extras.iter().all(|(name, extra)| *extra < max_extra_mib(name)),
        "{extras:?} MiB"
    );
    cluster.assert_no_errors()
}
