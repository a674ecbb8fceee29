//! Handing a leadership over.
//!
//! openraft's transfer is fire and forget: the leader stops taking writes for the rest of its term, whether or not the
//! other is elected. So the other must be live and caught up before it is started. And its voters ignore the lease, so
//! this replica gives its lease up first.

use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::ids::ReplicaId;
use holdfast_common::proto::placement::StepError;
use openraft::async_runtime::watch::WatchReceiver;

use crate::replica::{Peer, Replica};

/// Most entries that the next leader may lack: it is sent them before it campaigns, while nobody takes writes.
const MAX_LAG: u64 = 256;

impl Replica {
    /// Hands the leadership to the voter `to`, and waits until it has left this replica.
    ///
    /// # Errors
    /// `to` can't take over, or did not.
    pub(crate) async fn hand_over(&self, to: ReplicaId) -> Result<(), StepError> {
        if to == self.id {
            return Ok(());
        }
        if !self.membership().voter_ids().any(|voter| voter == to) {
            return Err(StepError::Refused(format!(
                "replica {to} is not a voter of range {}",
                self.range
            )));
        }
        let peer = self.peers().into_iter().find(|peer| peer.id == to);
        if !peer.is_some_and(|peer| can_take_over(&peer)) {
            return Err(StepError::Busy(format!(
                "replica {to} is not live or not caught up"
            )));
        }
        self.transfer(to).await
    }

    /// The voter that may best take over, other than those of `except`.
    pub(crate) fn successor(&self, except: &[ReplicaId]) -> Option<ReplicaId> {
        let membership = self.membership();
        // A voter of every configuration: one that is leaving must not be chosen.
        let stays = |id: &ReplicaId| {
            membership
                .get_joint_config()
                .iter()
                .all(|voters| voters.contains(id))
        };
        let fit = self
            .peers()
            .into_iter()
            .filter(|peer| can_take_over(peer) && stays(&peer.id));
        fit.filter(|peer| !except.contains(&peer.id))
            .min_by_key(|peer| peer.lag)
            .map(|peer| peer.id)
    }

    async fn transfer(&self, to: ReplicaId) -> Result<(), StepError> {
        let stopping = |_| StepError::Busy("the replica is stopping".to_owned());
        self.renounce_leases();
        let started = self.raft.trigger().transfer_leader(to).await;
        // The core takes its messages in order: by now it has started the transfer, in this term or an earlier one.
        let term = self
            .raft
            .with_raft_state(|state| state.vote_ref().leader_id().term)
            .await;
        self.renounce_lease(*term.as_ref().unwrap_or(&u64::MAX));
        started.and(term).map_err(stopping)?;
        if self.leadership_leaves(2 * self.site.terms.lease).await {
            Ok(())
        } else {
            Err(StepError::Busy(format!("replica {to} did not take over")))
        }
    }

    /// Waits until this replica leads no more; false when it still does after `patience`.
    async fn leadership_leaves(&self, patience: Duration) -> bool {
        let mut states = self.raft.server_metrics();
        let left = async {
            while states.borrow_watched().current_leader == Some(self.id) {
                if states.changed().await.is_err() {
                    return;
                }
            }
        };
        clock::timeout(patience, left).await.is_ok()
    }
}

fn can_take_over(peer: &Peer) -> bool {
    peer.live && peer.lag.is_some_and(|lag| lag <= MAX_LAG)
}
