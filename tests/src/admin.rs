//! The placement driver's HTTP API, as a test speaks it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::transport::Transport;

/// How long the driver may take to hear of both halves of a split.
const KNOWN_WITHIN: Duration = Duration::from_secs(10);

/// A range, as far as tests look at it.
#[derive(Clone, Debug, Deserialize)]
pub struct Range {
    /// Its id.
    pub id: u64,
    /// Its first key; empty for the start of the key space.
    pub start: String,
    /// Behind its last key; empty for the end of the key space.
    pub end: String,
    /// Its replicas.
    pub replicas: Vec<Replica>,
    /// The store that leads it, if known.
    pub leader_store: Option<u64>,
}

/// A replica.
#[derive(Clone, Debug, Deserialize)]
pub struct Replica {
    /// Its store.
    pub store_id: u64,
    /// voter, learner or outgoing.
    pub role: String,
}

impl Range {
    /// The stores of its voters, in order.
    pub fn voters(&self) -> Vec<u64> {
        let mut stores: Vec<u64> = self
            .replicas
            .iter()
            .filter(|replica| replica.role == "voter")
            .map(|replica| replica.store_id)
            .collect();
        stores.sort();
        stores
    }
}

/// A client of one placement member.
#[derive(Clone)]
pub struct Admin {
    base: String,
    http: reqwest::Client,
    transport: Transport,
}

impl Admin {
    /// For this address, `http://HOST:PORT`.
    pub fn new(base: String) -> Self {
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(60))
            .no_proxy()
            .build()
            .unwrap_or_default();
        Self::speaking(base, http)
    }

    /// The same, speaking as this client does.
    pub(crate) fn speaking(base: String, http: reqwest::Client) -> Self {
        let transport = Transport::default();
        Self {
            base,
            http,
            transport,
        }
    }

    /// `/v1/cluster`.
    pub async fn cluster(&self) -> anyhow::Result<Value> {
        self.get("/v1/cluster").await
    }

    /// Every range, in key order.
    pub async fn ranges(&self) -> anyhow::Result<Vec<Range>> {
        let (mut ranges, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = self.get(&format!("/v1/ranges?limit=500{cursor}")).await?;
            ranges.extend(serde_json::from_value::<Vec<Range>>(page["items"].clone())?);
            match page["next_cursor"].as_str() {
                Some(next) => {
                    cursor = format!("&cursor={}", percent_encode(next.as_bytes(), NON_ALPHANUMERIC))
                }
                None => return Ok(ranges),
            }
        }
    }

    /// The range that holds a key. While a range is being split or merged the driver may know of none for a moment: the parts are
    /// reported by whoever leads them.
    pub async fn range_of(&self, key: &str) -> anyhow::Result<Range> {
        let key = percent_encode(key.as_bytes(), NON_ALPHANUMERIC);
        let path = format!("/v1/ranges?key={key}");
        let deadline = Instant::now() + KNOWN_WITHIN;
        loop {
            let page = self.get(&path).await?;
            if let Some(range) = page["items"].get(0) {
                return Ok(serde_json::from_value(range.clone())?);
            }
            ensure!(Instant::now() < deadline, "no range is known for {path}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The store that leads most ranges.
    pub async fn busiest_store(&self) -> anyhow::Result<u64> {
        let mut led: BTreeMap<u64, usize> = BTreeMap::new();
        for store in self.ranges().await?.iter().filter_map(|range| range.leader_store) {
            *led.entry(store).or_default() += 1;
        }
        let busiest = led.into_iter().max_by_key(|(_, ranges)| *ranges);
        busiest.map(|(store, _)| store).context("no range has a leader")
    }

    /// Splits at a key and waits for the end.
    pub async fn split(&self, key: &str) -> anyhow::Result<Value> {
        self.change("/v1/ranges/split", json!({"key": key})).await
    }

    /// Moves a replica and waits for the end.
    pub async fn move_replica(&self, range: u64, from: u64, to: u64) -> anyhow::Result<Value> {
        self.change(
            &format!("/v1/ranges/{range}/move"),
            json!({"from_store": from, "to_store": to}),
        )
        .await
    }

    /// Hands a leadership over and waits for the end.
    pub async fn transfer_leader(&self, range: u64, to: u64) -> anyhow::Result<Value> {
        self.change(
            &format!("/v1/ranges/{range}/transfer-leader"),
            json!({"to_store": to}),
        )
        .await
    }

    /// POSTs a change, waits for its operator, and fails unless that is done.
    pub async fn change(&self, path: &str, body: Value) -> anyhow::Result<Value> {
        let request = self.http.post(format!("{}{path}?wait=true", self.base));
        let answer = self.transport.send(request.json(&body)).await?;
        let (status, text) = (answer.status, answer.text());
        ensure!(status.is_success(), "{path} {body}: {status}: {text}");
        let operator: Value = serde_json::from_str(&text)?;
        ensure!(operator["state"] == "done", "{path} {body}: {operator}");
        Ok(operator)
    }

    /// Leaves the placing of replicas and leaderships to the test, and waits until nothing is under way.
    pub async fn place_by_hand(&self) -> anyhow::Result<()> {
        let off = json!({
            "balance": false, "balance_leaders": false, "hot": false, "merge": false, "split_by_load": false
        });
        self.configure(json!({ "schedulers": off })).await?;
        self.until("nothing is under way", Duration::from_secs(30), async || {
            let operators = self.get("/v1/operators?limit=100").await?;
            let operators = operators["items"].as_array().cloned().unwrap_or_default();
            Ok(operators.iter().all(|operator| operator["state"] != "running"))
        })
        .await
    }

    /// Changes live settings.
    pub async fn configure(&self, patch: Value) -> anyhow::Result<()> {
        let url = format!("{}/v1/config", self.base);
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let request = self.http.patch(&url).json(&patch);
            let answer = self.transport.send(request).await?;
            let (status, text) = (answer.status, answer.text());
            if status.is_success() {
                return Ok(());
            }
            // While no member leads, nothing is taken, and nothing is lost by asking again.
            let again = status == StatusCode::SERVICE_UNAVAILABLE && Instant::now() < deadline;
            ensure!(again, "{patch}: {status}: {text}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// POSTs without a body; the status and what was answered.
    pub async fn post(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        self.post_json(path, &json!({})).await
    }

    /// POSTs a body; the status and what was answered.
    pub async fn post_json(&self, path: &str, body: &Value) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}{path}", self.base);
        let answer = self.transport.send(self.http.post(url).json(body)).await?;
        Ok((answer.status.as_u16(), serde_json::from_slice(&answer.body)?))
    }

    /// Asks until it is so.
    pub async fn until(
        &self,
        what: &str,
        within: Duration,
        mut is_so: impl AsyncFnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        while !is_so().await? {
            ensure!(Instant::now() < deadline, "after {within:?}: not so: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// GETs JSON.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let request = self.http.get(format!("{}{path}", self.base));
        let answer = self.transport.send(request).await?;
        let (status, text) = (answer.status, answer.text());
        ensure!(status.is_success(), "{path}: {status}: {text}");
        serde_json::from_str(&text).context(text)
    }

    /// Waits until every range has `voters` voters and a leader, and returns the ranges.
    pub async fn settled(&self, voters: usize, within: Duration) -> anyhow::Result<Vec<Range>> {
        let deadline = Instant::now() + within;
        loop {
            if let Ok(ranges) = self.ranges().await {
                let settled = |range: &Range| {
                    range.voters().len() == voters
                        && range.replicas.len() == voters
                        && range.leader_store.is_some()
                };
                if !ranges.is_empty() && ranges.iter().all(settled) && check_tiling(&ranges).is_ok() {
                    return Ok(ranges);
                }
                ensure!(
                    Instant::now() < deadline,
                    "ranges have not settled within {within:?}: {ranges:#?}"
                );
            }
            ensure!(
                Instant::now() < deadline,
                "the placement driver has not answered within {within:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Fails unless the ranges cover the key space without gap or overlap.
pub fn check_tiling(ranges: &[Range]) -> anyhow::Result<()> {
    let mut expected = "";
    for (index, range) in ranges.iter().enumerate() {
        ensure!(
            range.start == expected,
            "range {} begins at {:?}, expected {expected:?}",
            range.id,
            range.start
        );
        if range.end.is_empty() && index + 1 < ranges.len() {
            bail!("range {} ends the key space, but more follow", range.id);
        }
        expected = &range.end;
    }
    ensure!(expected.is_empty(), "the last range ends at {expected:?}");
    Ok(())
}
