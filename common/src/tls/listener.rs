//! Accepting HTTP clients, with TLS where there is some.
//!
//! A handshake takes a while, and as long as the other side pleases up to [`HANDSHAKE_WITHIN`], so each has a task of its own
//! and at most [`MAX_HANDSHAKES`] are under way; beyond that, connections wait in the backlog.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::net::tcp::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::socket::{Side, Socket};
use super::{Identity, Tls};
use crate::clock;

/// How long a client may take for its handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Most handshakes at a time.
const MAX_HANDSHAKES: usize = 256;

/// A client that was accepted.
#[derive(Debug)]
pub struct Accepted {
    /// Its connection.
    pub socket: Socket,
    /// Where it is.
    pub addr: SocketAddr,
    /// Who it is, if it showed a certificate.
    pub identity: Option<Identity>,
}

/// A listener for HTTP.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    secured: Option<Secured>,
}

/// What a listener with TLS has besides.
#[derive(Debug)]
struct Secured {
    tls: Tls,
    places: Arc<Semaphore>,
    done: mpsc::Receiver<Accepted>,
    sender: mpsc::Sender<Accepted>,
}

impl Listener {
    /// Takes clients of `tcp`.
    pub fn new(tcp: TcpListener, tls: Option<Tls>) -> Self {
        let secured = tls.map(|tls| {
            let (sender, done) = mpsc::channel(MAX_HANDSHAKES);
            Secured {
                tls,
                places: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
                done,
                sender,
            }
        });
        Self { tcp, secured }
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system doesn't say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// The next client whose connection stands. May be dropped and called again without losing one.
    ///
    /// # Errors
    /// The operating system gave none.
    pub async fn accept(&mut self) -> io::Result<Accepted> {
        let Some(secured) = &mut self.secured else {
            let (socket, addr) = self.tcp.accept().await?;
            return Ok(Accepted {
                socket: Socket::Plain(socket),
                addr,
                identity: None,
            });
        };
        loop {
            let places = secured.places.clone();
            let next = async {
                let place = places.acquire_owned().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>((self.tcp.accept().await?, place))
            };
            tokio::select! {
                biased;
                Some(accepted) = secured.done.recv() => return Ok(accepted),
                next = next => {
                    let ((socket, addr), place) = next?;
                    let (tls, sender) = (secured.tls.clone(), secured.sender.clone());
                    tokio::spawn(shake_hands(socket, addr, tls, sender, place));
                }
            }
        }
    }
}

async fn shake_hands(
    socket: TcpStream,
    addr: SocketAddr,
    tls: Tls,
    sender: mpsc::Sender<Accepted>,
    place: OwnedSemaphorePermit,
) {
    match clock::timeout(HANDSHAKE_WITHIN, Socket::accept(socket, Some(&tls), Side::Http)).await {
        Ok(Ok((socket, identity))) => {
            // There is room: no more handshakes than places are under way. Nobody listens only at the end.
            let accepted = Accepted {
                socket,
                addr,
                identity,
            };
            let _ = sender.send(accepted).await;
        }
        Ok(Err(error)) => tracing::info!(%addr, %error, "an HTTP client was refused"),
        Err(_) => tracing::debug!(%addr, "an HTTP client did not finish its handshake"),
    }
    drop(place);
}
