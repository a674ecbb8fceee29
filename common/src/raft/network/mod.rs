//! Raft between processes: openraft's network over [`crate::net`], in the words of [`crate::proto::raft`].
//!
//! [`Outbound`] carries the messages of all groups of this process to others; each group gets a [`GroupNetwork`] from
//! it to give to openraft. [`Inbound`] takes what others send and hands it to the group that it finds through
//! [`Groups`]; the process's [`net::Service`](crate::net::Service) forwards the methods that
//! [`is_raft`] names. A store (many groups) and a placement member (one) use the same code.
//!
//! - **Appends** are pipelined: a stream keeps several in flight, bounded in number and bytes, and yields their answers
//!   in order. Calls are queued in order and one connection keeps it, so the follower sees them in order; should a
//!   connection break, Raft's own check of the preceding entry catches what is missing. Frames of several groups leave
//!   in one write because the transport coalesces them; there is no message that bundles them, since what a frame costs
//!   beyond its content is small, and gathering a bundle would add a delay.
//! - **Heartbeats** of all groups that two processes share travel in one message ([`outbound`]'s `heartbeats`).
//! - **Snapshots** are files: spooled by the sender, streamed in acknowledged chunks on the bulk lane, throttled,
//!   resumed when a connection breaks, verified, and installed from the receiver's file. Neither side ever holds more
//!   than a few chunks in memory ([`staging`]).
//!
//! A message names range, sender and receiver. A replica that is not here, not yet or no more, does not answer in any
//! way that openraft could take for a vote or an acknowledgement: its sender is told `Unreachable` and backs off.

mod convert;
pub mod decoding;
mod inbound;
mod metrics;
mod outbound;
mod staging;
mod throttle;
mod timings;

#[cfg(test)]
mod tests;

pub use self::inbound::{Groups, Inbound, Leader, is_raft};
pub use self::outbound::{GroupNetwork, Hush, Outbound, Patience, PeerReplica, Resolve};
pub use self::staging::{SnapshotLimits, Staging};
pub use self::timings::RaftTimings;

pub(super) use self::metrics::SNAPSHOT_PHASES;

/// Makes every series of the network exist, at zero.
pub(super) fn init_metrics() {
    drop((metrics::Sent::new(), metrics::Received::new()));
}
