//! Accepting clients, within bounds, until shutdown: a task a connection, which parses, serves and answers. A client speaks
//! HTTP/1.1, or HTTP/2 from its first byte on ("prior knowledge"); requests of the latter have a task each.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::tls::listener::{Accepted, Listener};
use holdfast_common::tls::socket::Socket;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Front;
use super::body::Body;
use super::guarded::{Activity, Caller, Guarded, Patience};
use crate::metrics::Rejection;

/// Most bytes of a request's line and headers; more is answered with 431. A key may take three times 4 KiB, the bounds of a
/// scan twice that and its cursor as much again.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Most bytes that a connection buffers in either direction.
const MAX_BUFFER_BYTES: usize = 128 * 1024;

/// Most requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 128;

/// Bytes of a body that an HTTP/2 client may send ahead of its being read: of one request, and of all on a connection.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What a client is told that finds every place taken.
const NO_PLACE: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

/// How clients are treated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manners {
    /// Most connections at a time; further ones are told to come back.
    pub max_connections: usize,
    /// How long a client is waited for.
    pub patience: Patience,
    /// How long requests in flight have to finish after shutdown began.
    pub grace: Duration,
}

/// Serves clients until `shutdown`, then finishes the requests in flight and returns.
pub(crate) async fn serve(
    mut listener: Listener,
    front: Arc<Front>,
    manners: Manners,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let streams = Streams {
        tasks: TaskTracker::new(),
        cut: cut.clone(),
    };
    let shared = Shared {
        front,
        patience: manners.patience,
        shutdown: shutdown.clone(),
        streams: streams.clone(),
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(Accepted {
                socket,
                addr,
                identity,
            }) if connections.len() < manners.max_connections => {
                let caller = Caller { addr, identity };
                let shared = shared.clone();
                connections.spawn(cut.clone().run_until_cancelled_owned(async move {
                    let _open = shared.front.metrics.connected();
                    connection(socket, caller, shared.clone()).await;
                }));
            }
            Ok(Accepted { socket, .. }) => {
                shared.front.metrics.rejected(Rejection::Connections);
                if let Socket::Plain(socket) = socket {
                    // A fresh socket has room for it, or the client goes without.
                    let _ = socket.try_write(NO_PLACE);
                }
            }
            Err(error) => pause_after(&error).await,
        }
    }
    drop(listener);
    connections.close();
    if clock::timeout(manners.grace, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "cutting connections that did not finish in time"
        );
        cut.cancel();
        connections.wait().await;
    }
    // What an HTTP/2 client asked for before it left.
    streams.tasks.close();
    cut.cancel();
    streams.tasks.wait().await;
}

/// What the connections of a listener share.
#[derive(Clone)]
struct Shared {
    front: Arc<Front>,
    patience: Patience,
    shutdown: CancellationToken,
    streams: Streams,
}

/// Runs the requests of HTTP/2 connections, which are served side by side.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let cut = self.cut.clone();
        self.tasks
            .spawn(async move { cut.run_until_cancelled_owned(stream).await });
    }
}

async fn connection(socket: Socket, caller: Caller, shared: Shared) {
    if let Err(error) = socket.set_nodelay() {
        return tracing::debug!(%error, "a client left before it was served");
    }
    let activity = Arc::new(Activity::of(caller));
    let mut socket = Guarded::new(socket, activity.clone(), shared.patience);
    // Whoever has sent nothing is waiting for nothing.
    let Some(begun) = shared.shutdown.run_until_cancelled(socket.speaks_http2()).await else {
        return;
    };
    let ended = match begun {
        Ok(true) => http2(socket, activity, &shared).await,
        Ok(false) => http1(socket, activity, &shared).await,
        Err(error) => return tracing::debug!(%error, "a client sent no request"),
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended early");
    }
}

async fn http1(socket: Guarded, activity: Arc<Activity>, shared: &Shared) -> hyper::Result<()> {
    // No `pipeline_flush`: with it hyper never writes an answer to headers that it refuses (hyper 1.12).
    let connection = http1::Builder::new()
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES)
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(socket), service(activity, shared));
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shared.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

async fn http2(socket: Guarded, activity: Arc<Activity>, shared: &Shared) -> hyper::Result<()> {
    // A request is handed on several times until it has a task: a box is cheaper to hand on than what is in it.
    let service = service(activity, shared);
    let service = service_fn(move |request| Box::pin(service.call(request)));
    let connection = http2::Builder::new(shared.streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .max_send_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shared.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

fn service(
    activity: Arc<Activity>,
    shared: &Shared,
) -> impl Service<Request<Incoming>, Response = Response<Body>, Error = Infallible, Future: Send> + use<> {
    let front = shared.front.clone();
    service_fn(move |request| {
        let (front, activity) = (front.clone(), activity.clone());
        async move { Ok::<_, Infallible>(front.serve(request, &activity).await) }
    })
}

/// Most errors of `accept` concern the one connection that failed. Running out of descriptors does not pass by itself, and
/// accepting again at once would spin.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    ) {
        clock::sleep(Duration::from_millis(50)).await;
    }
}
