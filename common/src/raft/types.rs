//! The types that openraft runs on, the same for ranges and for the placement driver.
//!
//! A command and the answer to it are opaque bytes here: the state machine that owns them gives them meaning. So a command
//! is encoded once, by its proposer, and copied as it is into the log and to every follower.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use bytes::Bytes;
use openraft::RaftTypeConfig;
use openraft::impls::{BoxedErrorSource, InlineBatch};
use openraft::raft::responder::Responder;
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize};

use crate::clock::{self, Instant};
use crate::ids::{ReplicaId, StoreId};
use crate::raft::runtime::Runtime;

/// Openraft's type table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

/// An encoded command.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Command(pub Bytes);

/// An encoded answer to a command, and how long applying it took; zero where nobody measures that.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Answer(pub Bytes, pub Duration);

/// Where a replica lives. Addresses are not here: they change, and are resolved from the store (or member) id.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Node {
    /// The store, or for the placement driver the member's number.
    pub store: StoreId,
}

/// Identifies the leader of a term; `leader_id_std` allows one a term, as the Raft paper does.
pub type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, ReplicaId>;
/// The part of a leader's identity that committed entries keep: its term.
pub type CommittedLeaderId = <LeaderId as RaftLeaderId>::Committed;
/// Term and index of an entry.
pub type LogId = openraft::LogId<CommittedLeaderId>;
/// A vote.
pub type Vote = openraft::Vote<LeaderId>;
/// What an entry carries.
pub type Payload = openraft::EntryPayload<Command, ReplicaId, Node>;
/// A log entry.
pub type Entry = openraft::Entry<CommittedLeaderId, Payload>;
/// A membership.
pub type Membership = openraft::Membership<ReplicaId, Node>;
/// A membership and the entry that made it.
pub type StoredMembership = openraft::StoredMembership<CommittedLeaderId, ReplicaId, Node>;

impl RaftTypeConfig for TypeConfig {
    type D = Command;
    type R = Answer;
    type NodeId = ReplicaId;
    type Node = Node;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = Callback<T>
    where
        T: Send + 'static;
    type Batch<T>
        = InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = BoxedErrorSource;
}

/// The handle of a group whose state machine is `SM`.
pub type Raft<SM> = openraft::Raft<TypeConfig, SM>;
/// A snapshot's position and membership.
pub type SnapshotMeta = openraft::SnapshotMeta<CommittedLeaderId, ReplicaId, Node>;
/// A snapshot: its meta and its content.
pub type Snapshot = openraft::Snapshot<CommittedLeaderId, ReplicaId, Node, SnapshotData>;

/// A snapshot's content, as the sender and as the receiver have it. Neither ever holds it in memory.
pub enum SnapshotData {
    /// On the sender: writes the content into a file when a follower needs it.
    Local(Arc<dyn Spool>),
    /// On the receiver: the complete file, its checksum verified. Whoever installs it removes it.
    Staged(PathBuf),
}

/// Something that can write a snapshot into a file.
pub trait Spool: Send + Sync + 'static {
    /// Writes the snapshot to a new file at `path`, synced, and returns its length in bytes. Blocks: call it where
    /// blocking is allowed. It must describe the very state that the snapshot's meta names.
    fn spool(&self, path: &Path) -> io::Result<u64>;
}

impl fmt::Debug for SnapshotData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(_) => f.write_str("Local"),
            Self::Staged(path) => write!(f, "Staged({})", path.display()),
        }
    }
}

/// Runs a closure with the outcome of a proposal, on the task that applied it: no channel and no wake-up.
pub struct Callback<T> {
    then: Box<dyn FnOnce(T, Option<Instant>) + Send>,
    committed: Option<Instant>,
}

impl<T> Callback<T> {
    /// Runs `then` once, with the outcome; never, when the Raft core stops before.
    pub fn new(then: impl FnOnce(T) + Send + 'static) -> Self {
        Self::timed(move |outcome, _| then(outcome))
    }

    /// As [`new`](Self::new), with when this leader learned that the entry was committed, if it did.
    pub fn timed(then: impl FnOnce(T, Option<Instant>) + Send + 'static) -> Self {
        Self {
            then: Box::new(then),
            committed: None,
        }
    }
}

impl<T: Send + 'static> Responder<TypeConfig, T> for Callback<T> {
    fn on_commit(&mut self, _: LogId) {
        self.committed = Some(clock::now());
    }

    fn on_complete(self, result: T) {
        (self.then)(result, self.committed);
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer({} bytes)", self.0.len())
    }
}
