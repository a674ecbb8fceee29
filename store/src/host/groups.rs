//! What the Raft network asks of the store: see [`Groups`].

use std::path::Path;

use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::proto::raft::SnapshotHeader;
use holdfast_common::raft::network::{Groups, Leader};
use holdfast_common::raft::types::Raft;

use super::Host;
use crate::machine::RangeMachine;
use crate::snapshot;

impl Groups<RangeMachine> for Host {
    fn raft(&self, range: RangeId, replica: ReplicaId, leader: Option<Leader>) -> Option<Raft<RangeMachine>> {
        let running = self.replicas.get(&range)?;
        if running.id != replica {
            return None;
        }
        running.hear(leader);
        Some(running.raft.clone())
    }

    fn may_vote(&self, range: RangeId, replica: ReplicaId) -> bool {
        let running = self.replicas.get(&range).filter(|running| running.id == replica);
        running.is_some_and(|running| self.may_stand(&running))
    }

    fn accept_snapshot(&self, _: RangeId, replica: ReplicaId, _: &SnapshotHeader) -> Result<(), String> {
        if self.ledger.buried(replica) {
            return Err(format!("replica {replica} was destroyed here"));
        }
        if self.site.disk.refuses_puts() {
            return Err("the disk is nearly full".to_owned());
        }
        Ok(())
    }

    fn accept_file(&self, range: RangeId, replica: ReplicaId, file: &Path) -> Result<(), String> {
        let header = snapshot::read_header(file).map_err(|error| error.to_string())?;
        let span = &header.row.span;
        let held =
            |other: RangeId| format!("range {other} holds, or is to hold, part of {span} on this store");
        if let Some(other) = self.ledger.destroying_overlaps(span) {
            return Err(held(other));
        }
        self.site.ranges.reserve(range, replica, span).map_err(|other| {
            // Each of them: which can go first depends on the others.
            let overlapping: Vec<_> = self.site.ranges.overlapping(replica, span).collect();
            for dead in overlapping {
                self.make_way(dead, &header);
            }
            held(other)
        })
    }
}
