//! Raft messages between replicas.
//!
//! Every request names the range and both replicas ([`Route`]): a replica id is used for one stay on one store, so a
//! message that outlived its sender or its receiver never reaches another in their place. What follows from the
//! protocol is not sent, so that it can't be wrong: a leader's vote is `(term, from)`, committed; a candidate's is
//! `(term, from)`, not committed; entries follow [`Append::prev`] without a gap, and carry no index.
//!
//! The answer to each request is `Result<_, `[`Refusal`]`>`. A refusal says that the replica was not reached: it
//! promises nothing and grants nothing, and its sender backs off.
//!
//! All messages but [`Append`] are encoded by [`super::encode`]. An append is the one that is sent for every write; it
//! has an encoding of its own, which hands commands through as they are ([`Append::encode`]).

mod append;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::ids::{RangeId, ReplicaId, StoreId};

/// Largest piece of a snapshot in one message, bytes.
pub const MAX_CHUNK_BYTES: usize = 1024 * 1024;

/// Most heartbeats in one message.
pub const MAX_BEATS: usize = 4096;

/// Between whom a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// The group.
    pub range: RangeId,
    /// The replica that sends.
    pub from: ReplicaId,
    /// The replica it is meant for.
    pub to: ReplicaId,
}

/// The place of an entry in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogId {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

/// A vote, as a replica remembers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// Who it is for.
    pub replica: ReplicaId,
    /// Whether a majority gave it: the replica leads, or led, the term.
    pub committed: bool,
}

/// The replicas of a group and who of them votes.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Membership {
    /// The sets of voters: one, or two while a change is under way.
    pub configs: Vec<Vec<ReplicaId>>,
    /// All replicas with their stores; those in no set of voters are learners.
    pub members: Vec<(ReplicaId, StoreId)>,
}

/// From a leader: entries to append, or none, to tell that it leads and what is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// From the leader to a follower or learner.
    pub route: Route,
    /// The term that the sender leads.
    pub term: u64,
    /// The entry before the first of `entries`; `None` for the start of the log.
    pub prev: Option<LogId>,
    /// The last entry known to be committed.
    pub commit: Option<LogId>,
    /// The entries that follow `prev`, in order; their terms lie between `prev`'s and `term` and never fall.
    pub entries: Vec<Entry>,
}

/// An entry of the log; its index follows from its place in an [`Append`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Term of the leader that proposed it.
    pub term: u64,
    /// What it carries.
    pub payload: Payload,
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// An encoded command.
    Command(Bytes),
    /// A change of the group's replicas.
    Membership(Membership),
}

/// What became of an [`Append`] or a [`Beat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Appended {
    /// All entries are durable in the receiver's log.
    Success,
    /// The receiver's log is durable and equal up to here only.
    UpTo(Option<LogId>),
    /// The receiver's log does not have `prev`.
    Conflict,
    /// The receiver has seen this higher vote; the sender leads no more.
    HigherVote(Vote),
}

/// From a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteRequest {
    /// From the candidate to a voter.
    pub route: Route,
    /// The term that the candidate wants to lead.
    pub term: u64,
    /// The end of its log.
    pub last: Option<LogId>,
    /// Whether it only asks if it would be elected; nothing changes at the receiver.
    pub pre: bool,
    /// Whether the leader asked it to take over, so that the leader's lease is no reason to refuse.
    pub transfer: bool,
}

/// The answer to a [`VoteRequest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VoteAnswer {
    /// The receiver's vote after the request.
    pub vote: Vote,
    /// Whether it is, or would be, granted.
    pub granted: bool,
    /// The end of the receiver's log.
    pub last: Option<LogId>,
}

/// From a leader to every voter: `target` shall take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transfer {
    /// From the leader to a voter.
    pub route: Route,
    /// The term that the sender leads.
    pub term: u64,
    /// Who shall lead next.
    pub target: ReplicaId,
    /// The end of the leader's log, which `target` must have before it campaigns.
    pub last: Option<LogId>,
}

/// The answer to a [`Transfer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransferAnswer {
    /// The receiver goes along.
    Accepted,
    /// It has another vote by now.
    VoteChanged(Vote),
    /// It does not have the log; this is the end of what it has.
    LogBehind(Option<LogId>),
}

/// The heartbeat of one group: an [`Append`] without entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// From the leader to a follower or learner.
    pub route: Route,
    /// The term that the sender leads.
    pub term: u64,
    /// An entry that the receiver is known to have.
    pub prev: Option<LogId>,
    /// The last entry known to be committed.
    pub commit: Option<LogId>,
}

/// The heartbeats of many groups that two processes share; at most [`MAX_BEATS`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeats {
    /// One for each group.
    pub beats: Vec<Beat>,
}

/// The answers to [`Heartbeats`], in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatsAnswer {
    /// One for each beat.
    pub answers: Vec<Result<Appended, Refusal>>,
}

/// What a snapshot is, and how to tell that it arrived whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    /// From the leader to a follower or learner.
    pub route: Route,
    /// The term that the sender leads.
    pub term: u64,
    /// Names this transfer. A sender that lost its connection goes on under the same name.
    pub transfer: u64,
    /// The last entry whose effect the snapshot contains.
    pub last: Option<LogId>,
    /// The entry that made `membership`.
    pub membership_log_id: Option<LogId>,
    /// The group's replicas as of `last`.
    pub membership: Membership,
    /// Length of the content, bytes.
    pub len: u64,
    /// XXH3 (64 bits) of the content.
    pub checksum: u64,
}

/// One step of the transfer of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotMessage {
    /// Begins a transfer, or asks how far it has come.
    Offer(SnapshotHeader),
    /// A piece of the content.
    Chunk(SnapshotChunk),
    /// Everything was sent: verify and install it.
    Install {
        /// As in the offer.
        route: Route,
        /// As in the offer.
        transfer: u64,
    },
}

/// A piece of a snapshot's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotChunk {
    /// As in the offer.
    pub route: Route,
    /// As in the offer.
    pub transfer: u64,
    /// Where it belongs, bytes from the start.
    pub offset: u64,
    /// The piece, at most [`MAX_CHUNK_BYTES`].
    pub data: Bytes,
}

/// The answer to a [`SnapshotMessage`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SnapshotAnswer {
    /// The receiver has this many bytes from the start: go on from there.
    Have(u64),
    /// The snapshot is installed, or was not needed; the receiver's vote, which is higher than the sender's if that one
    /// leads no more.
    Installed(Vote),
}

/// Why a message did not reach its replica. Nothing was promised, granted or stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// There is no such replica here: not yet, or no more.
    #[error("no such replica here")]
    UnknownReplica,
    /// The replica runs but takes no part in elections so soon after its start: it may have promised a lease that it
    /// has forgotten.
    #[error("the replica has restarted and does not vote yet")]
    NotVotingYet,
    /// The replica is stopping or has failed.
    #[error("the replica has stopped")]
    Stopped,
    /// The replica did not answer in time; it may have acted.
    #[error("the replica is slow to answer")]
    Late,
    /// Too much is under way; try again later.
    #[error("busy")]
    Busy,
    /// The receiver can't take this snapshot now.
    #[error("snapshot refused: {0}")]
    Snapshot(String),
}
