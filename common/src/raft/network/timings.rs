//! Every time and bound that openraft and this network run by, in one place.

use std::time::Duration;

use openraft::{Config, ConfigError, SnapshotPolicy};

use crate::limits::{LogEntries, log_entries};

/// How long things may take. The defaults are for stores in one region, with round trips well below 50 ms.
#[derive(Clone, Debug)]
pub struct RaftTimings {
    /// How often a leader lets each follower hear from it. Failover can't be faster than a few of these.
    pub heartbeat: Duration,
    /// A follower that hears nothing for a time between this and `election_max`, drawn anew each time, campaigns.
    pub election_min: Duration,
    /// See `election_min`. Also the length of a leader's lease: openraft uses one value for both.
    pub election_max: Duration,
    /// How long an append may stay without an answer before the sender starts over. Longer than openraft's own value
    /// (the heartbeat interval), because an answer waits for the follower's disk, and sending everything again to a
    /// disk that is slow makes it slower. A peer that is gone is noticed by its connection.
    pub append_timeout: Duration,
    /// Longest time that heartbeats wait for those of other groups, to leave in one message.
    pub heartbeat_gather: Duration,
    /// How long one chunk of a snapshot may stay unacknowledged before the sender starts the connection over.
    pub chunk_timeout: Duration,
    /// How long the receiver may take to verify and install a snapshot that has arrived.
    pub install_timeout: Duration,
}

impl Default for RaftTimings {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            heartbeat: ms(200),
            election_min: ms(700),
            election_max: ms(1200),
            append_timeout: ms(2_000),
            heartbeat_gather: ms(10),
            chunk_timeout: ms(10_000),
            install_timeout: ms(300_000),
        }
    }
}

/// Entries between two compactions of a log, for groups whose owner does not see to that itself: the placement driver's,
/// whose entries are small and few.
const COMPACT_EVERY: LogEntries = log_entries(10_000, 40);

/// Entries that a log keeps behind a compaction. openraft does not hold a purge back for a snapshot under way, so the
/// entries written while one travels must still be there when it is installed, or the follower needs another, and
/// under load never catches up. A group proposes a few thousand entries a second at most; this covers seconds.
const KEEP_ENTRIES: LogEntries = log_entries(10_000, 40);

/// A follower further behind than this is sent a snapshot even if the log still reaches back far enough. A log holds
/// between [`KEEP_ENTRIES`] and this many: the sum of both.
const SNAPSHOT_BEHIND: LogEntries = log_entries(20_000, 80);

impl RaftTimings {
    /// The configuration of a group.
    ///
    /// # Errors
    /// Timings that contradict each other, such as an election timeout below the heartbeat interval.
    pub fn config(&self) -> Result<Config, ConfigError> {
        Config {
            cluster_name: "holdfast".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            // An append that was just acknowledged says what a heartbeat would: leave that one out.
            heartbeat_min_interval: Some(millis(self.heartbeat) / 2),
            election_timeout_min: millis(self.election_min),
            election_timeout_max: millis(self.election_max),
            // A replica that was cut off must not depose a healthy leader when it comes back.
            enable_pre_vote: Some(true),
            // After losing its majority a leader falls silent for this long at a time, so that followers that still
            // hear it can elect another. At least the lease and one election timeout.
            quorum_loss_probe_interval: Some(2 * millis(self.election_max)),
            // Applied state is not synced, so a restarted leader may be behind what it acknowledged: it must be elected
            // again, and apply its term's first entry, before it leads.
            enable_leader_restore: Some(false),
            // A follower whose log went backwards has lost data that it acknowledged. Never paper over that.
            allow_log_reversion: Some(false),
            // Enough to fill a batch from many small entries; the log's reader bounds the bytes.
            max_payload_entries: 512,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(COMPACT_EVERY.get()),
            max_in_snapshot_log_to_keep: KEEP_ENTRIES.get(),
            replication_lag_threshold: SNAPSHOT_BEHIND.get(),
            // A purge is a write to the log's database: one for many entries.
            purge_batch_size: 256,
            // What the network gets as the time limit of a whole snapshot; the default of 200 ms fits no file.
            install_snapshot_timeout: millis(self.install_timeout),
            // Retries to an unreachable peer. The transport paces its own dialing, so short pauses cost nothing there.
            backoff: "50ms 100ms 200ms ...1s".to_owned(),
            // Made ready for every group, and used by none without openraft's statistics: 147 kB by default.
            log_stage_capacity: Some(1),
            ..Config::default()
        }
        .validate()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_consistent() {
        let config = RaftTimings::default().config().expect("valid");
        assert!(config.replication_lag_threshold > COMPACT_EVERY.get());
        assert!(
            config.election_timeout_min > 2 * config.heartbeat_interval,
            "one lost heartbeat is no reason to vote"
        );
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.enable_leader_restore, Some(false));
    }

    #[test]
    fn contradictions_are_refused() {
        let timings = RaftTimings {
            heartbeat: Duration::from_secs(1),
            ..RaftTimings::default()
        };
        assert!(timings.config().is_err());
    }
}
