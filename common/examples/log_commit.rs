//! How many appends a second the Raft log makes durable, and how long one takes.
//!
//! ```text
//! cargo run --release -p holdfast-common --features raft --example log_commit [-- SECONDS [DIRECTORY]]
//! ```
//!
//! Each group has a number of proposals in flight, as a leader has: every append carries one entry of 128 bytes and is
//! followed by the next as soon as it is durable.

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::raft::log::{GroupLog, LogEngine, Options};
use holdfast_common::raft::types::{Command, CommittedLeaderId, Entry, LogId, Payload, TypeConfig};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::type_config::TypeConfigExt;

const COMMAND_BYTES: usize = 128;
/// Entries kept behind the newest, as a leader keeps some for slow followers.
const KEPT: u64 = 2_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(3), |seconds| seconds.parse())?;
    let parent = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    println!("groups  in flight  appends/s  entries/commit      p50      p99");
    for (groups, in_flight) in [(1, 1), (1, 8), (1, 64), (8, 1), (8, 8), (8, 32), (64, 1), (64, 4)] {
        let dir = tempfile::tempdir_in(&parent)?;
        let duration = Duration::from_secs(seconds);
        let line = runtime.block_on(measure(dir.path(), groups, in_flight, duration))?;
        println!("{groups:>6}  {in_flight:>9}  {line}");
    }
    Ok(())
}

async fn measure(
    dir: &Path,
    groups: u64,
    in_flight: usize,
    duration: Duration,
) -> Result<String, Box<dyn std::error::Error>> {
    let engine = LogEngine::open(dir, Options::default())?;
    let before = engine.commits();
    let started = Instant::now();
    let tasks: Vec<_> = (1..=groups)
        .map(|n| engine.group(RangeId(n), ReplicaId(n), None))
        .map(|log| tokio::spawn(drive(log, in_flight, started + duration)))
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let elapsed = started.elapsed().as_secs_f64();
    let commits = engine.commits() - before;
    engine.close().await;
    latencies.sort_unstable();
    let percentile = |p: usize| {
        latencies
            .get(latencies.len() * p / 100)
            .copied()
            .unwrap_or_default()
    };
    Ok(format!(
        "{:>9.0}  {:>14.1}  {:>6.0}µs  {:>6.0}µs",
        latencies.len() as f64 / elapsed,
        latencies.len() as f64 / commits as f64,
        percentile(50).as_secs_f64() * 1e6,
        percentile(99).as_secs_f64() * 1e6,
    ))
}

/// Appends to one group until `end`; how long each append took.
async fn drive(mut log: GroupLog, in_flight: usize, end: Instant) -> std::io::Result<Vec<Duration>> {
    let command = Bytes::from(vec![b'x'; COMMAND_BYTES]);
    let mut latencies = Vec::new();
    let mut pending = FuturesUnordered::new();
    let mut index = 0;
    while Instant::now() < end {
        while pending.len() < in_flight {
            let payload = Payload::Normal(Command(command.clone()));
            let entry = Entry {
                log_id: log_id(index),
                payload,
            };
            let (sender, durable) = TypeConfig::oneshot();
            let since = Instant::now();
            log.append([entry], IOFlushed::signal(sender)).await?;
            pending.push(async move { (since, durable.await) });
            index += 1;
            if index % KEPT == 0 {
                log.purge(log_id(index.saturating_sub(2 * KEPT))).await?;
            }
        }
        if let Some((since, durable)) = pending.next().await {
            durable.map_err(std::io::Error::other)??;
            latencies.push(since.elapsed());
        }
    }
    while pending.next().await.is_some() {}
    Ok(latencies)
}

fn log_id(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1), index)
}
