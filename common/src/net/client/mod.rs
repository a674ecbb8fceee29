//! The calling side: a pool of connections, one for each address and [`Lane`], made when first needed.

mod answers;
mod backoff;
mod conn;
mod dial;
mod link;
mod pending;
mod stream;

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::link::Link;
use self::pending::{NewCall, Outcome, Waiter};
pub use self::stream::{OpenStream, ResponseStream};
use super::conn::KeepAlive;
use super::error::{CloseReason, Error};
use super::hello::{ClusterIdCell, PeerInfo};
use crate::clock::Instant;
use crate::tls::Tls;

/// Which connection to a peer a call takes: each lane is a socket of its own, so that a snapshot on one does not
/// stand before a heartbeat on the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// For what is small and urgent.
    Fast,
    /// For what is large: snapshots, large values, long scans.
    Bulk,
}

impl Lane {
    const ALL: [Self; 2] = [Self::Fast, Self::Bulk];
}

/// How a client treats its peers.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Time to connect and to be welcomed.
    pub connect_timeout: Duration,
    /// Pause after a first failed attempt to connect; it doubles with each further one.
    pub backoff_min: Duration,
    /// Longest such pause, before up to as much again is added at random.
    pub backoff_max: Duration,
    /// Most calls and streams that wait for an answer on one connection.
    pub max_calls: usize,
    /// Bytes that wait to be sent on one connection from which on calls fail.
    pub max_queued_bytes: usize,
    /// How dead peers are noticed.
    pub keep_alive: KeepAlive,
    /// Encrypts, and proves who both sides are; none for plain text.
    pub tls: Option<Tls>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(1),
            backoff_min: Duration::from_millis(25),
            backoff_max: Duration::from_millis(500),
            max_calls: 65_536,
            max_queued_bytes: 64 << 20,
            keep_alive: KeepAlive::default(),
            tls: None,
        }
    }
}

/// What the connections of a client share.
#[derive(Debug)]
struct Shared {
    config: ClientConfig,
    cluster: ClusterIdCell,
    identity: PeerInfo,
    runtime: Handle,
    /// Cancelled when the client is closed.
    closed: CancellationToken,
}

/// Calls other processes. Clones share their connections. These stay open while a clone or a [`Peer`] is there (a call
/// or a stream alone does not keep them), until [`close`](Self::close).
#[derive(Clone, Debug)]
pub struct Client {
    pool: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    shared: Arc<Shared>,
    links: RwLock<HashMap<Arc<str>, [Arc<Link>; 2]>>,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

impl Client {
    /// A client without connections. Must be called in a tokio runtime, which carries the connections; calls may then
    /// come from any thread.
    pub fn new(config: ClientConfig, cluster: ClusterIdCell, identity: PeerInfo) -> Self {
        let (runtime, closed) = (Handle::current(), CancellationToken::new());
        let shared = Arc::new(Shared {
            config,
            cluster,
            identity,
            runtime,
            closed,
        });
        Self {
            pool: Arc::new(Pool {
                shared,
                links: RwLock::default(),
            }),
        }
    }

    /// Sends a request and answers with its response. See [`Peer::call`].
    pub fn call(&self, addr: &str, lane: Lane, method: u16, body: Bytes, deadline: Instant) -> Call {
        call_on(&self.link(addr, lane), method, body, deadline)
    }

    /// Opens a stream. See [`Peer::stream`].
    pub fn stream(
        &self,
        addr: &str,
        lane: Lane,
        method: u16,
        body: Bytes,
        open_deadline: Instant,
    ) -> OpenStream {
        stream::open(&self.link(addr, lane), method, body, open_deadline)
    }

    /// A handle on the connection to `addr`, which saves looking it up for every call. Nothing is dialed yet.
    pub fn peer(&self, addr: &str, lane: Lane) -> Peer {
        Peer {
            link: self.link(addr, lane),
            _pool: self.pool.clone(),
        }
    }

    /// Closes the connections to `addr` and forgets it. What is in flight there fails with [`Error::Lost`]. A [`Peer`]
    /// that is still around dials anew when used.
    pub fn forget(&self, addr: &str) {
        let links = self.pool.links.write().remove(addr);
        for link in links.into_iter().flatten() {
            link.disconnect();
        }
    }

    /// Closes all connections, for good. What is in flight fails with [`Error::Lost`], later calls with
    /// [`Error::Closed`].
    pub fn close(&self) {
        self.pool.shared.closed.cancel();
    }

    fn link(&self, addr: &str, lane: Lane) -> Arc<Link> {
        if let Some(links) = self.pool.links.read().get(addr) {
            return links[lane as usize].clone();
        }
        let mut links = self.pool.links.write();
        let addr: Arc<str> = addr.into();
        let of_addr = links.entry(addr.clone()).or_insert_with(|| {
            Lane::ALL.map(|lane| Arc::new(Link::new(addr.clone(), lane, self.pool.shared.clone())))
        });
        of_addr[lane as usize].clone()
    }
}

/// A peer of a [`Client`], by one [`Lane`].
#[derive(Clone, Debug)]
pub struct Peer {
    link: Arc<Link>,
    /// Keeps the connections open.
    _pool: Arc<Pool>,
}

impl Peer {
    /// The address dialed.
    pub fn addr(&self) -> &str {
        self.link.addr()
    }

    /// Who answers there, while a connection stands.
    pub fn info(&self) -> Option<Arc<PeerInfo>> {
        self.link.peer_info()
    }

    /// Sends a request and answers with its response. The request is queued now, before the future is first polled, so
    /// the order of calls is the order on the wire. Dropping the future does not take the request back.
    pub fn call(&self, method: u16, body: Bytes, deadline: Instant) -> Call {
        call_on(&self.link, method, body, deadline)
    }

    /// Like [`call`](Self::call), with a function that takes the outcome, which saves waking a task. It runs on the
    /// task that reads the connection and must not block; when the call fails at once, it runs before this returns.
    pub fn call_with<F>(&self, method: u16, body: Bytes, deadline: Instant, done: F)
    where
        F: FnOnce(Result<Bytes, Error>) + Send + 'static,
    {
        self.link.submit(NewCall {
            method,
            body,
            deadline,
            waiter: Waiter::Callback(Box::new(done)),
        });
    }

    /// Opens a stream, which the peer must have begun by `open_deadline`; after that it may take any time. The request
    /// is queued now. Dropping the future or the stream cancels it at the peer.
    pub fn stream(&self, method: u16, body: Bytes, open_deadline: Instant) -> OpenStream {
        stream::open(&self.link, method, body, open_deadline)
    }
}

fn call_on(link: &Arc<Link>, method: u16, body: Bytes, deadline: Instant) -> Call {
    let (sender, answer) = oneshot::channel();
    link.submit(NewCall {
        method,
        body,
        deadline,
        waiter: Waiter::Call(sender),
    });
    Call {
        answer,
        addr: link.addr().clone(),
    }
}

/// A call under way.
#[must_use = "the outcome of a call matters"]
#[derive(Debug)]
pub struct Call {
    answer: oneshot::Receiver<Outcome>,
    addr: Arc<str>,
}

impl Future for Call {
    type Output = Result<Bytes, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.answer).poll(context));
        // Every waiter is told its outcome; a runtime that is torn down may drop it instead.
        let lost = |_| {
            Err(Error::Lost {
                addr: self.addr.clone(),
                reason: CloseReason::Local,
            })
        };
        Poll::Ready(answer.unwrap_or_else(lost))
    }
}
