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

/// What changes next, if anything: pure. `admitted` tells of each member whether its replica runs.
fn next(admitted: &BTreeMap<ReplicaId, bool>, present: &Present) -> Option<ChangeMembers<ReplicaId, Node>> {
    if present.is_joint {
        // A leader left a change half done: any change completes it.
        return Some(ChangeMembers::AddVoterIds(BTreeSet::new()));
    }
    let is_present = |id| present.voters.contains(id) || present.learners.contains(id);
    let new = admitted
        .iter()
        .find(|(id, is_running)| **is_running && !is_present(id));
    if let Some((new, _)) = new {
        let node = Node {
            store: StoreId(new.0),
        };
        return Some(ChangeMembers::AddNodes(BTreeMap::from([(*new, node)])));
    }
    let gone = |members: &BTreeSet<ReplicaId>| -> BTreeSet<ReplicaId> {
        members
            .iter()
            .filter(|id| !admitted.contains_key(id))
            .copied()
            .collect()
    };
    let voters = gone(&present.voters);
    if !voters.is_empty() && voters.len() < present.voters.len() {
        return Some(ChangeMembers::RemoveVoters(voters));
    }
    let learners = gone(&present.learners);
    if !learners.is_empty() {
        return Some(ChangeMembers::RemoveNodes(learners));
    }
    let caught_up = |id: &&ReplicaId| present.lag.get(id).is_some_and(|lag| *lag <= CAUGHT_UP_ENTRIES);
    let ready: BTreeSet<ReplicaId> = present.learners.iter().filter(caught_up).copied().collect();
    (!ready.is_empty()).then_some(ChangeMembers::AddVoterIds(ready))
}

/// Begins the next change, if there is one to make and none under way.
pub fn keep(member: &Arc<Member>, roster: &Roster) {
    let members: BTreeMap<ReplicaId, bool> = {
        let state = member.group.shared().state();
        let members = state.members.iter();
        members
            .map(|(id, member)| (replica(id), member.is_running))
            .collect()
    };
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

    fn admitted(ids: &[u64]) -> BTreeMap<ReplicaId, bool> {
        ids.iter().map(|id| (ReplicaId(*id), true)).collect()
    }

    #[test]
    fn who_is_admitted_learns_and_then_votes() {
        let three = admitted(&[1, 2, 3]);
        let node = |id| BTreeMap::from([(ReplicaId(id), Node { store: StoreId(id) })]);
        assert_eq!(
            next(&three, &present(&[1], &[], 0)),
            Some(ChangeMembers::AddNodes(node(2)))
        );
        assert_eq!(
            next(&three, &present(&[1], &[2], 0)),
            Some(ChangeMembers::AddNodes(node(3)))
        );
        assert_eq!(
            next(&three, &present(&[1], &[2, 3], 1_000)),
            None,
            "they lack too much"
        );
        let both = Some(ChangeMembers::AddVoterIds(ids(&[2, 3])));
        assert_eq!(next(&three, &present(&[1], &[2, 3], 5)), both);
        assert_eq!(next(&three, &present(&[1, 2, 3], &[], 0)), None);
    }

    #[test]
    fn who_does_not_run_yet_is_waited_for() {
        let mut two = admitted(&[1]);
        two.insert(ReplicaId(2), false);
        assert_eq!(next(&two, &present(&[1], &[], 0)), None);
        assert_eq!(next(&two, &present(&[1, 2], &[], 0)), None, "nor is it removed");
    }

    #[test]
    fn who_is_removed_leaves_and_somebody_stays() {
        let removed = Some(ChangeMembers::RemoveVoters(ids(&[2])));
        assert_eq!(next(&admitted(&[1, 3]), &present(&[1, 2, 3], &[], 0)), removed);
        let removed = Some(ChangeMembers::RemoveNodes(ids(&[2])));
        assert_eq!(next(&admitted(&[1]), &present(&[1], &[2], 0)), removed);
        assert_eq!(next(&admitted(&[]), &present(&[1], &[], 0)), None);
    }

    #[test]
    fn a_change_left_half_done_is_completed_first() {
        let joint = Present {
            is_joint: true,
            ..present(&[1, 2], &[], 0)
        };
        assert_eq!(
            next(&admitted(&[1, 2, 3]), &joint),
            Some(ChangeMembers::AddVoterIds(ids(&[])))
        );
    }
}
