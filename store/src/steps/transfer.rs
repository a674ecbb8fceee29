//! Handing a leadership over.
//!
//! openraft's transfer is fire and forget: the leader stops taking writes for the rest of its term, whether or not the
//! other is elected. So the other must be live, caught up and free to vote before it is started; and if it does not take
//! over all the same, because it was killed in that moment, this replica asks another, for as long as it leads. A
//! transfer's voters ignore the lease, so this replica gives its lease up first.

use std::sync::Arc;
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
    pub(crate) async fn hand_over(self: &Arc<Self>, to: ReplicaId) -> Result<(), StepError> {
        if to == self.id {
            return Ok(());
        }
        if !self.membership().voter_ids().any(|voter| voter == to) {
            return Err(StepError::Refused(format!(
                "replica {to} is not a voter of range {}",
                self.range
            )));
        }
        // An answer just now: one that was killed a moment ago still counts as live.
        let is_there = self.answers(to, self.site.dormitory.heartbeat).await;
        let peer = self.peers().into_iter().find(|peer| peer.id == to);
        if !is_there || !peer.is_some_and(|peer| self.can_take_over(&peer)) {
            return Err(StepError::Busy(format!(
                "replica {to} is not live, not caught up or was just started"
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
            .filter(|peer| self.can_take_over(peer) && stays(&peer.id));
        fit.filter(|peer| !except.contains(&peer.id))
            .min_by_key(|peer| peer.lag)
            .map(|peer| peer.id)
    }

    /// Begins a transfer, fit or not, and waits until the leadership has left this replica.
    ///
    /// # Errors
    /// It has not, for long. It is still to leave.
    pub(crate) async fn transfer(self: &Arc<Self>, to: ReplicaId) -> Result<(), StepError> {
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
        let seen_off = tokio::spawn(self.clone().see_off(to));
        match clock::timeout(2 * self.site.terms.lease, seen_off).await {
            Ok(_) => Ok(()),
            Err(_) => Err(StepError::Busy(format!("replica {to} did not take over"))),
        }
    }

    /// Asks one after the other to take over until somebody has: a leader that has begun a transfer is of no more use.
    async fn see_off(self: Arc<Self>, to: ReplicaId) {
        let patience = 2 * self.site.dormitory.heartbeat;
        let mut asked = to;
        while !self.leadership_leaves(patience).await {
            let Some(next) = self.successor(&[asked]).or_else(|| self.successor(&[])) else {
                continue;
            };
            tracing::info!(range = %self.range, %asked, %next, "a leadership was not taken over: another is asked");
            asked = next;
            if self.raft.trigger().transfer_leader(next).await.is_err() {
                return;
            }
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

    fn can_take_over(&self, peer: &Peer) -> bool {
        let fit = peer.live && peer.lag.is_some_and(|lag| lag <= MAX_LAG);
        fit && !self.is_just_started(peer.id)
    }
}
