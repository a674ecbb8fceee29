//! A range of a gibibyte moves to another store beside foreground load.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use reqwest::Method;
use serde_json::json;

use crate::filling::fill;
use crate::probe::{Foreground, Latencies, Memory};
use crate::{MINUTE, cluster};

const VALUE_BYTES: usize = 64 << 10;
const VALUES: usize = (1 << 30) / VALUE_BYTES;
const CLIENTS: usize = 8;

/// Incompressible bytes, so that the size on disk is the size.
fn value(seed: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64 ^ seed as u64;
    let mut bytes = Vec::with_capacity(VALUE_BYTES);
    while bytes.len() < VALUE_BYTES {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

fn say(what: &str, latencies: &Latencies) {
    println!(
        "{what}: {} requests, p50 {:.1?}, p99 {:.1?}",
        latencies.count(),
        latencies.per_mille(500),
        latencies.per_mille(990)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_a_gibibyte_moves_beside_foreground_load() -> anyhow::Result<()> {
    let cluster = cluster(4).await?;
    let (admin, client) = (cluster.admin(), cluster.client());
    admin.place_by_hand().await?;
    admin
        .configure(json!({"split_bytes": 1_u64 << 36, "schedulers": {"split": false}}))
        .await?;
    admin.split("large/").await?;
    let begun = Instant::now();
    fill(&client, VALUES, 8, |number| {
        (format!("large/{number:06}"), value(number))
    })
    .await?;
    println!("filled after {:.0?}", begun.elapsed());
    // The leader's cache of blocks is full, as that of a store in service is; what it is to hold is configured.
    let count = client.request(Method::GET, "/v1/kv?count=true&prefix=large/");
    let counted = client.send(count).await?;
    ensure!(counted.status == 200, "{counted:?}");
    // What the stores still have to merge is not the move's.
    tokio::time::sleep(Duration::from_secs(30)).await;

    let foreground = Foreground::start(&client, "front/", CLIENTS);
    tokio::time::sleep(Duration::from_secs(20)).await;
    let before = foreground.stop().await?;
    say("before", &before);

    let range = admin.range_of("large/000000").await?;
    let from = range.leader_store.context("a leader")?;
    let to = (1..=4)
        .find(|store| !range.voters().contains(store))
        .context("a free store")?;
    let follower = range
        .voters()
        .into_iter()
        .find(|store| *store != from)
        .context("a follower")?;
    let sides = [("leader", from), ("target", to)];
    let watched = sides
        .iter()
        .map(|(_, store)| Memory::watch(cluster.store(*store)?.pid))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let foreground = Foreground::start(&client, "front/", CLIENTS);
    let begun = Instant::now();
    let (_, operator) = admin
        .post_json(
            &format!("/v1/ranges/{}/move", range.id),
            &json!({"from_store": follower, "to_store": to}),
        )
        .await?;
    let id = operator["id"].to_string();
    admin
        .until("the move is done", 10 * MINUTE, async || {
            let operator = admin.get(&format!("/v1/operators/{id}")).await?;
            ensure!(
                matches!(operator["state"].as_str(), Some("running" | "done")),
                "{operator}"
            );
            Ok(operator["state"] == "done")
        })
        .await?;
    println!("moved after {:.1?}", begun.elapsed());
    let during = foreground.stop().await?;
    say("during", &during);
    let extras: Vec<u64> = watched.iter().map(|memory| memory.extra() >> 20).collect();
    for ((name, store), (memory, extra)) in sides.iter().zip(watched.iter().zip(&extras)) {
        println!(
            "{name}, store {store}, process {}: {extra} MiB of extra memory",
            memory.pid()
        );
    }
    ensure!(extras.iter().all(|extra| *extra < 64), "{extras:?} MiB");
    cluster.assert_no_errors()
}
