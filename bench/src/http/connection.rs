//! One connection: a request goes out in one write, its answer comes back into a reused buffer.

use std::{io, io::Write};

use bytes::BytesMut;

use super::{
    endpoint::{Endpoint, Stream},
    response::{Malformed, frame},
};

/// Room for an answer of usual size without growing.
const RECEIVE_BYTES: usize = 8 << 10;

/// A keep-alive connection to one server. After an error it must be dropped: what it carries next is unknown.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// What every request says.
    head: Vec<u8>,
    outgoing: Vec<u8>,
    incoming: BytesMut,
    keep_alive: bool,
}

/// An answer, borrowed from the connection's buffer.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// Status code, 200 to 599.
    pub status: u16,
    /// The whole body.
    pub body: &'a [u8],
}

/// Why a request got no answer. Whether the server acted on it is unknown unless it says so.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The server closed the connection before the answer was complete.
    #[error("connection closed")]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The answer is not HTTP as spoken here.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// Bytes followed the answer that no request asked for.
    #[error("bytes after the answer")]
    Surplus,
    /// The connection had ended before the request was sent.
    #[error("the connection had ended")]
    NotSent,
    /// HTTP/2 went wrong, for this request or the whole connection.
    #[error(transparent)]
    Http2(h2::Error),
    /// What was to be asked for is no address.
    #[error("not a path")]
    Unsendable,
}

impl From<h2::Error> for RequestError {
    fn from(error: h2::Error) -> Self {
        match error.get_io().map(io::Error::kind) {
            Some(kind) => Self::Io(kind.into()),
            None if error.is_go_away() => Self::Closed,
            None => Self::Http2(error),
        }
    }
}

impl Connection {
    /// Dials `endpoint`.
    pub async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        Ok(Self {
            stream: endpoint.dial().await?,
            head: endpoint.head().to_vec(),
            outgoing: Vec::with_capacity(1024),
            incoming: BytesMut::with_capacity(RECEIVE_BYTES),
            keep_alive: true,
        })
    }

    /// Whether another request may follow the last one.
    pub fn is_reusable(&self) -> bool {
        self.keep_alive
    }

    /// Sends one request and waits for its whole answer. `target` is the path and query, already percent-encoded; a body is
    /// announced as `application/json` if it is `Some` and `method` is `POST`.
    ///
    /// The future must be polled to its end, or the connection dropped.
    pub async fn request(
        &mut self,
        method: &str,
        target: &[&str],
        body: Option<&[u8]>,
    ) -> Result<Response<'_>, RequestError> {
        self.encode(method, target, body);
        self.stream.write(&self.outgoing).await?;

        self.incoming.clear();
        self.incoming.reserve(RECEIVE_BYTES);
        let framing = loop {
            self.receive().await?;
            if let Some(framing) = frame(&self.incoming)? {
                break framing;
            }
        };
        while self.incoming.len() < framing.total_bytes() {
            self.incoming.reserve(framing.total_bytes() - self.incoming.len());
            self.receive().await?;
        }
        if self.incoming.len() > framing.total_bytes() {
            return Err(RequestError::Surplus);
        }
        self.keep_alive = framing.keep_alive;
        Ok(Response {
            status: framing.status,
            body: &self.incoming[framing.head_bytes..],
        })
    }

    fn encode(&mut self, method: &str, target: &[&str], body: Option<&[u8]>) {
        let out = &mut self.outgoing;
        out.clear();
        out.extend_from_slice(method.as_bytes());
        out.push(b' ');
        target
            .iter()
            .for_each(|part| out.extend_from_slice(part.as_bytes()));
        out.extend_from_slice(b" HTTP/1.1\r\n");
        out.extend_from_slice(&self.head);
        if method == "POST" && body.is_some() {
            out.extend_from_slice(b"\r\ncontent-type: application/json");
        }
        if let Some(body) = body {
            out.extend_from_slice(b"\r\ncontent-length: ");
            // Writing to a Vec cannot fail.
            let _ = write!(out, "{}", body.len());
        }
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(body.unwrap_or_default());
    }

    async fn receive(&mut self) -> Result<(), RequestError> {
        match self.stream.read(&mut self.incoming).await? {
            0 => Err(RequestError::Closed),
            _ => Ok(()),
        }
    }
}
