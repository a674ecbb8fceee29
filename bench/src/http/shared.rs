//! A connection that several clients share: HTTP/2, each request a stream of its own.
//!
//! What is ready at once goes out in one write, and answers that came together are read together: per request both sides make a
//! fraction of the system calls that a connection for each client takes.

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::{HeaderValue, Method, Request, header};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    connection::RequestError,
    endpoint::{Endpoint, Stream},
};

/// Bytes of one answer, and of all on a connection, that the server may send ahead of their being read.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// A client's share of an HTTP/2 connection.
#[derive(Clone)]
pub struct Share {
    sender: SendRequest<Bytes>,
    endpoint: Arc<Endpoint>,
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({:?})", self.endpoint)
    }
}

impl Share {
    /// Dials `endpoint`, which must speak HTTP/2. The connection lives on the runtime that this is called on, until its last
    /// share is dropped or it fails.
    ///
    /// # Errors
    /// Nobody answers there, or not in HTTP/2.
    pub async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let sender = match endpoint.dial_http2().await? {
            Stream::Plain(stream) => handshake(stream).await,
            Stream::Secured(stream) => handshake(*stream).await,
        };
        Ok(Self {
            sender: sender.map_err(|error| {
                error
                    .into_io()
                    .unwrap_or_else(|| io::ErrorKind::InvalidData.into())
            })?,
            endpoint: Arc::new(endpoint.clone()),
        })
    }

    /// Sends one request and waits for its whole answer, whose status it returns. `target` is the path and query, already
    /// percent-encoded. Whoever stops waiting takes the request back; the others on the connection notice nothing.
    ///
    /// # Errors
    /// There was no answer; then the connection may be of no further use to anybody. [`RequestError::NotSent`]: the server
    /// was not asked, as the connection had ended.
    pub async fn request(
        &mut self,
        method: &Method,
        target: &[&str],
        body: Option<&[u8]>,
    ) -> Result<u16, RequestError> {
        let request = self.encode(method, target, body)?;
        let ready = self.sender.clone().ready().await;
        let mut sender = ready.map_err(|_| RequestError::NotSent)?;
        let answer = match body {
            None => sender.send_request(request, true)?.0,
            Some(body) => {
                let (answer, mut stream) = sender.send_request(request, false)?;
                // The connection holds what the server has no room for yet.
                stream.send_data(Bytes::copy_from_slice(body), true)?;
                answer
            }
        };
        status(answer).await
    }

    fn encode(
        &self,
        method: &Method,
        target: &[&str],
        body: Option<&[u8]>,
    ) -> Result<Request<()>, RequestError> {
        let mut uri = String::with_capacity(96);
        uri.push_str(self.endpoint.origin());
        uri.extend(target.iter().copied());
        let mut request = Request::builder().method(method.clone()).uri(uri);
        if let Some(token) = self.endpoint.authorization() {
            request = request.header(header::AUTHORIZATION, token.clone());
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        }
        request.body(()).map_err(|_| RequestError::Unsendable)
    }
}

/// Begins HTTP/2 on a socket and has the runtime carry it.
async fn handshake<S>(stream: S) -> Result<SendRequest<Bytes>, h2::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake(stream)
        .await?;
    // How it ends is told to each request under way.
    tokio::spawn(connection);
    Ok(sender)
}

async fn status(answer: ResponseFuture) -> Result<u16, RequestError> {
    let (head, mut body) = answer.await?.into_parts();
    while let Some(bytes) = body.data().await {
        let room = bytes?.len();
        body.flow_control().release_capacity(room)?;
    }
    Ok(head.status.as_u16())
}

/// A connection for several clients, dialled anew by the first of them that needs it to be.
#[derive(Debug)]
pub struct Party {
    routers: Vec<Endpoint>,
    state: Mutex<State>,
    /// Held by whoever dials.
    dialling: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// Index of the router in use.
    current: usize,
    share: Option<Share>,
    /// How often the connection was made.
    made: u64,
}

impl Party {
    /// Connects to the router numbered `first`, counted round and round.
    ///
    /// # Errors
    /// As [`Share::open`].
    pub async fn connect(routers: &[Endpoint], first: usize) -> io::Result<Self> {
        let current = first % routers.len();
        let share = Share::open(&routers[current]).await?;
        Ok(Self {
            routers: routers.to_vec(),
            state: Mutex::new(State {
                current,
                share: Some(share),
                made: 1,
            }),
            dialling: tokio::sync::Mutex::default(),
        })
    }

    /// A share of the connection, and its number, to be given back to [`Party::lost`].
    ///
    /// # Errors
    /// There was none, and dialling failed; the next to ask dials the next router.
    pub async fn join(&self) -> io::Result<(Share, u64)> {
        if let Some(share) = self.present() {
            return Ok(share);
        }
        let _turn = self.dialling.lock().await;
        if let Some(share) = self.present() {
            return Ok(share);
        }
        let router = self.routers[self.state.lock().current].clone();
        let dialled = Share::open(&router).await;
        let mut state = self.state.lock();
        match dialled {
            Ok(share) => {
                state.made += 1;
                state.share = Some(share.clone());
                Ok((share, state.made))
            }
            Err(error) => {
                state.current = (state.current + 1) % self.routers.len();
                Err(error)
            }
        }
    }

    /// Notes that connection number `made` is of no use any more, so that the next router is asked.
    pub fn lost(&self, made: u64) {
        let mut state = self.state.lock();
        if state.made == made && state.share.take().is_some() {
            state.current = (state.current + 1) % self.routers.len();
        }
    }

    fn present(&self) -> Option<(Share, u64)> {
        let state = self.state.lock();
        Some((state.share.clone()?, state.made))
    }
}
