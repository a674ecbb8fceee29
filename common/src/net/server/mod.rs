//! The serving side: a listener, a task that reads for each connection, and a [`Service`] that answers.

mod conn;
mod reply;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::net::tcp::TcpListener;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::reply::{Closed, Reply, StreamReply, TrySendError};
use super::conn::KeepAlive;
use super::hello::{ClusterIdCell, PeerInfo};
use crate::clock::{self, Instant};
use crate::net::hello::Role;
use crate::tls::Tls;

/// Names a connection of a server; never reused by that server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The connection it came by.
    pub conn: ConnId,
    /// Who is at the other end.
    pub peer: Arc<PeerInfo>,
    /// Which operation.
    pub method: u16,
    /// When the caller stops waiting. For a stream: until it must have begun.
    pub deadline: Option<Instant>,
    /// The operation's arguments. A slice of a read buffer: copy what is kept for long.
    pub body: Bytes,
}

/// What a server answers with. The methods are called on the task that reads the connection, in the order of the
/// frames, and must not block: what takes time goes elsewhere with the [`Reply`].
pub trait Service: Send + Sync + 'static {
    /// Takes a request, and answers through `reply`, now or later, from any thread.
    fn call(&self, request: Request, reply: Reply);

    /// All requests of one socket read were handed to [`call`](Self::call): the place to do at once what arrived
    /// together.
    fn flush(&self, conn: ConnId) {
        let _ = conn;
    }

    /// The connection is gone; nothing more comes of it, and answers on it go nowhere. Called once.
    fn closed(&self, conn: ConnId) {
        let _ = conn;
    }
}

/// How a server treats its peers. [`ServerConfig::new`] gives the usual bounds.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// How this process introduces itself.
    pub identity: PeerInfo,
    /// This process's cluster.
    pub cluster: ClusterIdCell,
    /// Whether peers that don't know their cluster yet may connect, as joining processes must at the placement driver.
    pub accept_unknown_cluster: bool,
    /// Most connections; more are closed at once.
    pub max_connections: usize,
    /// Time a new connection has to introduce itself.
    pub hello_timeout: Duration,
    /// Most requests of one connection that wait for an answer; more are refused as overload.
    pub max_requests: usize,
    /// Most bytes of such requests' bodies; one request is taken however large.
    pub max_request_bytes: usize,
    /// Most streams open on one connection; more are refused as overload.
    pub max_streams: usize,
    /// Bytes waiting for the socket from which on streams wait.
    pub stream_bound: usize,
    /// Bytes waiting for the socket at which the peer is disconnected for not reading.
    pub outbound_bound: usize,
    /// How dead peers are noticed.
    pub keep_alive: KeepAlive,
    /// Time that requests in flight have to finish when the server shuts down.
    pub grace: Duration,
    /// Encrypts, and proves who both sides are; none for plain text.
    pub tls: Option<Tls>,
    /// Which methods a peer of a role may call, once it has proved its role: in plain text roles are claims, and nothing is
    /// gained by holding somebody to a claim.
    pub permits: fn(Role, u16) -> bool,
}

impl ServerConfig {
    /// The usual bounds: 4,096 connections, each with 65,536 requests of 64 MiB and 4,096 streams in flight; 1 MiB
    /// waiting for the socket stops streams, 64 MiB ends the connection.
    pub fn new(identity: PeerInfo, cluster: ClusterIdCell) -> Self {
        Self {
            identity,
            cluster,
            accept_unknown_cluster: false,
            max_connections: 4_096,
            hello_timeout: Duration::from_secs(5),
            max_requests: 65_536,
            max_request_bytes: 64 << 20,
            max_streams: 4_096,
            stream_bound: 1 << 20,
            outbound_bound: 64 << 20,
            keep_alive: KeepAlive::default(),
            grace: Duration::from_secs(5),
            tls: None,
            permits: |_, _| true,
        }
    }
}

/// A bound server. [`Server::serve`] makes it answer.
pub struct Server {
    listener: TcpListener,
    context: Arc<Context>,
}

/// What all connections of a server share.
struct Context {
    config: ServerConfig,
    service: Arc<dyn Service>,
}

impl Server {
    /// Takes the port. Peers can connect from here on; they are answered once [`serve`](Self::serve) runs.
    ///
    /// # Errors
    /// The address can't be bound.
    pub async fn bind(addr: &str, config: ServerConfig, service: Arc<dyn Service>) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        Ok(Self {
            listener,
            context: Arc::new(Context { config, service }),
        })
    }

    /// Where the server listens; tells the port when it was bound to port 0.
    ///
    /// # Errors
    /// The operating system doesn't say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Accepts connections until `shutdown`. Then it stops listening, tells the peers goodbye, refuses new requests,
    /// gives those in flight [`ServerConfig::grace`] to finish, and returns when every connection is closed. Dropping
    /// the future does the same, unattended.
    pub async fn serve(self, shutdown: CancellationToken) {
        let stopping = shutdown.child_token();
        let _stop_when_dropped = stopping.clone().drop_guard();
        let connections = TaskTracker::new();
        let mut next_id = 0;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopping.cancelled() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, addr)) if connections.len() < self.context.config.max_connections => {
                    next_id += 1;
                    let context = self.context.clone();
                    let stopping = stopping.clone();
                    connections.spawn(conn::run(context, ConnId(next_id), socket, addr, stopping));
                }
                Ok((_, addr)) => {
                    tracing::warn!(%addr, "connection refused: there are too many");
                }
                Err(error) => pause_after(&error).await,
            }
        }
        drop(self.listener);
        connections.close();
        connections.wait().await;
    }
}

/// Most errors of `accept` concern the one connection that failed. Running out of descriptors does not pass by
/// itself, and accepting again at once would spin.
async fn pause_after(error: &io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    if !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
    ) {
        clock::sleep(Duration::from_millis(50)).await;
    }
}
