//! Clients and servers over real sockets, and raw sockets where one side misbehaves.

mod calls;
mod faults;
mod shutdown;
mod streams;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::frame::{Decoder, Frame, FrameHeader, FrameKind};
use super::*;
use crate::clock::{self, Instant};
use crate::ids::ClusterId;

const CLUSTER: ClusterId = ClusterId(7);
const OTHER_CLUSTER: ClusterId = ClusterId(8);

/// Answers with the body.
const ECHO: u16 = 1;
/// Hands the reply to the test.
const KEEP: u16 = 2;
/// Drops the reply.
const DROP: u16 = 3;
/// Fails with the code whose number is the body's first byte.
const FAIL: u16 = 4;
/// Opens a stream and hands it to the test.
const STREAM: u16 = 5;

/// Far enough away to be reached only by a test that hangs.
fn soon() -> Instant {
    clock::now() + Duration::from_secs(20)
}

fn identity(role: Role) -> PeerInfo {
    PeerInfo::new(role, 1, format!("{role:?}-1"))
}

/// What a [`Scripted`] service saw.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Call(ConnId, Bytes),
    Flush(ConnId),
    Closed(ConnId),
}

/// A service that does as the method says.
struct Scripted {
    seen: Mutex<Vec<Seen>>,
    requests: Mutex<Vec<Request>>,
    kept: mpsc::UnboundedSender<Reply>,
    streams: mpsc::UnboundedSender<StreamReply>,
    closed: mpsc::UnboundedSender<ConnId>,
}

impl Service for Scripted {
    fn call(&self, request: Request, reply: Reply) {
        self.seen
            .lock()
            .push(Seen::Call(request.conn, request.body.clone()));
        self.requests.lock().push(request.clone());
        match request.method {
            ECHO => reply.send(request.body),
            KEEP => drop(self.kept.send(reply)),
            DROP => drop(reply),
            FAIL => reply.fail(ErrorCode::BadRequest, "as asked"),
            STREAM => drop(self.streams.send(reply.into_stream())),
            _ => reply.fail(ErrorCode::UnknownMethod, "no such method"),
        }
    }

    fn flush(&self, conn: ConnId) {
        self.seen.lock().push(Seen::Flush(conn));
    }

    fn closed(&self, conn: ConnId) {
        self.seen.lock().push(Seen::Closed(conn));
        let _ = self.closed.send(conn);
    }
}

/// A server that runs, and the ends of its service that a test holds.
struct Running {
    addr: String,
    service: Arc<Scripted>,
    kept: mpsc::UnboundedReceiver<Reply>,
    streams: mpsc::UnboundedReceiver<StreamReply>,
    closed: mpsc::UnboundedReceiver<ConnId>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(configure: impl FnOnce(&mut ServerConfig)) -> Self {
        Self::start_at("127.0.0.1:0", configure).await
    }

    async fn start_at(addr: &str, configure: impl FnOnce(&mut ServerConfig)) -> Self {
        let (kept_sender, kept) = mpsc::unbounded_channel();
        let (streams_sender, streams) = mpsc::unbounded_channel();
        let (closed_sender, closed) = mpsc::unbounded_channel();
        let service = Arc::new(Scripted {
            seen: Mutex::default(),
            requests: Mutex::default(),
            kept: kept_sender,
            streams: streams_sender,
            closed: closed_sender,
        });
        let mut config = ServerConfig::new(identity(Role::Store), ClusterIdCell::known(CLUSTER));
        configure(&mut config);
        let server = Server::bind(addr, config, service.clone()).await.expect("a port");
        let addr = server.local_addr().expect("an address").to_string();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(server.serve(shutdown.clone()));
        Self {
            addr,
            service,
            kept,
            streams,
            closed,
            shutdown,
            task,
        }
    }

    async fn stop(self) -> String {
        self.shutdown.cancel();
        self.task.await.expect("the server ends in order");
        self.addr
    }

    async fn next_kept(&mut self) -> Reply {
        self.kept.recv().await.expect("a kept reply")
    }

    async fn next_stream(&mut self) -> StreamReply {
        self.streams.recv().await.expect("a stream")
    }

    async fn next_closed(&mut self) -> ConnId {
        self.closed.recv().await.expect("a closed connection")
    }

    /// Bodies of the calls, in the order in which the service saw them.
    fn calls(&self) -> Vec<Bytes> {
        let seen = self.service.seen.lock();
        seen.iter()
            .filter_map(|seen| {
                if let Seen::Call(_, body) = seen {
                    Some(body.clone())
                } else {
                    None
                }
            })
            .collect()
    }
}

fn client() -> Client {
    client_of(CLUSTER)
}

fn client_of(cluster: ClusterId) -> Client {
    Client::new(
        ClientConfig::default(),
        ClusterIdCell::known(cluster),
        identity(Role::Router),
    )
}

fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

/// A peer that speaks bytes.
struct Raw {
    socket: TcpStream,
    buffer: BytesMut,
}

impl Raw {
    async fn connect(addr: &str) -> Self {
        let socket = TcpStream::connect(addr).await.expect("the server listens");
        Self {
            socket,
            buffer: BytesMut::new(),
        }
    }

    /// Connects and introduces itself as a router.
    async fn greet(addr: &str) -> Self {
        let mut raw = Self::connect(addr).await;
        raw.send(FrameKind::Hello, 0, 0, identity(Role::Router).encode())
            .await;
        assert_eq!(
            raw.receive().await.expect("an answer").header.kind,
            FrameKind::Welcome
        );
        raw
    }

    async fn send(&mut self, kind: FrameKind, request_id: u64, method: u16, body: Bytes) {
        let header = FrameHeader {
            method,
            ..FrameHeader::new(kind, request_id, CLUSTER)
        };
        let mut bytes = BytesMut::new();
        Frame { header, body }.encode_into(&mut bytes);
        self.send_bytes(&bytes).await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.expect("the peer takes bytes");
    }

    /// The next frame, or none when the peer closed the connection.
    async fn receive(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = Decoder::new(MAX_BODY_BYTES)
                .decode(&mut self.buffer)
                .expect("frames")
            {
                return Some(frame);
            }
            if !matches!(self.socket.read_buf(&mut self.buffer).await, Ok(1..)) {
                return None;
            }
        }
    }
}

/// A listener that answers nothing by itself.
async fn raw_listener() -> (tokio::net::TcpListener, SocketAddr) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let addr = listener.local_addr().expect("an address");
    (listener, addr)
}

/// Accepts a client and welcomes it.
async fn welcome(listener: &tokio::net::TcpListener) -> Raw {
    let (socket, _) = listener.accept().await.expect("a client");
    let mut raw = Raw {
        socket,
        buffer: BytesMut::new(),
    };
    assert_eq!(
        raw.receive().await.expect("a hello").header.kind,
        FrameKind::Hello
    );
    raw.send(FrameKind::Welcome, 0, 0, identity(Role::Store).encode())
        .await;
    raw
}
