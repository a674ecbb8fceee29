//! Keeps a replica's log short, as its [`Retention`](super::retention::Retention) says.

use holdfast_common::clock::Instant;
use openraft::async_runtime::watch::WatchReceiver;

use super::Replica;
use super::retention::{Compaction, LogState};

impl Replica {
    /// Looks at the log. To be called regularly.
    pub(crate) fn compaction(&self, now: Instant) -> Compaction {
        let (log, matched) = self.log_state();
        let mut retention = self.retention.lock();
        retention.observe(&log, &matched, now);
        retention.compaction(&log)
    }

    /// Begins a compaction; nothing happens when one is under way.
    pub(crate) async fn compact(&self) {
        // An error says that the group has ended, and whoever watches over it knows.
        let _ = self.raft.trigger().snapshot().await;
    }

    /// Lets go of the entries that nobody needs.
    pub(crate) async fn purge(&self) {
        let (log, matched) = self.log_state();
        let upto = self.retention.lock().purge(&log, &matched);
        if let Some(upto) = upto {
            // As above.
            let _ = self.raft.trigger().purge_log(upto).await;
        }
    }

    fn log_state(&self) -> (LogState, Vec<u64>) {
        let metrics = self.metrics.borrow_watched();
        let log = LogState {
            applied: metrics.last_applied.map_or(0, |id| id.index),
            compacted: metrics.snapshot.map_or(0, |id| id.index),
            purged: metrics.purged.map_or(0, |id| id.index),
            bytes: self.shared.log_bytes(),
            sent: self.shared.snapshot_sent(),
        };
        let others = metrics.replication.iter().flatten();
        let matched = others
            .filter(|(id, _)| **id != self.id)
            .map(|(_, matched)| matched.map_or(0, |id| id.index))
            .collect();
        (log, matched)
    }
}
