//! What the placement driver tells a store to do.
//!
//! A step names the state that it starts from, so that one that is repeated, or late, does nothing: the driver sends a step
//! again and again until the heartbeats show that it is done. Steps for a range's leader are carried out one at a time.
//! What can't be done now is answered Busy; what can never be done, Refused.

mod absorb;
mod members;
mod merge;
mod propose;
mod split;
mod transfer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::ids::RangeId;
use holdfast_common::proto::placement::{Step, StepError};
use holdfast_common::raft::types::TypeConfig;
use openraft::errors::{ChangeMembershipError, ClientWriteError, ForwardReason, RaftError};

use crate::host::Host;
use crate::metrics::Cause;
use crate::replica::Replica;

pub(crate) use split::Order as SplitOrder;

/// Longest time that a step may take. One that takes longer is given up, and safely begun again.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);

impl Host {
    /// Carries out a step, and returns when it is done.
    ///
    /// # Errors
    /// It was not, or not wholly, carried out.
    pub(crate) async fn take_step(self: &Arc<Self>, step: Step) -> Result<(), StepError> {
        match step {
            Step::CreateFirst { range, replica } => self.create_first(range, replica).await,
            Step::CreateReplica { range, replica } => self.create_empty(range, replica).await,
            Step::DestroyReplica { range, replica } => self.destroy(range, replica).await,
            Step::Recover { range, order } => self.recover(range, *order).await,
            Step::Fence { range, replica } => self.fence(range, replica).await,
            led => {
                let replica = self
                    .replica(led.range())
                    .ok_or(StepError::NoSuchRange(led.range()))?;
                self.may_change(&replica, &led)?;
                let taken = clock::timeout(STEP_TIMEOUT, replica.take_step(led));
                taken
                    .await
                    .unwrap_or_else(|_| Err(StepError::Busy("it takes long and is begun again".to_owned())))
            }
        }
    }
}

impl Replica {
    /// Carries out a step for the range's leader.
    async fn take_step(self: &Arc<Self>, step: Step) -> Result<(), StepError> {
        if !self.leads() {
            return Err(StepError::NotLeader(self.range));
        }
        if let Step::Merge { bounds, .. } = step {
            // It outlasts the patience of whoever asked, and takes its slot itself.
            return self.merge(bounds).await;
        }
        let _slot = self.begin_step()?;
        match step {
            Step::AddLearner { replica, .. } => self.add_learner(replica).await,
            Step::ChangeVoters { change, .. } => self.change_voters(&change).await,
            Step::TransferLeader { to, .. } => self.hand_over(to).await,
            Step::Split {
                bounds,
                at,
                right,
                replicas,
                ..
            } => {
                self.split(SplitOrder {
                    bounds,
                    at,
                    right,
                    replicas,
                    alone: false,
                })
                .await
            }
            Step::CreateFirst { .. }
            | Step::CreateReplica { .. }
            | Step::DestroyReplica { .. }
            | Step::Merge { .. } => Err(StepError::Refused("not a step for a leader".to_owned())),
            Step::Recover { .. } | Step::Fence { .. } => {
                Err(StepError::Refused("not a step for a leader".to_owned()))
            }
        }
    }

    /// Makes sure that no other step of this replica is under way until the slot is dropped.
    pub(crate) fn begin_step(&self) -> Result<Slot<'_>, StepError> {
        if self.stepping.swap(true, Ordering::SeqCst) {
            return Err(StepError::Busy("another step is under way".to_owned()));
        }
        self.wake(Cause::Step);
        Ok(Slot(&self.stepping))
    }
}

/// The right to change a range.
pub(crate) struct Slot<'a>(&'a AtomicBool);

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What openraft's refusal means for a step.
fn step_error(range: RangeId, error: RaftError<TypeConfig, ClientWriteError<TypeConfig>>) -> StepError {
    let busy = |why: &str| StepError::Busy(why.to_owned());
    match error {
        RaftError::Fatal(_) => busy("the replica is stopping"),
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => match forward.reason {
            ForwardReason::LeaseExpired => busy("the leader has no lease"),
            ForwardReason::LeadershipTransfer => busy("the leadership is being handed over"),
            ForwardReason::NotLeader => StepError::NotLeader(range),
        },
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => {
            busy("the leadership was lost meanwhile")
        }
        RaftError::APIError(ClientWriteError::PreconditionFailed(_)) => {
            busy("the membership changed meanwhile")
        }
        RaftError::APIError(ClientWriteError::ChangeMembershipError(error)) => match error {
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_) => {
                busy("a change of membership is under way")
            }
            other => StepError::Refused(other.to_string()),
        },
    }
}
