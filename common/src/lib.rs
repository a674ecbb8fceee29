//! What every Holdfast process shares.
//!
//! The vocabulary ([`ids`], [`key`], [`range`], [`revision`]) and its bounds ([`limits`]) are plain values without IO.
//! [`proto`] is the wire between processes and [`net`] the transport that carries it. With the `raft` feature come the
//! openraft types, the Raft log on disk and the Raft network, which a placement member and a store need and a router
//! must not carry.
#![forbid(unsafe_code)]

pub mod access;
pub mod blocking;
pub mod clock;
pub mod failpoint;
pub mod ids;
pub mod key;
pub mod limits;
pub mod load;
pub mod net;
pub mod placement_client;
pub mod proto;
pub mod range;
pub mod revision;
#[cfg(feature = "simulation")]
pub mod simulation;
pub mod telemetry;
pub mod tls;

#[cfg(feature = "raft")]
pub mod raft;
