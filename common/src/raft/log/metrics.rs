//! The log's metrics. Handles are looked up once: a lookup per append would cost more than the append.

use std::time::Duration;

use metrics::{Gauge, Histogram, gauge, histogram};

use crate::telemetry::disk;

/// Handles of the recorder that was installed when the log was opened.
#[derive(Clone)]
pub(super) struct Metrics {
    fsync: Histogram,
    commit_entries: Histogram,
    commit_bytes: Histogram,
    append: Histogram,
    size: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        Self {
            fsync: histogram!("holdfast_wal_fsync_seconds"),
            commit_entries: histogram!("holdfast_wal_group_commit_entries"),
            commit_bytes: histogram!("holdfast_wal_group_commit_bytes"),
            append: histogram!("holdfast_raft_log_append_seconds"),
            size: gauge!("holdfast_raft_log_bytes"),
        }
    }

    /// A batch became durable: what it carried and how long the fsync alone took.
    pub(super) fn observe_commit(&self, entries: usize, bytes: usize, fsync: Duration) {
        self.commit_entries.record(entries as f64);
        self.commit_bytes.record(bytes as f64);
        self.fsync.record(fsync);
    }

    /// A batch went into the journal.
    pub(super) fn observe_batch(&self, bytes: usize) {
        disk::written(disk::Kind::Wal, bytes as u64);
    }

    /// What the log takes on disk.
    pub(super) fn observe_size(&self, bytes: u64) {
        self.size.set(bytes as f64);
    }

    /// An append became durable this long after it was asked for.
    pub(super) fn observe_append(&self, elapsed: Duration) {
        self.append.record(elapsed);
    }
}
