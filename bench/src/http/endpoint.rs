//! Where to dial, whom to believe there, and what to say in every request.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use bytes::BytesMut;
use http::HeaderValue;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// How a router is spoken to: encrypted or not, and in whose name.
#[derive(Clone, Default)]
pub struct Access {
    /// What `https` is spoken with.
    pub tls: Option<Arc<ClientConfig>>,
    /// A bearer token.
    pub token: Option<String>,
}

// The token is a secret.
impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access")
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// A server.
#[derive(Clone)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    secured: Option<(TlsConnector, ServerName<'static>)>,
    /// The headers that every request has: the host, and the token if there is one. No line end behind the last.
    head: Vec<u8>,
    /// What a path is put behind, for HTTP/2: `http://HOST:PORT`.
    origin: String,
    /// The token as a header, for HTTP/2.
    authorization: Option<HeaderValue>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.address)
    }
}

impl Endpoint {
    /// The server at `address`, in plain text and in nobody's name.
    pub fn plain(address: SocketAddr) -> Self {
        Self {
            address,
            secured: None,
            head: format!("host: {address}").into_bytes(),
            origin: format!("http://{address}"),
            authorization: None,
        }
    }

    /// The server at `address`, which calls itself `name` in its certificate.
    ///
    /// # Errors
    /// Why it can't be spoken to: there is nothing to believe it by, or the name is none.
    pub fn secured(address: SocketAddr, name: &str, access: &Access) -> Result<Self, String> {
        let config = access
            .tls
            .clone()
            .ok_or("https needs the authority that signed the router's certificate")?;
        let name = ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?;
        let secured = Some((TlsConnector::from(config), name));
        Ok(Self {
            secured,
            origin: format!("https://{address}"),
            ..Self::plain(address)
        })
    }

    /// With a token, if there is one.
    #[must_use]
    pub fn in_the_name_of(mut self, access: &Access) -> Self {
        if let Some(token) = &access.token {
            self.head.extend_from_slice(b"\r\nauthorization: Bearer ");
            self.head.extend_from_slice(token.as_bytes());
            self.authorization = HeaderValue::try_from(format!("Bearer {token}")).ok();
        }
        self
    }

    pub(super) fn origin(&self) -> &str {
        &self.origin
    }

    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }

    pub(super) fn head(&self) -> &[u8] {
        &self.head
    }

    pub(super) async fn dial(&self) -> io::Result<Stream> {
        self.dial_for(None).await
    }

    /// As [`Endpoint::dial`], and with TLS says that HTTP/2 is to be spoken.
    pub(super) async fn dial_http2(&self) -> io::Result<Stream> {
        self.dial_for(Some(vec![b"h2".to_vec()])).await
    }

    async fn dial_for(&self, protocols: Option<Vec<Vec<u8>>>) -> io::Result<Stream> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        match &self.secured {
            None => Ok(Stream::Plain(stream)),
            Some((connector, name)) => {
                let connecting = match protocols {
                    None => connector.connect(name.clone(), stream),
                    Some(protocols) => connector.with_alpn(protocols).connect(name.clone(), stream),
                };
                Ok(Stream::Secured(Box::new(connecting.await?)))
            }
        }
    }
}

/// A connection's bytes.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Secured(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Secured(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    pub(super) async fn read(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(into).await,
            Self::Secured(stream) => stream.read_buf(into).await,
        }
    }
}
