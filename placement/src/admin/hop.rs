//! A request handed on to another process, and its answer handed back as it comes.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, Version, header};
use axum::response::{IntoResponse, Response};
use holdfast_common::clock;
use holdfast_common::net::tcp::TcpStream;
use holdfast_common::tls::Tls;
use holdfast_common::tls::socket::Socket;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Headers of one hop alone.
const OF_THIS_HOP: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
];

/// What a browser says of itself and of the page that asks. This member has judged it, by a host that is another one's now.
const OF_THE_BROWSER: [&str; 3] = ["origin", "referer", "sec-fetch-site"];

/// Marks an answer of another process, which is handed back as it is.
#[derive(Clone, Copy)]
pub(super) struct Verbatim;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// It was never sent.
    #[error("{address} can't be reached: {why}")]
    Unreachable {
        /// Where to.
        address: String,
        /// Why.
        why: String,
    },
    /// It was sent, and may have taken effect.
    #[error("{address} did not answer: {why}")]
    Unanswered {
        /// Where to.
        address: String,
        /// Why.
        why: String,
    },
}

/// A connection to another process.
pub(super) struct Hop {
    address: String,
    sender: http1::SendRequest<Body>,
}

impl Hop {
    /// Connects to `address`, host and port; with TLS, to a process of the cluster alone.
    ///
    /// # Errors
    /// [`Broken::Unreachable`].
    pub(super) async fn connect(address: &str, tls: Option<&Tls>) -> Result<Self, Broken> {
        let unreachable = |error: &dyn std::fmt::Display| Broken::Unreachable {
            address: address.to_owned(),
            why: error.to_string(),
        };
        let connecting = clock::timeout(CONNECT_WITHIN, TcpStream::connect(address)).await;
        let stream = connecting
            .map_err(|error| unreachable(&error))?
            .map_err(|error| unreachable(&error))?;
        let secured = clock::timeout(CONNECT_WITHIN, Socket::connect(stream, tls)).await;
        let (stream, _) = secured
            .map_err(|error| unreachable(&error))?
            .map_err(|error| unreachable(&error))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| unreachable(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to another process broke");
            }
        });
        Ok(Self {
            address: address.to_owned(),
            sender,
        })
    }

    /// Hands the request on.
    ///
    /// # Errors
    /// [`Broken::Unanswered`].
    pub(super) async fn send(mut self, request: Request) -> Result<Response, Broken> {
        let (mut head, body) = request.into_parts();
        strip(&mut head.headers);
        for name in OF_THE_BROWSER {
            head.headers.remove(name);
        }
        // HTTP/2 has the host in it.
        if let Some(path) = head.uri.path_and_query().cloned() {
            head.uri = Uri::from(path);
        }
        if let Ok(host) = HeaderValue::from_str(&self.address) {
            head.headers.insert(header::HOST, host);
        }
        head.version = Version::HTTP_11;
        let answer = self.sender.send_request(Request::from_parts(head, body)).await;
        let broke = |error: hyper::Error| Broken::Unanswered {
            address: self.address,
            why: error.to_string(),
        };
        let mut answer = answer.map_err(broke)?.map(Body::new).into_response();
        strip(answer.headers_mut());
        answer.extensions_mut().insert(Verbatim);
        Ok(answer)
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in OF_THIS_HOP {
        headers.remove(name);
    }
}

/// The body at `path` of the process at `address`, if it answers with success and at most `most` bytes.
pub(crate) async fn fetch_text(address: &str, tls: Option<&Tls>, path: &str, most: usize) -> Option<String> {
    let hop = Hop::connect(address, tls).await.ok()?;
    let request = Request::builder().uri(path).body(Body::empty()).ok()?;
    let answer = hop
        .send(request)
        .await
        .ok()
        .filter(|answer| answer.status().is_success())?;
    let bytes = axum::body::to_bytes(answer.into_body(), most).await.ok()?;
    String::from_utf8(bytes.into()).ok()
}
