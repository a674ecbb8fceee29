//! Requests of tests on their way: over the operating system's network, or a simulated machine's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use holdfast_common::net::tcp::TcpStream;
use holdfast_common::{clock, simulation};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use reqwest::header::{HOST, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, StatusCode};

/// How long an answer is waited for in a simulation, unless the request says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer, whole.
pub(crate) struct Received {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Received {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// The request never left.
#[derive(Debug, thiserror::Error)]
#[error("not sent: {0}")]
pub(crate) struct Unsent(String);

/// Connections to be used again.
#[derive(Clone, Default)]
pub(crate) struct Transport(Arc<Mutex<Vec<SendRequest<Full<Bytes>>>>>);

impl Transport {
    /// Sends a request and takes the whole answer.
    pub(crate) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Received> {
        if simulation::is_on() {
            return self.send_simulated(request.build()?).await;
        }
        let response = request.send().await?;
        Ok(Received {
            status: response.status(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
        })
    }

    async fn send_simulated(&self, request: reqwest::Request) -> anyhow::Result<Received> {
        // A simulated machine that lost its power never ends a connection, as a real one would not.
        let patience = request.timeout().copied().unwrap_or(PATIENCE);
        let exchange = self.exchange(request);
        clock::timeout(patience, exchange)
            .await
            .context("no answer in time")?
    }

    async fn exchange(&self, request: reqwest::Request) -> anyhow::Result<Received> {
        let url = request.url().clone();
        let address = format!(
            "{}:{}",
            url.host_str().context("a host")?,
            url.port().context("a port")?
        );
        let body = request
            .body()
            .and_then(reqwest::Body::as_bytes)
            .map(Bytes::copy_from_slice);
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut wanted = http::Request::builder()
            .method(request.method().clone())
            .uri(path);
        if let Some(headers) = wanted.headers_mut() {
            headers.clone_from(request.headers());
            headers.insert(HOST, HeaderValue::from_str(&address)?);
        }
        let wanted = wanted.body(Full::new(body.unwrap_or_default()))?;
        let mut sender = self.connection(&address).await?;
        let response = sender.send_request(wanted).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        if !sender.is_closed() {
            self.0.lock().push(sender);
        }
        Ok(Received {
            status: head.status,
            headers: head.headers,
            body,
        })
    }

    async fn connection(&self, address: &str) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        loop {
            let idle = self.0.lock().pop();
            match idle {
                Some(sender) if sender.is_ready() => return Ok(sender),
                Some(_) => {}
                None => break,
            }
        }
        let unsent = |error: &dyn std::fmt::Display| Unsent(error.to_string());
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| unsent(&error))?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unsent(&error))?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}
