//! Watches over one group: its leadership, and whether it runs at all.

use std::sync::Arc;

use holdfast_common::raft::types::TypeConfig;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::metrics::RaftServerMetrics;

use super::Replica;
use super::writes::stopping;
use crate::metrics::{self, Election, Role};
use crate::read::lease::Voting;

/// Runs until the replica is stopped. Woken only when the vote, the state, the leader, the membership or the
/// bounds change.
pub(super) async fn run(replica: Arc<Replica>) {
    let mut states = replica.raft.server_metrics();
    let mut led = false;
    let mut stood = None;
    loop {
        let standing = standing(&states.borrow_watched());
        observe(stood, standing);
        stood = standing;
        let leads = leads(&replica, &states.borrow_watched());
        if leads != led {
            led = leads;
            if leads {
                replica.note_leadership();
            }
            leadership_changed(&replica, leads);
        }
        if replica.standing().voting == Voting::Alone {
            // Nobody else could hold a lease that it may have granted before a restart.
            replica.allow_elections();
        }
        replica.site.changed.notify_one();
        replica.wake_if_changed();
        replica.resume_merge();
        tokio::select! {
            biased;
            () = replica.stopped.cancelled() => return,
            () = replica.merging.notified() => {}
            changed = states.changed() => if changed.is_err() {
                return group_ended(&replica);
            },
        }
    }
}

fn leads(replica: &Replica, state: &RaftServerMetrics<TypeConfig>) -> bool {
    state.state.is_leader() && state.current_leader == Some(replica.id)
}

/// What a replica is in its group, and in which term; nothing once it is stopped.
type Stood = Option<(Role, u64)>;

fn standing(state: &RaftServerMetrics<TypeConfig>) -> Stood {
    let role = match state.state {
        ServerState::Leader => Role::Leader,
        ServerState::Candidate => Role::Candidate,
        ServerState::Follower => Role::Follower,
        ServerState::Learner => Role::Learner,
        ServerState::Shutdown => return None,
    };
    Some((role, state.vote.leader_id().term))
}

fn observe(before: Stood, now: Stood) {
    let Some((role, _)) = now else { return };
    if before.map(|(role, _)| role) != now.map(|(role, _)| role) {
        metrics::became(role);
    }
    if let Some(ended) = election(before, now) {
        metrics::elected(ended);
    }
}

/// The election that ended between two looks. Who leads has won one, also if the standing for it was not seen.
fn election(before: Stood, now: Stood) -> Option<Election> {
    match (before?, now?) {
        ((Role::Leader, term), (Role::Leader, now)) if term == now => None,
        (_, (Role::Leader, _)) => Some(Election::Won),
        ((Role::Candidate, _), (Role::Follower | Role::Learner, _)) => Some(Election::Lost),
        ((Role::Candidate, term), (Role::Candidate, now)) if term < now => Some(Election::TimedOut),
        _ => None,
    }
}

fn leadership_changed(replica: &Replica, leads: bool) {
    let (range, id, term) = (replica.range, replica.id, replica.term());
    if leads {
        tracing::info!(%range, replica = %id, term, "this replica leads the range");
    } else {
        tracing::info!(%range, replica = %id, term, "this replica leads the range no more");
        // What was not proposed can go to the next leader at once.
        replica.turn_away(&replica.not_leader());
    }
}

/// The group's task is gone without having been told to stop: what it was about is not known, and the process must not
/// go on with a part of its state missing.
fn group_ended(replica: &Replica) {
    replica.turn_away(&stopping());
    let why = match &replica.metrics.borrow_watched().running_state {
        Ok(()) | Err(Fatal::Stopped) => "it stopped".to_owned(),
        Err(fatal) => fatal.to_string(),
    };
    if !replica.is_stopped() {
        replica
            .site
            .alarm
            .raise(format!("the Raft group of range {} failed: {why}", replica.range));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_election_is_won_lost_or_without_a_winner() {
        let ended = |before, now| election(Some(before), Some(now));
        assert_eq!(
            ended((Role::Candidate, 2), (Role::Leader, 2)),
            Some(Election::Won)
        );
        assert_eq!(ended((Role::Follower, 1), (Role::Leader, 2)), Some(Election::Won));
        assert_eq!(ended((Role::Leader, 2), (Role::Leader, 2)), None);
        assert_eq!(
            ended((Role::Candidate, 2), (Role::Follower, 2)),
            Some(Election::Lost)
        );
        assert_eq!(
            ended((Role::Candidate, 2), (Role::Candidate, 3)),
            Some(Election::TimedOut)
        );
        assert_eq!(ended((Role::Candidate, 2), (Role::Candidate, 2)), None);
        assert_eq!(ended((Role::Follower, 2), (Role::Candidate, 3)), None);
        assert_eq!(election(None, Some((Role::Follower, 1))), None);
    }
}
