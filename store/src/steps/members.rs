//! Changing who holds a range.
//!
//! What to propose is decided by a pure function of the newest configuration, so a step can be repeated at any point of
//! the change: a learner that is there already is not added again, and a joint configuration that an earlier leader left
//! behind is completed first.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_common::failpoint::{self, Step};
use holdfast_common::ids::ReplicaId;
use holdfast_common::proto::placement::{StepError, VoterChange};
use holdfast_common::raft::types::{Membership, Node, StoredMembership};
use holdfast_common::range::Replica as Member;
use openraft::ChangeMembers;
use openraft::raft::Precondition;

use super::step_error;
use crate::replica::Replica;

/// Most entries that a learner may lack when it becomes a voter: a majority that needs it waits for it to catch up.
const MAX_LEARNER_LAG: u64 = 1_024;

/// What a change of voters takes next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Nothing: it is done.
    Nothing,
    /// End the joint configuration.
    Complete,
    /// This leader is to leave: another must lead first.
    HandOver,
    /// Propose this.
    Propose(ChangeMembers<ReplicaId, Node>),
}

impl Replica {
    /// Adds a learner.
    pub(super) async fn add_learner(&self, member: Member) -> Result<(), StepError> {
        let membership = self.membership();
        match membership.get_node(&member.id) {
            Some(node) if node.store == member.store => return Ok(()),
            Some(node) => {
                return Err(refused(format!(
                    "replica {} is on store {}",
                    member.id, node.store
                )));
            }
            None if membership.get_joint_config().len() > 1 => {
                return Err(StepError::Busy("a change of membership is under way".to_owned()));
            }
            None => {}
        }
        let added = self
            .raft
            .add_learner(member.id, Node { store: member.store }, false)
            .await;
        added.map_err(|error| step_error(self.range, error))?;
        failpoint::reached(Step::MembersChanged);
        Ok(())
    }

    /// Makes learners voters and drops replicas.
    pub(super) async fn change_voters(self: &Arc<Self>, wanted: &VoterChange) -> Result<(), StepError> {
        let mut newest = self.stored_membership();
        loop {
            let change = match next(newest.membership(), self.id, wanted)? {
                Next::Nothing => return Ok(()),
                Next::HandOver => return self.make_way(&wanted.remove).await,
                Next::Complete => ChangeMembers::AddVoterIds(BTreeSet::new()),
                Next::Propose(change) => {
                    self.check_learners(&wanted.promote)?;
                    change
                }
            };
            // What was decided holds for the configuration that was looked at, and for no other.
            let unchanged = Precondition::LastMembershipLogId {
                last_membership_log_id: *newest.log_id(),
            };
            let changed = self.raft.change_membership_if(change, false, [unchanged]).await;
            let changed = changed.map_err(|error| step_error(self.range, error))?;
            failpoint::reached(Step::MembersChanged);
            newest = match changed.membership {
                Some(membership) => Arc::new(StoredMembership::new(Some(changed.log_id), membership)),
                None => self.stored_membership(),
            };
        }
    }

    /// Learners that are to vote must keep up.
    fn check_learners(&self, promote: &[ReplicaId]) -> Result<(), StepError> {
        let peers = self.peers();
        let behind = |id: &&ReplicaId| {
            let peer = peers.iter().find(|peer| peer.id == **id);
            !peer.is_some_and(|peer| peer.live && peer.lag.is_some_and(|lag| lag <= MAX_LEARNER_LAG))
        };
        match promote.iter().filter(|id| **id != self.id).find(behind) {
            Some(id) => Err(StepError::Busy(format!("replica {id} is not caught up"))),
            None => Ok(()),
        }
    }

    /// Hands the leadership to a voter that stays. The step is then the next leader's.
    async fn make_way(self: &Arc<Self>, remove: &[ReplicaId]) -> Result<(), StepError> {
        let to = self.successor(remove);
        let to = to.ok_or_else(|| StepError::Busy("no voter that stays can take over".to_owned()))?;
        self.hand_over(to).await?;
        Err(StepError::NotLeader(self.range))
    }
}

fn next(membership: &Membership, leader: ReplicaId, wanted: &VoterChange) -> Result<Next, StepError> {
    let [voters] = membership.get_joint_config().as_slice() else {
        return Ok(Next::Complete);
    };
    if let Some(unknown) = wanted.promote.iter().find(|id| membership.get_node(id).is_none()) {
        return Err(refused(format!(
            "replica {unknown} is not a learner of the range"
        )));
    }
    let added: BTreeSet<_> = wanted
        .promote
        .iter()
        .copied()
        .filter(|id| !voters.contains(id))
        .collect();
    let members = wanted
        .remove
        .iter()
        .copied()
        .filter(|id| membership.get_node(id).is_some());
    let (dropped, learners): (BTreeSet<_>, BTreeSet<_>) = members.partition(|id| voters.contains(id));
    if added.is_empty() && dropped.is_empty() && learners.is_empty() {
        return Ok(Next::Nothing);
    }
    if !voters.iter().eq(&wanted.from) {
        return Err(refused(format!(
            "the voters are {voters:?} by now: the change was planned for others"
        )));
    }
    if voters.iter().chain(&added).all(|id| dropped.contains(id)) {
        return Err(refused("no voter would be left".to_owned()));
    }
    if dropped.contains(&leader) {
        return Ok(Next::HandOver);
    }
    let mut changes = Vec::new();
    if !added.is_empty() {
        changes.push(ChangeMembers::AddVoterIds(added));
    }
    if !dropped.is_empty() {
        changes.push(ChangeMembers::RemoveVoters(dropped));
    }
    if !learners.is_empty() {
        changes.push(ChangeMembers::RemoveNodes(learners));
    }
    Ok(Next::Propose(ChangeMembers::Batch(changes)))
}

fn refused(why: String) -> StepError {
    StepError::Refused(why)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use holdfast_common::ids::StoreId;

    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<ReplicaId> {
        ids.iter().copied().map(ReplicaId).collect()
    }

    fn membership(configs: &[&[u64]], members: &[u64]) -> Membership {
        let nodes: BTreeMap<_, _> = members
            .iter()
            .map(|&id| (ReplicaId(id), Node { store: StoreId(id) }))
            .collect();
        Membership::new(configs.iter().map(|voters| ids(voters)).collect(), nodes).unwrap()
    }

    fn plan(
        membership: &Membership,
        from: &[u64],
        promote: &[u64],
        remove: &[u64],
    ) -> Result<Next, StepError> {
        let list = |ids: &[u64]| ids.iter().copied().map(ReplicaId).collect::<Vec<_>>();
        let wanted = VoterChange {
            from: list(from),
            promote: list(promote),
            remove: list(remove),
        };
        next(membership, ReplicaId(1), &wanted)
    }

    #[test]
    fn a_replacement_is_one_change() {
        let three_and_a_learner = membership(&[&[1, 2, 3]], &[1, 2, 3, 4]);
        let expected = vec![
            ChangeMembers::AddVoterIds(ids(&[4])),
            ChangeMembers::RemoveVoters(ids(&[3])),
        ];
        assert_eq!(
            plan(&three_and_a_learner, &[1, 2, 3], &[4], &[3]),
            Ok(Next::Propose(ChangeMembers::Batch(expected)))
        );
    }

    #[test]
    fn a_learner_that_leaves_was_never_a_voter() {
        let three_and_a_learner = membership(&[&[1, 2, 3]], &[1, 2, 3, 4]);
        let expected = vec![ChangeMembers::RemoveNodes(ids(&[4]))];
        assert_eq!(
            plan(&three_and_a_learner, &[1, 2, 3], &[], &[4]),
            Ok(Next::Propose(ChangeMembers::Batch(expected)))
        );
    }

    #[test]
    fn what_is_done_is_not_done_again() {
        assert_eq!(
            plan(&membership(&[&[1, 2, 4]], &[1, 2, 4]), &[1, 2, 3], &[4], &[3]),
            Ok(Next::Nothing)
        );
    }

    #[test]
    fn a_joint_configuration_is_completed_first() {
        let joint = membership(&[&[1, 2, 3], &[1, 2, 4]], &[1, 2, 3, 4]);
        assert_eq!(plan(&joint, &[1, 2, 3], &[4], &[3]), Ok(Next::Complete));
        assert_eq!(plan(&joint, &[1, 2, 3], &[], &[]), Ok(Next::Complete));
    }

    #[test]
    fn a_leader_that_is_to_leave_makes_way_first() {
        assert_eq!(
            plan(&membership(&[&[1, 2, 3]], &[1, 2, 3, 4]), &[1, 2, 3], &[4], &[1]),
            Ok(Next::HandOver)
        );
    }

    #[test]
    fn a_change_that_was_planned_for_other_voters_is_refused() {
        let moved_on = membership(&[&[1, 2, 4]], &[1, 2, 4, 5]);
        let refused = plan(&moved_on, &[1, 2, 3], &[5], &[1]);
        assert!(matches!(refused, Err(StepError::Refused(_))), "{refused:?}");
        let refused = plan(&moved_on, &[1, 2, 3], &[], &[4]);
        assert!(matches!(refused, Err(StepError::Refused(_))), "{refused:?}");
    }

    #[test]
    fn the_last_voter_never_leaves_and_strangers_never_vote() {
        assert!(matches!(
            plan(&membership(&[&[1]], &[1]), &[1], &[], &[1]),
            Err(StepError::Refused(_))
        ));
        assert!(matches!(
            plan(&membership(&[&[1]], &[1]), &[1], &[9], &[]),
            Err(StepError::Refused(_))
        ));
    }
}
