//! How far a replica that does not lead is behind, for stale reads.
//!
//! A follower that has applied everything its leader called committed was up to date when it last heard from that leader.
//! openraft knows when that was, in its core; asking the core for every read would cost more than the read, so what it said
//! is good for a moment: an answer that is a little old only makes the staleness a little larger than it is.

use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;

use super::Replica;
use crate::read::lease::Voting;

/// For how long the core's word is good.
const GOOD_FOR: Duration = Duration::from_millis(100);

/// The staleness of a replica that was never known to be up to date.
const UNKNOWN_MS: u64 = u64::MAX;

/// What the core said last.
#[derive(Debug, Default)]
pub(super) struct Freshness(Mutex<Known>);

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// When the replica was last known to be up to date.
    up_to_date: Option<Instant>,
    /// When the core was asked.
    asked: Option<Instant>,
}

impl Known {
    fn staleness_ms(&self) -> u64 {
        self.up_to_date.map_or(UNKNOWN_MS, |at| millis(at.elapsed()))
    }
}

impl Replica {
    /// At most how long ago this replica was up to date, milliseconds, when that is known at once.
    pub(crate) fn staleness_ms(&self) -> Option<u64> {
        let standing = self.standing();
        if standing.leads {
            let age = if standing.voting == Voting::Alone {
                Some(Duration::ZERO)
            } else {
                standing.quorum_acked
            };
            return Some(age.map_or(UNKNOWN_MS, millis));
        }
        let known = *self.freshness.0.lock();
        known
            .asked
            .is_some_and(|asked| asked.elapsed() < GOOD_FOR)
            .then(|| known.staleness_ms())
    }

    /// As [`staleness_ms`](Self::staleness_ms), after asking the core.
    pub(crate) async fn learn_staleness_ms(&self) -> u64 {
        let asked = clock::now();
        let heard = self
            .raft
            .with_raft_state(|state| {
                let from_leader = state.vote_ref().is_committed();
                let heard = state.vote_last_modified().filter(|_| from_leader);
                (
                    heard.map(|heard| heard.elapsed()),
                    state.cluster_committed().cloned(),
                )
            })
            .await;
        let mut known = self.freshness.0.lock();
        known.asked = Some(asked);
        if let Ok((Some(age), committed)) = heard
            && self.metrics.borrow_watched().last_applied >= committed
        {
            known.up_to_date = known.up_to_date.max(asked.checked_sub(age));
        }
        known.staleness_ms()
    }
}

fn millis(age: Duration) -> u64 {
    u64::try_from(age.as_millis()).unwrap_or(UNKNOWN_MS)
}
