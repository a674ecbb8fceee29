//! When the first write would succeed.

use std::time::Duration;

use reqwest::Client;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use serde_json::Value;

use holdfast_common::clock;

/// How often a member that is starting is asked.
const ASK_EVERY: Duration = Duration::from_millis(40);

/// What the launcher proves itself with once the cluster demands credentials: an admin's token, from the environment as for
/// every command.
pub(super) fn credentials() -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Ok(token) = std::env::var("HOLDFAST_TOKEN") {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Asks members how they are.
#[derive(Clone)]
pub(super) struct Probe {
    client: Client,
}

impl Probe {
    /// A prober that waits a second for each answer.
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            client: Client::builder()
                .default_headers(credentials()?)
                .timeout(Duration::from_secs(1))
                .no_proxy()
                .build()?,
        })
    }

    /// Returns once the member at `http` says that it is ready.
    pub(super) async fn ready(&self, http: &str) {
        self.until(|| async {
            self.client
                .get(format!("{http}/ready"))
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    /// Returns once a linearizable read through the router at `http` succeeds: then a write would, too. A router that asks for a
    /// credential has heard the rules of the placement driver, and more can't be told without one.
    pub(super) async fn serving(&self, http: &str) {
        self.until(|| async {
            let answer = self.client.get(format!("{http}/v1/kv/holdfast-up")).send().await;
            answer.is_ok_and(|answer| matches!(answer.status().as_u16(), 200 | 401 | 403 | 404))
        })
        .await;
    }

    /// Returns once no range has fewer replicas than it should and all placement members have a vote.
    pub(super) async fn replicated(&self, placement: &str, members: usize) {
        self.until(|| async {
            let Some(cluster) = self.json(&format!("{placement}/v1/cluster")).await else {
                return false;
            };
            let votes = |member: &&Value| matches!(member["role"].as_str(), Some("leader" | "follower"));
            let voters = cluster["members"]
                .as_array()
                .map_or(0, |members| members.iter().filter(votes).count());
            cluster["under_replicated_ranges"] == 0 && voters == members
        })
        .await;
    }

    /// The ids of the stores by name.
    pub(super) async fn store_ids(&self, placement: &str) -> Vec<(String, u64)> {
        let stores = self
            .json(&format!("{placement}/v1/stores?limit=1000"))
            .await
            .unwrap_or_default();
        let items = stores["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .filter_map(|store| Some((store["name"].as_str()?.to_owned(), store["id"].as_u64()?)))
            .collect()
    }

    async fn json(&self, url: &str) -> Option<Value> {
        self.client
            .get(url)
            .send()
            .await
            .ok()?
            .error_for_status()
            .ok()?
            .json()
            .await
            .ok()
    }

    async fn until<F: Future<Output = bool>>(&self, mut holds: impl FnMut() -> F) {
        while !holds().await {
            clock::sleep(ASK_EVERY).await;
        }
    }
}
