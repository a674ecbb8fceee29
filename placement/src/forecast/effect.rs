//! What an operator comes to, once all its steps are done.

use holdfast_common::ids::StoreId;
use holdfast_common::proto::placement::VoterChange;
use holdfast_common::range::{Descriptor, Role};

use crate::operator::{Action, Operator};

/// The range and its leader's store after the operator; none for one that does more than to change places.
pub(super) fn of(
    operator: &Operator,
    before: &Descriptor,
    leader: Option<StoreId>,
) -> Option<(Descriptor, Option<StoreId>)> {
    let (mut range, mut leader) = (before.clone(), leader);
    for action in operator.steps.get(operator.current..)? {
        match action {
            Action::CreateReplica { .. } | Action::CatchUp { .. } | Action::DestroyReplica { .. } => {}
            Action::AddLearner { replica } => {
                if range.replica(replica.id).is_none() {
                    range.replicas.push(*replica);
                }
            }
            Action::ChangeVoters(change) => change_voters(&mut range, change),
            Action::TransferLeader { to } => leader = Some(to.store),
            _ => return None,
        }
    }
    range.replicas.sort_unstable_by_key(|replica| replica.id);
    if range.replicas != before.replicas {
        range.epoch.membership += 1;
    }
    // A leader that leaves hands over to one that stays.
    let voters = || {
        range
            .replicas
            .iter()
            .filter(|replica| replica.role == Role::Voter)
    };
    if leader.is_some_and(|leader| voters().all(|voter| voter.store != leader)) {
        leader = voters().next().map(|voter| voter.store);
    }
    Some((range, leader))
}

fn change_voters(range: &mut Descriptor, change: &VoterChange) {
    range
        .replicas
        .retain(|replica| !change.remove.contains(&replica.id));
    for replica in &mut range.replicas {
        if change.promote.contains(&replica.id) {
            replica.role = Role::Voter;
        }
    }
}
