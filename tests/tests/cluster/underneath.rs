//! Tables are damaged under a process that has them open, has some of their blocks in memory, and merges them in the background.

use std::io::ErrorKind;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use holdfast_tests::{Client, Options};

use crate::cluster;
use crate::damage::{MINUTE, PAGE, ends_with_damage, files, flip, id_of, rebuilt};

/// The least that a store works with: its caches hold about a third of the rows.
const LITTLE_MEMORY: &str = "134217728";
const ROWS: u64 = 20_000;
const VALUE_BYTES: u64 = 4 << 10;
const WRITERS: u64 = 16;

fn key(number: u64) -> String {
    format!("k{number:06}")
}

/// A value that can't be made smaller, and belongs to one key alone.
fn value(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let words = (0..VALUE_BYTES / 8).flat_map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state ^ (state >> 33)).to_le_bytes()
    });
    words.collect()
}

async fn fill(client: &Client) -> anyhow::Result<()> {
    let writers = (0..WRITERS).map(|writer| async move {
        for number in (writer..ROWS).step_by(WRITERS as usize) {
            while client.put(key(number), value(number)).await?.status >= 300 {}
        }
        anyhow::Ok(())
    });
    try_join_all(writers).await.map(drop)
}

/// Reads all rows; fails where one is not what was written, and where not all can be read.
async fn read(client: &Client) -> anyhow::Result<bool> {
    let Ok(rows) = client.scan_everything().await else {
        return Ok(false);
    };
    ensure!(rows.len() as u64 == ROWS, "{} rows", rows.len());
    for (number, row) in (0..ROWS).zip(rows) {
        let written = (key(number).into_bytes(), value(number));
        ensure!(row == written, "{} is not what was written", key(number));
    }
    Ok(true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_damaged_under_their_process_are_never_believed() -> anyhow::Result<()> {
    let cluster = cluster(Options {
        environment: &[("HOLDFAST_STORE_MEMORY_BYTES", LITTLE_MEMORY)],
        ..Options::default()
    })
    .await?;
    let (admin, client) = (cluster.admin(), cluster.client());
    fill(&client).await?;
    let dir = cluster.member("store-2")?.data_dir.context("a directory")?;
    let tables = dir.join("data/keyspaces/1/tables");
    let written = async || {
        let sizes = files(&tables)?
            .into_iter()
            .filter_map(|table| Some(table.metadata().ok()?.len()));
        Ok(sizes.sum::<u64>() > ROWS * VALUE_BYTES / 2)
    };
    admin.until("rows are in tables", MINUTE, written).await?;
    ensure!(read(&client).await?, "not everything can be read");

    let id = id_of(&admin, "store-2").await?.context("its id")?;
    admin.place_by_hand().await?;
    for range in admin.ranges().await? {
        let path = format!("/v1/ranges/{}/transfer-leader?wait=true", range.id);
        admin
            .post_json(&path, &serde_json::json!({ "to_store": id }))
            .await?;
    }
    for table in files(&tables)? {
        let pages = (0..table.metadata().map_or(0, |table| table.len())).step_by(PAGE as usize);
        for at in pages {
            match flip(&table, at) {
                // It was merged into another just now.
                Err(error) if is_gone(&error) => break,
                flipped => flipped?,
            }
        }
    }
    let ended = async || {
        read(&client).await?;
        Ok(cluster.member("store-2")?.pid.is_none())
    };
    admin.until("it has met the damage", MINUTE, ended).await?;
    ends_with_damage(&cluster, "store-2")?;
    let whole = async || read(&client).await;
    admin.until("the others have everything", MINUTE, whole).await?;
    cluster.start_member("store-2").await?;
    rebuilt(&cluster, "store-2", id).await?;
    ensure!(read(&client).await?, "not everything can be read");
    Ok(())
}

fn is_gone(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == ErrorKind::NotFound)
}
