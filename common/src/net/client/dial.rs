//! Making a connection: TCP, then hello and welcome. Until the welcome is in, nothing of a call is sent, so that
//! whatever fails here has certainly not delivered it.

use std::fmt::Display;
use std::sync::Arc;

use crate::net::tcp::TcpStream;
use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use super::Shared;
use crate::clock;
use crate::net::conn::FrameReader;
use crate::net::error::{Error, ErrorCode};
use crate::net::frame::{Frame, FrameHeader, FrameKind};
use crate::net::hello::{PeerInfo, admit};
use crate::tls::socket::{Reading, Socket, Writing};

/// A connection that the peer has accepted.
pub(super) struct Dialed {
    pub(super) reader: FrameReader<Reading>,
    pub(super) writer: Writing,
    pub(super) peer: PeerInfo,
}

/// Connects to `addr` and introduces this process, within the configured time.
pub(super) async fn dial(addr: &Arc<str>, shared: &Shared) -> Result<Dialed, Error> {
    let timeout = shared.config.connect_timeout;
    match clock::timeout(timeout, connect(addr, shared)).await {
        Ok(dialed) => dialed,
        Err(_) => Err(unreachable(
            addr,
            format_args!("no connection within {timeout:?}"),
        )),
    }
}

async fn connect(addr: &Arc<str>, shared: &Shared) -> Result<Dialed, Error> {
    let socket = TcpStream::connect(&**addr)
        .await
        .map_err(|error| unreachable(addr, error))?;
    let peer_addr = socket.peer_addr().ok();
    socket
        .set_nodelay(true)
        .map_err(|error| unreachable(addr, error))?;
    let (socket, proven) = Socket::connect(socket, shared.config.tls.as_ref())
        .await
        .map_err(|error| unreachable(addr, warned(addr, error)))?;
    let (reader, mut writer) = socket.split();
    let mut reader = FrameReader::new(reader);

    let header = FrameHeader::new(FrameKind::Hello, 0, shared.cluster.get());
    let mut hello = BytesMut::new();
    Frame {
        header,
        body: shared.identity.encode(),
    }
    .encode_into(&mut hello);
    writer
        .write_all(&hello)
        .await
        .map_err(|error| unreachable(addr, error))?;

    let Frame { header, body } = reader
        .next()
        .await
        .map_err(|reason| unreachable(addr, format_args!("no welcome: {reason}")))?;
    let (ours, theirs) = (shared.cluster.get(), header.cluster_id);
    match header.kind {
        FrameKind::Welcome => {}
        FrameKind::Error => {
            return Err(match ErrorCode::decode(&body) {
                (ErrorCode::WrongCluster, _) => Error::WrongCluster { ours, theirs },
                (code, message) => Error::Refused {
                    addr: addr.clone(),
                    code,
                    message,
                },
            });
        }
        _ => return Err(unreachable(addr, "protocol violation: no welcome")),
    }
    admit(ours, theirs, true).map_err(|_| Error::WrongCluster { ours, theirs })?;
    let peer = PeerInfo::decode(&body, theirs, peer_addr).map_err(|error| unreachable(addr, error))?;
    if let Some(identity) = &proven {
        identity
            .check_claim(peer.role, &peer.name, theirs)
            .map_err(|error| unreachable(addr, warned(addr, error)))?;
    }
    reader.trust();
    Ok(Dialed { reader, writer, peer })
}

/// A peer that can't prove who it is may be an attack, or a mistake that somebody has to put right.
fn warned<E: Display>(addr: &Arc<str>, error: E) -> E {
    tracing::warn!(%addr, %error, "the peer is not trusted");
    error
}

fn unreachable(addr: &Arc<str>, reason: impl Display) -> Error {
    Error::Unreachable {
        addr: addr.clone(),
        reason: reason.to_string().into(),
    }
}
