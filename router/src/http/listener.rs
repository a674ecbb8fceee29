//! Accepting clients, within bounds, until shutdown: a task a connection, which parses, serves and answers.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Front;
use super::guarded::{Activity, Guarded, Patience};
use crate::metrics::Rejection;

/// Most bytes of a request's line and headers; more is answered with 431. A key may take three times 4 KiB, the bounds of a
/// scan twice that and its cursor as much again.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Most bytes that a connection buffers in either direction.
const MAX_BUFFER_BYTES: usize = 128 * 1024;

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
    listener: TcpListener,
    front: Arc<Front>,
    manners: Manners,
    shutdown: CancellationToken,
) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) if connections.len() < manners.max_connections => {
                let (front, shutdown) = (front.clone(), shutdown.clone());
                connections.spawn(cut.clone().run_until_cancelled_owned(async move {
                    let _open = front.metrics.connected();
                    connection(socket, &front, manners.patience, shutdown).await;
                }));
            }
            Ok((socket, _)) => {
                front.metrics.rejected(Rejection::Connections);
                // A fresh socket has room for it, or the client goes without.
                let _ = socket.try_write(NO_PLACE);
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
}

async fn connection(socket: TcpStream, front: &Arc<Front>, patience: Patience, shutdown: CancellationToken) {
    if let Err(error) = socket.set_nodelay(true) {
        return tracing::debug!(%error, "a client left before it was served");
    }
    let activity = Arc::new(Activity::default());
    let io = TokioIo::new(Guarded::new(socket, activity.clone(), patience));
    let service = service_fn(|request| {
        let (front, activity) = (front.clone(), activity.clone());
        async move { Ok::<_, Infallible>(front.serve(request, &activity).await) }
    });
    // No `pipeline_flush`: with it hyper never writes an answer to headers that it refuses (hyper 1.12).
    let connection = http1::Builder::new()
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(MAX_BUFFER_BYTES)
        .header_read_timeout(None)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended early");
    }
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
