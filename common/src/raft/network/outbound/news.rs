//! How soon followers hear of a commit.

use std::time::Duration;

use openraft::raft::AppendEntriesRequest;

use crate::raft::types::{Command, Entry, LogId, Payload, TypeConfig};

/// How long word of a commit that matters waits for entries to ride with: many times the gap between the writes of a range
/// under load, and nothing that anybody would wait for on a follower.
pub(super) const BRIEF: Duration = Duration::from_millis(5);

/// Says of a command whether followers may hear of its commit late: by the next entry, or when a heartbeat would be due.
pub type Patience = fn(&Command) -> bool;

/// What one stream has sent that its follower should hear the commit of soon.
pub(super) struct News {
    may_wait: Patience,
    patient: Duration,
    /// The first and the last entry sent that did not have its commit told, of those that may not wait. What lies between
    /// is told with the last, at the latest: a range is changed in one way at a time, so there is hardly ever any.
    urgent: Option<(u64, u64)>,
}

impl News {
    /// Word of a commit waits for `patient` at most if `may_wait` says so of all that it commits.
    pub(super) fn new(may_wait: Patience, patient: Duration) -> Self {
        Self {
            may_wait,
            patient,
            // Nobody knows what the streams before this one left untold.
            urgent: Some((0, 0)),
        }
    }

    /// How long an append without entries may wait.
    pub(super) fn hold(&self, rpc: &AppendEntriesRequest<TypeConfig>) -> Duration {
        let urgent = self.urgent.is_some_and(|(first, _)| first <= commit(rpc));
        if urgent { BRIEF } else { self.patient }
    }

    /// Notes an append that is sent.
    pub(super) fn sent(&mut self, rpc: &AppendEntriesRequest<TypeConfig>) {
        let told = commit(rpc);
        self.urgent = match self.urgent {
            Some((_, last)) if last <= told => None,
            Some((first, last)) if first <= told => Some((last, last)),
            untold => untold,
        };
        for entry in &rpc.entries {
            if !self.may_wait(entry) {
                let index = entry.log_id.index;
                let first = self.urgent.map_or(index, |(first, _)| first);
                self.urgent = Some((first, index));
            }
        }
    }

    fn may_wait(&self, entry: &Entry) -> bool {
        match &entry.payload {
            Payload::Normal(command) => (self.may_wait)(command),
            Payload::Blank | Payload::Membership(_) => false,
        }
    }
}

fn commit(rpc: &AppendEntriesRequest<TypeConfig>) -> u64 {
    let index = |id: LogId| id.index;
    rpc.leader_commit.map_or(0, index)
}
