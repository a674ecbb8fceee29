//! Keeps the members of the placement driver's own group as the replicated state has them: whoever was admitted becomes a
//! learner, and a voter once it has caught up; whoever was removed leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_common::ids::{MemberId, ReplicaId, StoreId};
use holdfast_common::raft::types::Node;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;

use crate::member::Member;

/// Entries that a learner may lack and still become a voter.
const CAUGHT_UP_ENTRIES: u64 = 100;

/// Whether a change is under way: one at a time.
#[derive(Clone, Default)]
pub struct Roster(Arc<AtomicBool>);

/// What the group is now.
#[derive(Debug, Default)]
struct Present {
    voters: BTreeSet<ReplicaId>,
    learners: BTreeSet<ReplicaId>,
    /// Entries that each learner lacks, where that is known.
    lag: BTreeMap<ReplicaId, u64>,
    is_joint: bool,
}

/// What changes next, if anything: pure.
fn next(admitted: &BTreeSet<ReplicaId>, present: &Present) -> Option<ChangeMembers<ReplicaId, Node>> {
    if present.is_joint {
        // A leader left a change half done: any change completes it.
        return Some(ChangeMembers::AddVoterIds(BTreeSet::new()));
    }
    let new = admitted
        .iter()
        .find(|id| !present.voters.contains(id) && !present.learners.contains(id));
    if let Some(new) = new {
        let node = Node {
            store: StoreId(new.0),
        };
        return Some(ChangeMembers::AddNodes(BTreeMap::from([(*new, node)])));
    }
    let gone: BTreeSet<ReplicaId> = present.voters.difference(admitted).copied().collect();
    if !gone.is_empty() && gone.len() < present.voters.len() {
        return Some(ChangeMembers::RemoveVoters(gone));
    }
    let gone: BTreeSet<ReplicaId> = present.learners.difference(admitted).copied().collect();
    if !gone.is_empty() {
        return Some(ChangeMembers::RemoveNodes(gone));
    }
    let caught_up = |id: &&ReplicaId| present.lag.get(id).is_some_and(|lag| *lag <= CAUGHT_UP_ENTRIES);
    let ready: BTreeSet<ReplicaId> = present.learners.iter().filter(caught_up).copied().collect();
    (!ready.is_empty()).then_some(ChangeMembers::AddVoterIds(ready))
}

/// Begins the next change, if there is one to make and none under way.
pub fn keep(member: &Arc<Member>, roster: &Roster) {
    let members: BTreeSet<ReplicaId> = member
        .group
        .shared()
        .state()
        .members
        .keys()
        .map(replica)
        .collect();
    let Some(change) = next(&members, &present(member)) else {
        return;
    };
    if roster.0.swap(true, Ordering::AcqRel) {
        return;
    }
    let (member, roster) = (member.clone(), roster.clone());
    tokio::spawn(async move {
        tracing::info!(?change, "changing the placement driver's group");
        if let Err(error) = member.group.raft().change_membership(change, false).await {
            tracing::warn!(%error, "the placement driver's group was not changed; trying again");
        }
        roster.0.store(false, Ordering::Release);
    });
}

fn present(member: &Member) -> Present {
    let metrics = member.group.raft().metrics().borrow_watched().clone();
    let membership = metrics.membership_config.membership();
    let last = metrics.last_log_index.unwrap_or(0);
    let matched = metrics
        .replication
        .iter()
        .flatten()
        .filter_map(|(id, matched)| Some((*id, matched.as_ref()?.index)));
    Present {
        voters: membership.voter_ids().collect(),
        learners: membership.learner_ids().collect(),
        lag: matched
            .map(|(id, index)| (id, last.saturating_sub(index)))
            .collect(),
        is_joint: membership.get_joint_config().len() > 1,
    }
}

/// A member's number is its replica id in the group.
pub fn replica(member: &MemberId) -> ReplicaId {
    ReplicaId(member.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> BTreeSet<ReplicaId> {
        ids.iter().copied().map(ReplicaId).collect()
    }

    fn present(voters: &[u64], learners: &[u64], lag: u64) -> Present {
        let lag = learners.iter().map(|id| (ReplicaId(*id), lag)).collect();
        Present {
            voters: ids(voters),
            learners: ids(learners),
            lag,
            is_joint: false,
        }
    }

    #[test]
    fn who_is_admitted_learns_and_then_votes() {
        let admitted = ids(&[1, 2, 3]);
        let node = |id| BTreeMap::from([(ReplicaId(id), Node { store: StoreId(id) })]);
        assert_eq!(
            next(&admitted, &present(&[1], &[], 0)),
            Some(ChangeMembers::AddNodes(node(2)))
        );
        assert_eq!(
            next(&admitted, &present(&[1], &[2], 0)),
            Some(ChangeMembers::AddNodes(node(3)))
        );
        assert_eq!(
            next(&admitted, &present(&[1], &[2, 3], 1_000)),
            None,
            "they lack too much"
        );
        let both = Some(ChangeMembers::AddVoterIds(ids(&[2, 3])));
        assert_eq!(next(&admitted, &present(&[1], &[2, 3], 5)), both);
        assert_eq!(next(&admitted, &present(&[1, 2, 3], &[], 0)), None);
    }

    #[test]
    fn who_is_removed_leaves_and_somebody_stays() {
        let removed = Some(ChangeMembers::RemoveVoters(ids(&[2])));
        assert_eq!(next(&ids(&[1, 3]), &present(&[1, 2, 3], &[], 0)), removed);
        let removed = Some(ChangeMembers::RemoveNodes(ids(&[2])));
        assert_eq!(next(&ids(&[1]), &present(&[1], &[2], 0)), removed);
        assert_eq!(next(&ids(&[]), &present(&[1], &[], 0)), None);
    }

    #[test]
    fn a_change_left_half_done_is_completed_first() {
        let joint = Present {
            is_joint: true,
            ..present(&[1, 2], &[], 0)
        };
        assert_eq!(
            next(&ids(&[1, 2, 3]), &joint),
            Some(ChangeMembers::AddVoterIds(ids(&[])))
        );
    }
}
