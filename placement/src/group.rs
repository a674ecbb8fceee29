//! The placement driver's own Raft group, as the rest of the process uses it.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::ids::{MemberId, RangeId, ReplicaId, StoreId};
use holdfast_common::proto::placement::Error;
use holdfast_common::proto::{self, raft::SnapshotHeader};
use holdfast_common::raft::network::{Groups, Leader, Resolve};
use holdfast_common::raft::types::{Command as Encoded, Raft};
use openraft::ReadPolicy;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, LinearizableReadError, RaftError};

use crate::command::{Command, Outcome};
use crate::config::Peers;
use crate::machine::{Machine, Shared};
use crate::snapshot::Image;

/// The range id under which the group's messages and log are kept: no range ever has it.
pub const GROUP: RangeId = RangeId(0);

/// How long a command or a read may take before the group counts as unavailable.
const PATIENCE: Duration = Duration::from_secs(5);

/// The group.
#[derive(Clone)]
pub struct Group {
    raft: Raft<Machine>,
    shared: Shared,
    peers: Arc<Peers>,
}

impl Group {
    /// The group that `raft` runs, whose machine applies to `shared`.
    pub fn new(raft: Raft<Machine>, shared: Shared, peers: Arc<Peers>) -> Self {
        Self { raft, shared, peers }
    }

    /// What this member has applied.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Openraft's handle.
    pub fn raft(&self) -> &Raft<Machine> {
        &self.raft
    }

    /// Has a command applied, and returns what became of it. After an error it may have been applied, or may still be.
    ///
    /// # Errors
    /// [`Error::NotLeader`], or [`Error::Unavailable`] when no majority answers in time.
    pub async fn propose(&self, command: &Command) -> Result<Outcome, Error> {
        let write = self.raft.client_write(Encoded(proto::encode(command)));
        let written = clock::timeout(PATIENCE, write).await.map_err(|_| no_majority())?;
        let answer = written.map_err(|error| match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(_)) => self.not_leader(),
            other => Error::Unavailable(other.to_string()),
        })?;
        proto::decode(&answer.data.0).map_err(|error| Error::Unavailable(error.to_string()))
    }

    /// Returns once the state holds everything that was acknowledged, by anyone, before the call, and this member led
    /// meanwhile.
    ///
    /// # Errors
    /// As [`Group::propose`].
    pub async fn catch_up(&self) -> Result<(), Error> {
        let read = async {
            let linearizer = self
                .raft
                .get_read_linearizer(ReadPolicy::ReadIndex)
                .await
                .map_err(|error| match error {
                    RaftError::APIError(LinearizableReadError::ForwardToLeader(_)) => self.not_leader(),
                    other => Error::Unavailable(other.to_string()),
                })?;
            linearizer
                .await_ready(&self.raft)
                .await
                .map_err(|error| Error::Unavailable(error.to_string()))
        };
        clock::timeout(PATIENCE, read)
            .await
            .map_err(|_| no_majority())?
            .map(drop)
    }

    /// The member that leads, as far as this one knows.
    pub fn leader(&self) -> Option<MemberId> {
        let metrics = self.raft.server_metrics().borrow_watched().clone();
        metrics.current_leader.map(|replica| MemberId(replica.0))
    }

    /// The names of all members, in the order of the configuration.
    pub fn members(&self) -> Vec<String> {
        self.peers.names()
    }

    /// The answer of a member that does not lead.
    pub fn not_leader(&self) -> Error {
        let leader = self.leader().and_then(|leader| self.peers.address(leader));
        Error::NotLeader {
            leader: leader.map(str::to_owned),
        }
    }
}

fn no_majority() -> Error {
    Error::Unavailable("no majority of the placement members answers".to_owned())
}

/// Finds members by their configured addresses.
pub struct Addresses(pub Arc<Peers>);

impl Resolve for Addresses {
    fn address(&self, store: StoreId) -> Option<String> {
        self.0.address(MemberId(store.0)).map(str::to_owned)
    }
}

/// The one group of this process, for the network: there once the member is admitted. Before, every message for it is
/// answered `Unreachable`, so that a directory that nobody has admitted has no vote.
#[derive(Clone, Default)]
pub struct Door(Arc<OnceLock<(ReplicaId, Raft<Machine>)>>);

impl Door {
    /// Lets messages in.
    pub fn open(&self, replica: ReplicaId, raft: Raft<Machine>) {
        // Opened once: there is one group in a process.
        let _ = self.0.set((replica, raft));
    }
}

impl Groups<Machine> for Door {
    fn raft(&self, range: RangeId, replica: ReplicaId, _: Option<Leader>) -> Option<Raft<Machine>> {
        let (own, raft) = self.0.get()?;
        (range == GROUP && replica == *own).then(|| raft.clone())
    }

    fn may_vote(&self, _: RangeId, _: ReplicaId) -> bool {
        // Reads ask a majority each time: there is no lease that a vote could break.
        true
    }

    fn accept_snapshot(&self, _: RangeId, _: ReplicaId, _: &SnapshotHeader) -> Result<(), String> {
        Ok(())
    }

    fn accept_file(&self, _: RangeId, _: ReplicaId, file: &Path) -> Result<(), String> {
        Image::read(file).map(drop).map_err(|error| error.to_string())
    }
}
