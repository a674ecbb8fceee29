//! How much of its log a replica keeps. Pure.
//!
//! An entry may go once its effects are durable: a *compaction* (what openraft calls building a snapshot; here it syncs
//! the engine and copies nothing) moves that limit up. Behind it a replica keeps little, because what is kept long enough
//! to leave the log's memtable is written to tables, and merged, only to be deleted there. A leader keeps more as long as
//! somebody needs it:
//!
//! * a follower that lags, within bounds; beyond them it gets a snapshot;
//! * a follower that a snapshot is on its way to: the entries written meanwhile must be there when it has arrived, or it
//!   needs another, and under load never catches up. openraft does not look after that by itself.
//!
//! Bounds are in entries and in bytes, whichever is reached first: one entry may be a megabyte.

use std::collections::VecDeque;
use std::time::Duration;

use holdfast_common::clock::Instant;
use holdfast_common::limits::{LogEntries, log_entries};
use openraft::{Config, SnapshotPolicy};

/// Entries applied since the last compaction that make the next one due.
const COMPACT_ENTRIES: LogEntries = log_entries(1_000, 20);
/// Bytes of them that do.
const COMPACT_BYTES: u64 = 4 << 20;
/// When some replica of the store is due, others with this part of it come along: they share its sync.
const ALONG: u64 = 4;
/// Entries kept for nobody in particular: a follower that stumbled, or what the next leader finds wanting.
const KEEP_ENTRIES: LogEntries = log_entries(1_000, 20);
/// Bytes of them.
const KEEP_BYTES: u64 = 4 << 20;
/// Entries kept for followers that lag. The same bound tells openraft when to prefer a snapshot.
const LAG_ENTRIES: LogEntries = log_entries(20_000, 400);
/// Bytes of them.
const LAG_BYTES: u64 = 16 << 20;
/// Bytes kept for a follower that a snapshot was sent to.
const SENT_BYTES: u64 = 64 << 20;
/// How long a snapshot may take until the entries behind it are kept no longer.
const SENT_TIME: Duration = Duration::from_secs(600);
/// A purge is a write to the log's database: fewer entries wait for more,
const PURGE_ENTRIES: LogEntries = log_entries(256, 6);
/// or for this many bytes.
const PURGE_BYTES: u64 = 1 << 20;
/// Marks in a trail.
const MARKS: usize = 64;

/// Leaves compaction and purging of a group to its replica's owner, who asks a [`Retention`].
pub(crate) fn by_owner(config: Config) -> Config {
    Config {
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: LAG_ENTRIES.get(),
        ..config
    }
}

/// Where a replica's log stands. Positions are indices of last entries, 0 for none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogState {
    /// The last applied entry.
    pub applied: u64,
    /// The last entry whose effects are known to be durable.
    pub compacted: u64,
    /// The last entry that is gone.
    pub purged: u64,
    /// Bytes of the entries applied since the process began.
    pub bytes: u64,
    /// Position of the newest snapshot that was taken for another replica.
    pub sent: u64,
}

/// Whether a compaction is worth its sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Compaction {
    /// Too little to gain.
    No,
    /// If another replica's pays for the sync.
    Along,
    /// Yes.
    Due,
}

/// What is remembered from one look at the log to the next.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    trail: Trail,
    /// The oldest snapshot under way, and when it was first seen.
    under_way: Option<(u64, Instant)>,
    last_sent: u64,
}

impl Retention {
    /// Takes note of where the log stands. `matched`: what each other replica is known to have, when this one leads.
    pub(crate) fn observe(&mut self, log: &LogState, matched: &[u64], now: Instant) {
        self.trail.note(log.applied, log.bytes);
        let over = |(position, since): (u64, Instant)| {
            matched.iter().all(|matched| *matched >= position) || now.duration_since(since) > SENT_TIME
        };
        self.under_way = self.under_way.filter(|under_way| !over(*under_way));
        if log.sent > self.last_sent {
            self.last_sent = log.sent;
            let begun = (log.sent, now);
            self.under_way = self.under_way.or((!over(begun)).then_some(begun));
        }
    }

    /// Whether to compact now.
    pub(crate) fn compaction(&self, log: &LogState) -> Compaction {
        let entries = log.applied.saturating_sub(log.compacted);
        let bytes = self.trail.bytes_behind(log.compacted);
        let reached = |part: u64| entries >= COMPACT_ENTRIES.get() / part || bytes >= COMPACT_BYTES / part;
        if entries == 0 {
            Compaction::No
        } else if reached(1) {
            Compaction::Due
        } else if reached(ALONG) {
            Compaction::Along
        } else {
            Compaction::No
        }
    }

    /// The last entry to purge, if enough may go.
    pub(crate) fn purge(&self, log: &LogState, matched: &[u64]) -> Option<u64> {
        let beyond = |entries: u64, bytes: u64| {
            log.applied
                .saturating_sub(entries)
                .max(self.trail.position_behind(bytes))
        };
        let mut upto = beyond(KEEP_ENTRIES.get(), KEEP_BYTES).min(log.compacted);
        // Whoever needs what is gone already needs a snapshot, and nothing is gained by waiting.
        let lagging = matched
            .iter()
            .copied()
            .filter(|matched| *matched >= log.purged)
            .min();
        if let Some(lagging) = lagging {
            upto = upto.min(lagging.max(beyond(LAG_ENTRIES.get(), LAG_BYTES)));
        }
        if let Some((position, _)) = self.under_way {
            upto = upto.min(position.max(self.trail.position_behind(SENT_BYTES)));
        }
        let enough = upto >= log.purged + PURGE_ENTRIES.get()
            || (upto > log.purged && self.trail.bytes_between(log.purged, upto) >= PURGE_BYTES);
        enough.then_some(upto)
    }
}

/// Roughly how many bytes of entries had been applied at which position: marks, one a look while there is room, then
/// every second one.
#[derive(Debug, Default)]
struct Trail {
    marks: VecDeque<(u64, u64)>,
}

impl Trail {
    fn note(&mut self, position: u64, bytes: u64) {
        match self.marks.back() {
            Some((last, _)) if *last == position => return,
            // A snapshot from elsewhere may move a replica back to where it was before it forgot its rows.
            Some((last, _)) if *last > position => self.marks.clear(),
            _ => {}
        }
        if self.marks.len() == MARKS {
            let mut keep = false;
            self.marks.retain(|_| {
                keep = !keep;
                keep
            });
        }
        self.marks.push_back((position, bytes));
    }

    fn total(&self) -> u64 {
        self.marks.back().map_or(0, |(_, bytes)| *bytes)
    }

    /// Bytes applied up to `position`, or a little less; what came before the first mark does not count.
    fn at(&self, position: u64) -> u64 {
        let behind = self.marks.partition_point(|(mark, _)| *mark <= position);
        let mark = self.marks.get(behind.saturating_sub(1));
        mark.map_or(0, |(_, bytes)| *bytes)
    }

    fn bytes_behind(&self, position: u64) -> u64 {
        self.total() - self.at(position)
    }

    fn bytes_between(&self, from: u64, to: u64) -> u64 {
        self.at(to).saturating_sub(self.at(from))
    }

    /// The newest position known to have at least `bytes` behind it; 0 when there is none.
    fn position_behind(&self, bytes: u64) -> u64 {
        let total = self.total();
        let far = self.marks.partition_point(|(_, at)| total - at >= bytes);
        far.checked_sub(1).map_or(0, |newest| self.marks[newest].0)
    }
}

#[cfg(test)]
#[path = "retention_test.rs"]
mod tests;
