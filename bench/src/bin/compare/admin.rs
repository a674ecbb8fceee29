//! JSON requests to a cluster's HTTP interfaces, for setting it up.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use holdfast_bench::http::{Connection, Endpoint};
use serde_json::Value;

/// How long one request may take: a split or a transfer is waited for.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts at a change that a cluster just started may refuse at first.
const ATTEMPTS: u32 = 40;
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// One HTTP interface.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admin(pub(crate) SocketAddr);

impl Admin {
    /// The status of a GET; an error if there is no answer.
    pub(crate) async fn status(self, path: &str) -> anyhow::Result<u16> {
        Ok(self.send("GET", path, None).await?.0)
    }

    /// The answer to a GET that must succeed.
    pub(crate) async fn get(self, path: &str) -> anyhow::Result<Value> {
        match self.send("GET", path, None).await? {
            (200, body) => serde_json::from_slice(&body).with_context(|| format!("GET {path}: not JSON")),
            (status, body) => bail!("GET {path}: {status} {}", String::from_utf8_lossy(&body)),
        }
    }

    /// A POST that must succeed in the end.
    pub(crate) async fn post(self, path: &str, body: &Value) -> anyhow::Result<()> {
        self.insist("POST", path, body).await
    }

    /// A PATCH that must succeed in the end.
    pub(crate) async fn patch(self, path: &str, body: &Value) -> anyhow::Result<()> {
        self.insist("PATCH", path, body).await
    }

    async fn insist(self, method: &str, path: &str, body: &Value) -> anyhow::Result<()> {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            match self.send(method, path, Some(body)).await {
                Ok((200..=299, _)) => return Ok(()),
                Ok((status, body)) => last = format!("{status} {}", String::from_utf8_lossy(&body)),
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        bail!("{method} {path} {body}: {last}");
    }

    async fn send(self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Vec<u8>)> {
        let exchange = async {
            let body = body.map(serde_json::to_vec).transpose()?;
            let mut connection = Connection::open(&Endpoint::plain(self.0)).await?;
            let response = connection.request(method, &[path], body.as_deref()).await?;
            anyhow::Ok((response.status, response.body.to_vec()))
        };
        let answer = tokio::time::timeout(TIMEOUT, exchange)
            .await
            .context("no answer in time")
            .flatten();
        answer.with_context(|| format!("{method} http://{}{path}", self.0))
    }
}
