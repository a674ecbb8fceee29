//! Watches over one group: its leadership, and whether it runs at all.

use std::sync::Arc;

use holdfast_common::raft::types::TypeConfig;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::metrics::RaftServerMetrics;

use super::Replica;
use super::writes::stopping;
use crate::metrics;
use crate::read::lease::Voting;

/// Runs until the replica is stopped. Woken only when the vote, the state, the leader, the membership or the
/// bounds change.
pub(super) async fn run(replica: Arc<Replica>) {
    let mut states = replica.raft.server_metrics();
    let mut led = false;
    loop {
        let leads = leads(&replica, &states.borrow_watched());
        if leads != led {
            led = leads;
            leadership_changed(&replica, leads);
        }
        if replica.standing().voting == Voting::Alone {
            // Nobody else could hold a lease that it may have granted before a restart.
            replica.allow_elections();
        }
        replica.site.changed.notify_one();
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

fn leadership_changed(replica: &Replica, leads: bool) {
    let (range, id, term) = (replica.range, replica.id, replica.term());
    metrics::leadership_changed(leads);
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
