//! Everything is read in one go, through the router, while its ranges are split.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use holdfast_tests::{Admin, Client};
use reqwest::{Method, header};
use serde_json::{Value, json};

use crate::probe::Memories;
use crate::{MINUTE, cluster};

const KEYS: usize = 5_000_000;
const BATCH: usize = 1_000;
/// Ranges at the start.
const RANGES: usize = 8;
const MAX_EXTRA_MIB: u64 = 64;

fn key(number: usize) -> String {
    format!("row/{number:08}")
}

async fn fill(client: &Client) -> anyhow::Result<()> {
    stream::iter((0..KEYS).step_by(BATCH))
        .map(|from| async move {
            let put = |number| json!({"put": {"key": key(number), "value": format!("value of {number}")}});
            let body = json!({ "ops": (from..from + BATCH).map(put).collect::<Vec<_>>() });
            loop {
                let answer = client
                    .send(client.request(Method::POST, "/v1/batch").json(&body))
                    .await?;
                let read: Value = serde_json::from_slice(&answer.body)?;
                let results = read["results"].as_array().map_or(&[][..], Vec::as_slice);
                let is_done = |result: &Value| matches!(result["status"].as_u64(), Some(200 | 201));
                if answer.status == 200 && results.len() == BATCH && results.iter().all(is_done) {
                    return anyhow::Ok(());
                }
                // The store asks for a pause; what was written is written again.
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        })
        .buffer_unordered(4)
        .try_collect()
        .await
}

/// Splits the ranges, one after the other, until told to stop; how many times.
async fn split_on(admin: Admin, stop: Arc<AtomicBool>) -> anyhow::Result<usize> {
    let mut splits = 0;
    while !stop.load(Ordering::Relaxed) {
        // Far from each other, and never twice at the same key: a step that shares no factor with the number of keys.
        splits += 1;
        admin.split(&key(splits * 1_234_567 % KEYS)).await?;
    }
    Ok(splits)
}

/// What a stream has told so far.
#[derive(Default)]
struct Told {
    rows: usize,
    next_cursor: Option<String>,
    is_whole: bool,
}

impl Told {
    fn line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        ensure!(!self.is_whole, "a line after the last one");
        let line: Value = serde_json::from_slice(line)?;
        if let Some(found) = line["key"].as_str() {
            ensure!(found == key(self.rows), "{found} instead of {}", key(self.rows));
            ensure!(line["value"] == format!("value of {}", self.rows), "{line}");
            self.rows += 1;
            return Ok(());
        }
        ensure!(line.get("error").is_none(), "{line}");
        self.is_whole = line.get("next_cursor").is_some();
        self.next_cursor = line["next_cursor"].as_str().map(str::to_owned);
        Ok(())
    }
}

/// Reads a page of a million lines, as they come.
async fn read_page(client: &Client, told: &mut Told) -> anyhow::Result<()> {
    let cursor = told.next_cursor.take().map(|cursor| format!("&cursor={cursor}"));
    let path = format!("/v1/kv?prefix=row/{}", cursor.unwrap_or_default());
    let request = client
        .request(Method::GET, &path)
        .header(header::ACCEPT, "application/x-ndjson");
    let response = request.timeout(30 * MINUTE).send().await?.error_for_status()?;
    told.is_whole = false;
    let (mut body, mut rest) = (response.bytes_stream(), Vec::new());
    while let Some(chunk) = body.next().await {
        rest.extend_from_slice(&chunk?);
        let lines = rest
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        for line in rest[..lines]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            told.line(line)?;
        }
        rest.drain(..lines);
    }
    ensure!(told.is_whole, "the stream was cut after {} rows", told.rows);
    Ok(())
}

/// Counts every row, as far as one request gets at a time.
async fn count(client: &Client) -> anyhow::Result<()> {
    let (mut rows, mut cursor) = (0, String::new());
    loop {
        let path = format!("/v1/kv?count=true&prefix=row/&timeout_ms=60000{cursor}");
        let answer = client
            .send(client.request(Method::GET, &path).timeout(2 * MINUTE))
            .await?;
        let answer: Value = serde_json::from_slice(&answer.body)?;
        rows += answer["count"].as_u64().with_context(|| answer.to_string())?;
        match answer["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    ensure!(rows == KEYS as u64, "{rows} of {KEYS} keys");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_million_keys_are_read_while_ranges_split() -> anyhow::Result<()> {
    let cluster = cluster(3).await?;
    let (admin, client) = (cluster.admin(), cluster.client());
    admin.place_by_hand().await?;
    for part in 1..RANGES {
        admin.split(&key(part * KEYS / RANGES)).await?;
    }
    let begun = Instant::now();
    fill(&client).await?;
    println!("{KEYS} keys filled after {:.0?}", begun.elapsed());
    // The caches of blocks are full, as those of stores in service are; what they are to hold is configured.
    count(&client).await?;

    let watched = Memories::watch(&cluster)?;
    let stop = Arc::new(AtomicBool::new(false));
    let splitting = tokio::spawn(split_on(admin.clone(), stop.clone()));
    let begun = Instant::now();
    let mut told = Told::default();
    let mut pages = 0;
    while pages == 0 || told.next_cursor.is_some() {
        read_page(&client, &mut told).await?;
        pages += 1;
    }
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    let splits = splitting.await.context("the splitting task")??;
    println!(
        "{} keys in {pages} streams, {took:.1?}, beside {splits} splits",
        told.rows
    );
    let extras = watched.extra_mib();
    println!("extra memory, MiB: {extras:?}");
    ensure!(told.rows == KEYS, "{} of {KEYS} keys", told.rows);
    ensure!(splits > 0, "no range was split");
    ensure!(
        extras.iter().all(|(_, extra)| *extra < MAX_EXTRA_MIB),
        "{extras:?} MiB"
    );
    cluster.assert_no_errors()
}
