//! The snapshots being received: which transfer of which replica is the current one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::Groups;
use super::transfer::{Step, Transfer};
use crate::ids::{RangeId, ReplicaId};
use crate::net::Reply;
use crate::proto::raft::{Refusal, Route, SnapshotHeader, SnapshotMessage};
use crate::raft::network::{Staging, metrics};
use crate::raft::types::{SnapshotData, TypeConfig};

/// Messages of one transfer that may wait: more than a sender has under way.
const MAX_WAITING: usize = 16;

/// All transfers under way, one for each replica at most.
pub(super) struct Snapshots<SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    groups: Arc<dyn Groups<SM>>,
    staging: Arc<Staging>,
    metrics: metrics::Snapshots,
    transfers: Mutex<HashMap<(RangeId, ReplicaId), Current>>,
}

/// The transfer that a replica is receiving.
struct Current {
    transfer: u64,
    term: u64,
    steps: mpsc::Sender<Step>,
}

impl<SM> Snapshots<SM>
where
    SM: RaftStateMachine<TypeConfig, SnapshotData = SnapshotData>,
{
    pub(super) fn new(
        groups: Arc<dyn Groups<SM>>,
        staging: Arc<Staging>,
        metrics: metrics::Snapshots,
    ) -> Self {
        Self {
            groups,
            staging,
            metrics,
            transfers: Mutex::default(),
        }
    }

    /// Takes one message of a transfer, or gives the reply back with the reason to refuse.
    pub(super) fn handle(&self, message: SnapshotMessage, reply: Reply) -> Result<(), (Reply, Refusal)> {
        match message {
            SnapshotMessage::Offer(header) => self.offer(header, reply),
            SnapshotMessage::Chunk(chunk) => {
                let (route, transfer) = (chunk.route, chunk.transfer);
                self.step(
                    route,
                    transfer,
                    Step::Chunk {
                        offset: chunk.offset,
                        data: chunk.data,
                        reply,
                    },
                )
            }
            SnapshotMessage::Install { route, transfer } => {
                self.step(route, transfer, Step::Install { reply })
            }
        }
    }

    /// Begins a transfer, or tells how far it has come. One that was offered by a later leader, or later by the same
    /// leader, takes the place of the one before.
    fn offer(&self, header: SnapshotHeader, reply: Reply) -> Result<(), (Reply, Refusal)> {
        let Route { range, to, .. } = header.route;
        let mut transfers = self.transfers.lock();
        transfers.retain(|_, current| !current.steps.is_closed());
        if let Entry::Occupied(current) = transfers.entry((range, to)) {
            if current.get().transfer == header.transfer {
                return current.get().send(Step::Offer { reply });
            }
            if current.get().term > header.term {
                return Err((
                    reply,
                    Refusal::Snapshot("a later leader is sending one".to_owned()),
                ));
            }
            // Ends when it finds that nobody can send to it any more.
            current.remove();
        }
        let (transfer, term) = (header.transfer, header.term);
        let receiving = match self.begin(header) {
            Ok(receiving) => receiving,
            Err(refusal) => return Err((reply, refusal)),
        };
        let (steps, inbox) = mpsc::channel(MAX_WAITING);
        tokio::spawn(receiving.run(inbox));
        let current = Current {
            transfer,
            term,
            steps,
        };
        let begun = current.send(Step::Offer { reply });
        transfers.insert((range, to), current);
        begun
    }

    fn begin(&self, header: SnapshotHeader) -> Result<Transfer<SM>, Refusal> {
        let Route { range, to, .. } = header.route;
        let raft = self.groups.raft(range, to, None).ok_or(Refusal::UnknownReplica)?;
        self.groups
            .accept_snapshot(range, to, &header)
            .map_err(Refusal::Snapshot)?;
        let permit = self
            .staging
            .incoming
            .clone()
            .try_acquire_owned()
            .map_err(|_| Refusal::Busy)?;
        let file = self.staging.file("staged");
        Ok(Transfer::new(
            self.groups.clone(),
            raft,
            header,
            file,
            permit,
            self.metrics.clone(),
        ))
    }

    fn step(&self, route: Route, transfer: u64, step: Step) -> Result<(), (Reply, Refusal)> {
        match self.transfers.lock().get(&(route.range, route.to)) {
            Some(current) if current.transfer == transfer => current.send(step),
            // The sender offers it again and learns where to begin.
            _ => Err((
                step.into_reply(),
                Refusal::Snapshot("no such transfer is under way".to_owned()),
            )),
        }
    }
}

impl Current {
    fn send(&self, step: Step) -> Result<(), (Reply, Refusal)> {
        self.steps.try_send(step).map_err(|error| match error {
            mpsc::error::TrySendError::Full(step) => (step.into_reply(), Refusal::Busy),
            mpsc::error::TrySendError::Closed(step) => (
                step.into_reply(),
                Refusal::Snapshot("the transfer has ended".to_owned()),
            ),
        })
    }
}
