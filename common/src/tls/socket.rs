//! A connection with or without TLS: decided once, when it is made, and a branch from then on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::net::tcp::{OwnedReadHalf, OwnedWriteHalf, TcpStream};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::identity::{self, Identity};
use super::{Material, Tls};

/// The name in the handshake, which the protocol wants and nobody reads: peers are known by their certificates.
const NAMELESS: &str = "holdfast.invalid";

/// A connection.
#[derive(Debug)]
pub enum Socket {
    /// In plain text.
    Plain(TcpStream),
    /// Encrypted.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The reading half of a [`Socket`].
#[derive(Debug)]
pub enum Reading {
    /// In plain text.
    Plain(OwnedReadHalf),
    /// Encrypted.
    Tls(ReadHalf<TlsStream<TcpStream>>),
}

/// The writing half of a [`Socket`].
#[derive(Debug)]
pub enum Writing {
    /// In plain text.
    Plain(OwnedWriteHalf),
    /// Encrypted.
    Tls(WriteHalf<TlsStream<TcpStream>>),
}

/// Why a connection could not be secured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The handshake failed: the other side may not speak TLS, or not believe the certificate, or show none that is
    /// believed.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[from] io::Error),
    /// The peer's certificate is good, and does not name one that belongs here.
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

/// What is dialed: which of a process's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// For messages between processes: whoever dials must be a process of the cluster.
    Rpc,
    /// For HTTP: whoever dials may be nobody in particular.
    Http,
}

impl Socket {
    /// Secures a connection that was accepted, and tells who dialed, if it showed a certificate.
    ///
    /// # Errors
    /// The handshake fails, or the certificate is not one of this cluster.
    pub async fn accept(
        socket: TcpStream,
        tls: Option<&Tls>,
        side: Side,
    ) -> Result<(Self, Option<Identity>), Error> {
        let Some(tls) = tls else {
            return Ok((Self::Plain(socket), None));
        };
        let material = tls.current();
        let config = match side {
            Side::Rpc => &material.rpc_server,
            Side::Http => &material.http_server,
        };
        let stream = TlsAcceptor::from(config.clone()).accept(socket).await?;
        let (_, connection) = stream.get_ref();
        let peer = match (side, connection.peer_certificates()) {
            (Side::Http, None) => None,
            (_, chain) => Some(named(chain, &material)?),
        };
        Ok((Self::Tls(Box::new(stream.into())), peer))
    }

    /// Secures a connection that was made, and tells who answered.
    ///
    /// # Errors
    /// The handshake fails, or who answers is not of this cluster.
    pub async fn connect(socket: TcpStream, tls: Option<&Tls>) -> Result<(Self, Option<Identity>), Error> {
        let Some(tls) = tls else {
            return Ok((Self::Plain(socket), None));
        };
        let material = tls.current();
        let name = ServerName::try_from(NAMELESS).map_err(io::Error::other)?;
        let connector = TlsConnector::from(material.client.clone());
        let stream = connector.connect(name, socket).await?;
        let (_, connection) = stream.get_ref();
        let peer = named(connection.peer_certificates(), &material)?;
        if peer.kind == super::Kind::Client {
            return Err(Error::Identity(identity::Error::NotThis {
                identity: peer,
                what: "a server".to_owned(),
            }));
        }
        Ok((Self::Tls(Box::new(stream.into())), Some(peer)))
    }

    /// Has small packets sent without delay.
    ///
    /// # Errors
    /// The peer has left.
    pub fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.set_nodelay(true),
            Self::Tls(stream) => stream.get_ref().0.set_nodelay(true),
        }
    }

    /// The protocol that was agreed on in the handshake, if one was.
    pub fn protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// Its two halves.
    pub fn split(self) -> (Reading, Writing) {
        match self {
            Self::Plain(socket) => {
                let (reading, writing) = socket.into_split();
                (Reading::Plain(reading), Writing::Plain(writing))
            }
            Self::Tls(stream) => {
                let (reading, writing) = tokio::io::split(*stream);
                (Reading::Tls(reading), Writing::Tls(writing))
            }
        }
    }
}

fn named(chain: Option<&[CertificateDer<'_>]>, ours: &Material) -> Result<Identity, identity::Error> {
    let leaf = chain.and_then(<[_]>::first).ok_or(identity::Error::Missing)?;
    let identity = Identity::of_certificate(leaf)?;
    identity.check_cluster(ours.identity.cluster)?;
    Ok(identity)
}

/// Forwards reading to whichever it is.
macro_rules! reads {
    ($name:ident) => {
        impl AsyncRead for $name {
            fn poll_read(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                buffer: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
                    Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
                }
            }
        }
    };
}

/// Forwards writing to whichever it is.
macro_rules! writes {
    ($name:ident) => {
        impl AsyncWrite for $name {
            fn poll_write(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
                    Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Plain(socket) => Pin::new(socket).poll_write_vectored(context, slices),
                    Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Plain(socket) => socket.is_write_vectored(),
                    Self::Tls(stream) => stream.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(socket) => Pin::new(socket).poll_flush(context),
                    Self::Tls(stream) => Pin::new(stream).poll_flush(context),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Plain(socket) => Pin::new(socket).poll_shutdown(context),
                    Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
                }
            }
        }
    };
}

reads!(Socket);
reads!(Reading);
writes!(Socket);
writes!(Writing);
