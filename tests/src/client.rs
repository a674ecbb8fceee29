//! The router's HTTP API, as a test speaks it.

use std::time::Duration;

use anyhow::{Context, ensure};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use reqwest::{Method, RequestBuilder, header};
use serde_json::Value;

use crate::transport::Transport;

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The revision in the ETag, if there is one.
    pub revision: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The problem document's code, for an answer that is a problem.
    pub fn code(&self) -> Option<String> {
        let problem: Value = serde_json::from_slice(&self.body).ok()?;
        problem["code"].as_str().map(str::to_owned)
    }
}

/// A client of one router.
#[derive(Clone)]
pub struct Client {
    base: String,
    http: reqwest::Client,
    transport: Transport,
}

impl Client {
    /// For this address, `http://HOST:PORT`.
    pub fn new(base: String) -> Self {
        // Building can only fail for TLS, which is not compiled in.
        let http = reqwest::Client::builder()
            .timeout(Duration::from_secs(30))
            .no_proxy()
            .build()
            .unwrap_or_default();
        let transport = Transport::default();
        Self {
            base,
            http,
            transport,
        }
    }

    /// The router's address.
    pub fn url(&self) -> &str {
        &self.base
    }

    /// A request for a path as it stands.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// PUT.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl Into<Vec<u8>>) -> anyhow::Result<Answer> {
        self.send(self.request(Method::PUT, &path(key)).body(value.into()))
            .await
    }

    /// PUT if the revision is this one.
    pub async fn compare_and_set(
        &self,
        key: impl AsRef<[u8]>,
        revision: u64,
        value: impl Into<Vec<u8>>,
    ) -> anyhow::Result<Answer> {
        let request = self
            .request(Method::PUT, &path(key))
            .header(header::IF_MATCH, format!("\"{revision}\""));
        self.send(request.body(value.into())).await
    }

    /// GET.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> anyhow::Result<Answer> {
        self.send(self.request(Method::GET, &path(key))).await
    }

    /// DELETE.
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> anyhow::Result<Answer> {
        self.send(self.request(Method::DELETE, &path(key))).await
    }

    /// Every row, page by page.
    pub async fn scan_everything(&self) -> anyhow::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let (mut rows, mut cursor) = (Vec::new(), String::new());
        loop {
            let answer = self
                .send(self.request(Method::GET, &format!("/v1/kv?limit=5000{cursor}")))
                .await?;
            ensure!(
                answer.status == 200,
                "scan: {} {}",
                answer.status,
                String::from_utf8_lossy(&answer.body)
            );
            let page: Value = serde_json::from_slice(&answer.body)?;
            for item in page["items"].as_array().context("no items")? {
                rows.push((field(item, "key")?, field(item, "value")?));
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(rows),
            }
        }
    }

    /// Sends a request and takes the whole answer.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        let received = self.transport.send(request).await?;
        let etag = received
            .headers
            .get(header::ETAG)
            .and_then(|etag| etag.to_str().ok());
        let revision = etag.and_then(|etag| etag.trim_matches('"').parse().ok());
        Ok(Answer {
            status: received.status.as_u16(),
            revision,
            body: received.body,
        })
    }
}

fn path(key: impl AsRef<[u8]>) -> String {
    format!("/v1/kv/{}", percent_encode(key.as_ref(), NON_ALPHANUMERIC))
}

fn field(item: &Value, name: &str) -> anyhow::Result<Vec<u8>> {
    use base64::Engine as _;
    if let Some(text) = item[name].as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let base64 = item[format!("{name}_base64")]
        .as_str()
        .with_context(|| format!("no {name}"))?;
    Ok(base64::engine::general_purpose::STANDARD.decode(base64)?)
}
