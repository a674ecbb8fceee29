//! [`Listener`] for axum, and who is at the other end for its handlers.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;

use super::Identity;
use super::listener::{Accepted, Listener};
use super::socket::Socket;
use crate::clock;

/// Who is at the other end of an HTTP connection: `ConnectInfo<Remote>` in handlers.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Where; none for the listener itself.
    pub addr: Option<SocketAddr>,
    /// Who, if a certificate was shown.
    pub identity: Option<Identity>,
}

impl axum::serve::Listener for Listener {
    type Io = Socket;
    type Addr = Remote;

    async fn accept(&mut self) -> (Socket, Remote) {
        loop {
            match Self::accept(self).await {
                Ok(Accepted {
                    socket,
                    addr,
                    identity,
                }) => {
                    let addr = Some(addr);
                    return (socket, Remote { addr, identity });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Running out of descriptors does not pass by itself, and accepting again at once would spin.
                    clock::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Remote> {
        Ok(Remote {
            addr: Some(Self::local_addr(self)?),
            identity: None,
        })
    }
}

impl Connected<IncomingStream<'_, Listener>> for Remote {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.remote_addr().clone()
    }
}
