//! The transport between Holdfast's processes: many requests at a time over few TCP connections.
//!
//! A [`Client`] calls, a [`Server`] hands requests to a [`Service`]; both carry opaque bodies, whose meaning is
//! `proto`'s. `docs/wire.md` describes the bytes.
//!
//! - [`frame`] is the codec and `hello` who may talk to whom: pure.
//! - `conn` and `outbound` are the two halves of any connection: reading, and the coalescing write buffer.
//! - [`client`] finds or makes the connection for a call, keeps track of what waits for an answer, and gives up at
//!   the deadline; [`server`] bounds what a peer may have in flight, and drains on shutdown.
//!
//! What the transport promises:
//! 1. Calls by one caller over one [`Lane`] reach the peer in the order in which they were made, as long as the
//!    connection lasts.
//! 2. A call ends: with an answer, an error, or [`Error::DeadlineExceeded`] a few milliseconds after its deadline.
//! 3. A request is handed to the service at most once. The transport never sends it again.
//! 4. An error tells whether the request may have been acted on ([`Error::certainly_not_delivered`]).
//! 5. Every buffer is bounded in bytes: the sender's, the receiver's and each stream's.
//! 6. No byte that a peer sends makes a process panic or keep more than those bounds.

pub mod client;
mod conn;
mod error;
pub mod frame;
mod hello;
mod outbound;
pub mod server;
pub mod tcp;
#[cfg(test)]
mod tests;

pub use client::{Call, Client, ClientConfig, Lane, OpenStream, Peer, ResponseStream};
pub use conn::KeepAlive;
pub use error::{CloseReason, Error, ErrorCode};
pub use frame::{MAX_BODY_BYTES, MAX_FRAME_BYTES, STREAM_WINDOW};
pub use hello::{ClusterIdCell, HelloError, MAX_NAME_BYTES, PROTOCOL_MAX, PROTOCOL_MIN, PeerInfo, Role};
pub use server::{Closed, ConnId, Reply, Request, Server, ServerConfig, Service, StreamReply, TrySendError};
