//! One connection of a server, from hello to goodbye.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::net::tcp::TcpStream;
use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::reply::{Flow, Reply};
use super::{ConnId, Context, Request};
use crate::clock;
use crate::net::conn::{Endpoint, FrameReader, Wire};
use crate::net::error::{CloseReason, ErrorCode};
use crate::net::frame::{Frame, FrameHeader, FrameKind};
use crate::net::hello::{PeerInfo, admit};
use crate::tls::Identity;
use crate::tls::identity::Error as IdentityError;
use crate::tls::socket::{self, Reading, Side, Socket, Writing};

/// Serves one accepted socket until either side closes it.
pub(super) async fn run(
    context: Arc<Context>,
    id: ConnId,
    socket: TcpStream,
    addr: SocketAddr,
    stopping: CancellationToken,
) {
    let entry = tokio::select! {
        biased;
        () = stopping.cancelled() => return,
        entry = clock::timeout(context.config.hello_timeout, enter(&context, socket, addr)) => entry,
    };
    let Entered {
        reader,
        writer,
        peer,
        proven,
    } = match entry {
        Ok(Ok(entered)) => entered,
        Ok(Err(GreetError::Closed(CloseReason::PeerLeft | CloseReason::Io(_)))) => {
            return tracing::debug!(%addr, "connection closed before the hello");
        }
        Ok(Err(reason)) => return tracing::warn!(%addr, %reason, "connection refused"),
        Err(_) => return tracing::debug!(%addr, "connection closed: no hello came"),
    };
    let conn = Arc::new(ServerConn::new(context, id, peer, proven));
    let session = Session(conn.clone());
    tokio::spawn(async move { conn.wire.outbound.write_to(writer).await });
    session.serve(reader, stopping).await;
}

/// A connection whose peer was let in.
struct Entered {
    reader: FrameReader<Reading>,
    writer: Writing,
    peer: Arc<PeerInfo>,
    /// Whether the peer has proved its role.
    proven: bool,
}

/// Secures the connection and exchanges hellos.
async fn enter(context: &Context, socket: TcpStream, addr: SocketAddr) -> Result<Entered, GreetError> {
    socket.set_nodelay(true).map_err(CloseReason::from)?;
    let (socket, identity) = Socket::accept(socket, context.config.tls.as_ref(), Side::Rpc).await?;
    let (reader, mut writer) = socket.split();
    let mut reader = FrameReader::new(reader);
    let peer = greet(context, &mut reader, &mut writer, (addr, identity.as_ref())).await?;
    Ok(Entered {
        reader,
        writer,
        peer,
        proven: identity.is_some(),
    })
}

/// Why a peer was not let in.
#[derive(Debug, thiserror::Error)]
enum GreetError {
    #[error(transparent)]
    Closed(#[from] CloseReason),
    #[error(transparent)]
    Insecure(#[from] socket::Error),
    #[error("{message} ({code:?})")]
    Refused { code: ErrorCode, message: String },
}

/// Reads the hello and answers it: with a welcome, or with the reason for refusing.
async fn greet<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    context: &Context,
    reader: &mut FrameReader<R>,
    writer: &mut W,
    (addr, identity): (SocketAddr, Option<&Identity>),
) -> Result<Arc<PeerInfo>, GreetError> {
    let hello = reader.next().await?;
    let verdict = judge(context, &hello, addr).and_then(|peer| prove(peer, identity));
    let (kind, body) = match &verdict {
        Ok(_) => (FrameKind::Welcome, context.config.identity.encode()),
        Err(GreetError::Refused { code, message }) => (FrameKind::Error, code.encode(message)),
        Err(GreetError::Closed(_) | GreetError::Insecure(_)) => return verdict.map(Arc::new),
    };
    let header = FrameHeader::new(kind, 0, context.config.cluster.get());
    let mut answer = BytesMut::new();
    Frame { header, body }.encode_into(&mut answer);
    writer.write_all(&answer).await.map_err(CloseReason::from)?;
    reader.trust();
    verdict.map(Arc::new)
}

fn judge(context: &Context, hello: &Frame, addr: SocketAddr) -> Result<PeerInfo, GreetError> {
    if hello.header.kind != FrameKind::Hello {
        return Err(CloseReason::Unexpected("the first frame is no hello").into());
    }
    let (ours, theirs) = (context.config.cluster.get(), hello.header.cluster_id);
    let peer = PeerInfo::decode(&hello.body, theirs, Some(addr)).map_err(|error| GreetError::Refused {
        code: ErrorCode::BadHello,
        message: error.to_string(),
    })?;
    admit(ours, theirs, context.config.accept_unknown_cluster).map_err(|code| GreetError::Refused {
        code,
        message: format!(
            "{:?} {:?} is of cluster {theirs}, this process of {ours}",
            peer.role, peer.name
        ),
    })?;
    Ok(peer)
}

/// Holds a peer to its certificate, where it has shown one.
fn prove(peer: PeerInfo, identity: Option<&Identity>) -> Result<PeerInfo, GreetError> {
    let refused = |error: IdentityError| GreetError::Refused {
        code: ErrorCode::Forbidden,
        message: error.to_string(),
    };
    if let Some(identity) = identity {
        identity
            .check_claim(peer.role, &peer.name, peer.cluster_id)
            .map_err(refused)?;
    }
    Ok(peer)
}

/// The serving side of one connection.
pub(super) struct ServerConn {
    pub(super) wire: Wire,
    id: ConnId,
    peer: Arc<PeerInfo>,
    context: Arc<Context>,
    /// Requests without an answer yet, and the bytes of their bodies.
    requests: AtomicUsize,
    request_bytes: AtomicUsize,
    streams: Mutex<HashMap<u64, Arc<Flow>>>,
    /// Set when the server shuts down: no new requests.
    leaving: AtomicBool,
    proven: bool,
}

impl ServerConn {
    fn new(context: Arc<Context>, id: ConnId, peer: Arc<PeerInfo>, proven: bool) -> Self {
        let config = &context.config;
        Self {
            wire: Wire::new(config.cluster.clone(), config.stream_bound, config.outbound_bound),
            id,
            peer,
            requests: AtomicUsize::new(0),
            request_bytes: AtomicUsize::new(0),
            streams: Mutex::default(),
            leaving: AtomicBool::new(false),
            proven,
            context,
        }
    }

    /// A request of `bytes` was answered.
    pub(super) fn request_done(&self, bytes: usize) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        self.request_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Makes a stream known, so that its reader can grant and cancel.
    pub(super) fn open_stream(
        &self,
        request_id: u64,
        flow: &Arc<Flow>,
    ) -> Result<(), (ErrorCode, &'static str)> {
        let mut streams = self.streams.lock();
        // Both are checked under the lock that whoever ends all streams takes after setting them.
        if self.leaving.load(Ordering::Acquire) || self.wire.outbound.closed().is_cancelled() {
            return Err((ErrorCode::Abandoned, "the server is shutting down"));
        }
        if streams.len() >= self.context.config.max_streams {
            return Err((ErrorCode::Overloaded, "too many streams on this connection"));
        }
        if let Some(replaced) = streams.insert(request_id, flow.clone()) {
            replaced.close();
        }
        Ok(())
    }

    /// The stream has ended on this side.
    pub(super) fn forget_stream(&self, request_id: u64) {
        self.streams.lock().remove(&request_id);
    }

    /// Whether a request may be handed to the service.
    fn admit_request(&self, header: &FrameHeader, body_len: usize) -> Result<(), (ErrorCode, String)> {
        let config = &self.context.config;
        let ours = config.cluster.get();
        admit(ours, header.cluster_id, config.accept_unknown_cluster).map_err(|code| {
            (
                code,
                format!("request of cluster {} at one of {ours}", header.cluster_id),
            )
        })?;
        if self.leaving.load(Ordering::Acquire) {
            return Err((ErrorCode::ShuttingDown, "the server is shutting down".to_owned()));
        }
        if self.proven && !(config.permits)(self.peer.role, header.method) {
            let (role, name, method) = (self.peer.role, &self.peer.name, header.method);
            tracing::warn!(?role, name, method, addr = ?self.peer.addr, "request refused: the role may not make it");
            let message = format!("a {role:?} may not call method {method:#06x} here");
            return Err((ErrorCode::Forbidden, message));
        }
        let requests = self.requests.load(Ordering::Relaxed);
        let bytes = self.request_bytes.load(Ordering::Relaxed);
        let fits = requests == 0 || bytes + body_len <= config.max_request_bytes;
        if requests >= config.max_requests || !fits {
            let message = format!("{requests} requests of {bytes} bytes are in flight on this connection");
            return Err((ErrorCode::Overloaded, message));
        }
        Ok(())
    }

    fn request(self: &Arc<Self>, frame: Frame) {
        let Frame { header, body } = frame;
        if let Err((code, message)) = self.admit_request(&header, body.len()) {
            return self
                .wire
                .push(FrameKind::Error, header.request_id, code.encode(&message));
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.request_bytes.fetch_add(body.len(), Ordering::Relaxed);
        let left = Duration::from_millis(u64::from(header.deadline_ms));
        let reply = Reply::new(self.clone(), header.request_id, body.len());
        let request = Request {
            conn: self.id,
            peer: self.peer.clone(),
            method: header.method,
            deadline: (!left.is_zero()).then(|| clock::now() + left),
            body,
        };
        self.context.service.call(request, reply);
    }

    fn credit(&self, request_id: u64, mut body: &[u8]) -> Result<(), CloseReason> {
        let bytes = body
            .try_get_u32()
            .map_err(|_| CloseReason::Unexpected("a credit without an amount"))?;
        if let Some(flow) = self.streams.lock().get(&request_id) {
            flow.grant(bytes);
        }
        Ok(())
    }

    /// Tells the peer that the server is leaving and ends its streams. Requests in flight go on.
    fn say_goodbye(&self) {
        self.leaving.store(true, Ordering::Release);
        let streams = std::mem::take(&mut *self.streams.lock());
        for (request_id, flow) in streams {
            if flow.close() {
                let body = ErrorCode::Abandoned.encode("the server is shutting down");
                self.wire.push(FrameKind::Error, request_id, body);
            }
        }
        self.wire.push(FrameKind::Goodbye, 0, Bytes::new());
    }
}

impl fmt::Debug for ServerConn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConn")
            .field("id", &self.id)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// A connection being served. Dropped, it ends the connection's streams and tells the service, however it came to
/// its end.
struct Session(Arc<ServerConn>);

impl Session {
    /// Reads until the peer leaves, breaks the protocol or falls silent, or until the server has shut down.
    async fn serve<R: AsyncRead + Unpin>(&self, mut reader: FrameReader<R>, stopping: CancellationToken) {
        let conn = &self.0;
        let config = &conn.context.config;
        let leave = async {
            stopping.cancelled().await;
            conn.say_goodbye();
            // The peer closes when it has all its answers.
            clock::sleep(config.grace).await;
        };
        let reason = tokio::select! {
            biased;
            reason = conn.wire.read_frames(&mut reader, self) => reason,
            () = conn.wire.outbound.closed().cancelled() => {
                conn.wire.outbound.close_reason().unwrap_or(CloseReason::Local)
            }
            reason = conn.wire.keep_alive(config.keep_alive) => reason,
            () = leave => CloseReason::Local,
        };
        let peer = &conn.peer;
        if reason.is_violation() {
            tracing::warn!(role = ?peer.role, name = peer.name, addr = ?peer.addr, %reason, "connection closed");
        } else {
            tracing::debug!(role = ?peer.role, name = peer.name, addr = ?peer.addr, %reason, "connection closed");
        }
        conn.wire.outbound.close(reason);
    }
}

impl Endpoint for Session {
    fn frame(&self, frame: Frame) -> Result<(), CloseReason> {
        let request_id = frame.header.request_id;
        match frame.header.kind {
            FrameKind::Request => self.0.request(frame),
            FrameKind::Credit => self.0.credit(request_id, &frame.body)?,
            FrameKind::Cancel => {
                if let Some(flow) = self.0.streams.lock().remove(&request_id) {
                    flow.close();
                }
            }
            _ => self.0.wire.common_frame(&frame)?,
        }
        Ok(())
    }

    fn read_done(&self) {
        self.0.context.service.flush(self.0.id);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Whoever opens a stream from here on finds the connection closed.
        self.0.wire.outbound.close(CloseReason::Local);
        let streams = std::mem::take(&mut *self.0.streams.lock());
        for flow in streams.into_values() {
            flow.close();
        }
        self.0.context.service.closed(self.0.id);
    }
}
