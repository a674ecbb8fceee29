//! TCP as tokio has it, or over a simulated network when a simulated machine runs.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{self, ToSocketAddrs, tcp};

use super::network::{Backlog, Ends, Pipe};
use super::{World, here};

/// A listener.
pub enum TcpListener {
    /// The operating system's.
    Real(net::TcpListener),
    /// A simulated one.
    Simulated(Listening),
}

/// A connection.
#[derive(Debug)]
pub enum TcpStream {
    /// The operating system's.
    Real(net::TcpStream),
    /// A simulated one.
    Simulated(Connection),
}

/// The reading half of a connection.
#[derive(Debug)]
pub enum OwnedReadHalf {
    /// The operating system's.
    Real(tcp::OwnedReadHalf),
    /// A simulated one.
    Simulated(Reading),
}

/// The writing half of a connection.
#[derive(Debug)]
pub enum OwnedWriteHalf {
    /// The operating system's.
    Real(tcp::OwnedWriteHalf),
    /// A simulated one.
    Simulated(Writing),
}

/// A simulated listener.
pub struct Listening {
    world: Arc<World>,
    at: SocketAddr,
    backlog: Arc<Mutex<Backlog>>,
}

/// A simulated connection.
#[derive(Debug)]
pub struct Connection {
    reading: Reading,
    writing: Writing,
    local: SocketAddr,
    peer: SocketAddr,
}

/// What comes in over one.
pub struct Reading {
    world: Arc<World>,
    pipe: Arc<Mutex<Pipe>>,
}

/// What goes out over one.
pub struct Writing {
    world: Arc<World>,
    pipe: Arc<Mutex<Pipe>>,
    ended: bool,
}

impl TcpListener {
    /// Takes an address.
    ///
    /// # Errors
    /// It can't be had.
    pub async fn bind(at: impl ToSocketAddrs + ToString) -> io::Result<Self> {
        let Some(here) = here() else {
            return Ok(Self::Real(net::TcpListener::bind(at).await?));
        };
        let (at, backlog) = here.world.network().listen(parse(&at.to_string())?)?;
        Ok(Self::Simulated(Listening {
            world: here.world,
            at,
            backlog,
        }))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The operating system doesn't say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Real(listener) => listener.local_addr(),
            Self::Simulated(listening) => Ok(listening.at),
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// The operating system gave none.
    pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        match self {
            Self::Real(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((TcpStream::Real(stream), peer))
            }
            Self::Simulated(listening) => {
                let next = poll_fn(|context| {
                    let next = listening.backlog.lock().accept(context.waker());
                    next.map_or(Poll::Pending, Poll::Ready)
                });
                let ends = next.await;
                let peer = ends.peer;
                Ok((Connection::stream(listening.world.clone(), ends), peer))
            }
        }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.world.network().unlisten(&self.at, &self.backlog);
    }
}

impl std::fmt::Debug for TcpListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("TcpListener")
            .field(&self.local_addr().ok())
            .finish()
    }
}

impl TcpStream {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub async fn connect(to: impl ToSocketAddrs + ToString) -> io::Result<Self> {
        let Some(here) = here() else {
            return Ok(Self::Real(net::TcpStream::connect(to).await?));
        };
        let to = parse(&to.to_string())?;
        let dialing = here.world.network().dial(here.machine, to);
        let ends = poll_fn(|context| {
            let mut dialing = dialing.lock();
            let done = dialing.done.take();
            if done.is_none() {
                dialing.dialer = Some(context.waker().clone());
            }
            done.map_or(Poll::Pending, Poll::Ready)
        });
        Ok(Connection::stream(here.world, ends.await?))
    }

    /// Who is at the other end.
    ///
    /// # Errors
    /// The operating system doesn't say.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Real(stream) => stream.peer_addr(),
            Self::Simulated(connection) => Ok(connection.peer),
        }
    }

    /// Where this end is.
    ///
    /// # Errors
    /// The operating system doesn't say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Real(stream) => stream.local_addr(),
            Self::Simulated(connection) => Ok(connection.local),
        }
    }

    /// Has small packets sent without delay.
    ///
    /// # Errors
    /// The peer has left.
    pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match self {
            Self::Real(stream) => stream.set_nodelay(nodelay),
            Self::Simulated(_) => Ok(()),
        }
    }

    /// Writes what can be written now.
    ///
    /// # Errors
    /// Nothing can be, or the peer has left.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Real(stream) => stream.try_write(bytes),
            Self::Simulated(connection) => {
                let Writing { world, pipe, .. } = &connection.writing;
                world
                    .network()
                    .send(&mut pipe.lock(), Some(Bytes::copy_from_slice(bytes)));
                Ok(bytes.len())
            }
        }
    }

    /// Its two halves.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        match self {
            Self::Real(stream) => {
                let (reading, writing) = stream.into_split();
                (OwnedReadHalf::Real(reading), OwnedWriteHalf::Real(writing))
            }
            Self::Simulated(Connection { reading, writing, .. }) => (
                OwnedReadHalf::Simulated(reading),
                OwnedWriteHalf::Simulated(writing),
            ),
        }
    }
}

impl Connection {
    fn stream(world: Arc<World>, ends: Ends) -> TcpStream {
        let Ends {
            reading,
            writing,
            local,
            peer,
        } = ends;
        TcpStream::Simulated(Self {
            reading: Reading {
                world: world.clone(),
                pipe: reading,
            },
            writing: Writing {
                world,
                pipe: writing,
                ended: false,
            },
            local,
            peer,
        })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let mut network = self.world.network();
        network.forget(&mut self.pipe.lock());
    }
}

impl Writing {
    fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            let mut network = self.world.network();
            network.send(&mut self.pipe.lock(), None);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

impl std::fmt::Debug for Writing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writing")
    }
}

impl AsyncRead for Reading {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.pipe.lock().read(buffer.remaining(), context.waker()) {
            None => Poll::Pending,
            Some(Err(error)) => Poll::Ready(Err(error)),
            Some(Ok(bytes)) => {
                buffer.put_slice(&bytes);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Writing {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // The network first, then the pipe: the order in which the network itself takes them.
        let mut network = self.world.network();
        let mut pipe = self.pipe.lock();
        match pipe.room(context.waker()) {
            None => Poll::Pending,
            Some(Err(error)) => Poll::Ready(Err(error)),
            Some(Ok(room)) => {
                let sent = Bytes::copy_from_slice(&bytes[..bytes.len().min(room)]);
                let len = sent.len();
                if len > 0 {
                    network.send(&mut pipe, Some(sent));
                }
                Poll::Ready(Ok(len))
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut all = bytes::BytesMut::new();
        slices.iter().for_each(|slice| all.extend_from_slice(slice));
        self.poll_write(context, all.chunk())
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().reading).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writing).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().writing).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writing).poll_shutdown(context)
    }
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
                    Self::Real(socket) => Pin::new(socket).poll_read(context, buffer),
                    Self::Simulated(socket) => Pin::new(socket).poll_read(context, buffer),
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
                    Self::Real(socket) => Pin::new(socket).poll_write(context, bytes),
                    Self::Simulated(socket) => Pin::new(socket).poll_write(context, bytes),
                }
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                context: &mut Context<'_>,
                slices: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                match self.get_mut() {
                    Self::Real(socket) => Pin::new(socket).poll_write_vectored(context, slices),
                    Self::Simulated(socket) => Pin::new(socket).poll_write_vectored(context, slices),
                }
            }

            fn is_write_vectored(&self) -> bool {
                match self {
                    Self::Real(socket) => socket.is_write_vectored(),
                    Self::Simulated(socket) => socket.is_write_vectored(),
                }
            }

            fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Real(socket) => Pin::new(socket).poll_flush(context),
                    Self::Simulated(socket) => Pin::new(socket).poll_flush(context),
                }
            }

            fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
                match self.get_mut() {
                    Self::Real(socket) => Pin::new(socket).poll_shutdown(context),
                    Self::Simulated(socket) => Pin::new(socket).poll_shutdown(context),
                }
            }
        }
    };
}

reads!(TcpStream);
reads!(OwnedReadHalf);
writes!(TcpStream);
writes!(OwnedWriteHalf);

fn parse(address: &str) -> io::Result<SocketAddr> {
    address.parse().map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{address:?} is no address of a simulation"),
        )
    })
}
