//! The metrics of the host, one function for each thing that happens. Handles are made once: a macro with labels costs
//! more than answering a read.

use std::sync::LazyLock;
use std::time::Duration;

use holdfast_common::proto::placement::Capacity;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// How an operation ended, as `store_ops_total` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Answered as asked.
    Ok,
    /// Sent elsewhere: not the leader, or another range.
    Redirected,
    /// Refused: too busy, not ready, disk full, invalid.
    Refused,
    /// A write whose fate is not known.
    Unknown,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// A point read.
    Get,
    /// A write.
    Write,
    /// A page of a scan.
    Scan,
}

/// How a read was made sure of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadPath {
    /// By the leader's lease.
    Lease,
    /// By asking a quorum.
    ReadIndex,
    /// Not at all.
    Stale,
}

/// What became of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proposed {
    /// Applied.
    Applied,
    /// Never appended.
    Refused,
    /// Appended, and its fate not known.
    Unknown,
}

/// Replicas of this store by what they are in their groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Groups {
    /// Leading.
    pub leader: usize,
    /// Following a leader.
    pub follower: usize,
    /// Not voting.
    pub learner: usize,
    /// Without a leader.
    pub no_leader: usize,
}

const OPS: [&str; 3] = ["get", "write", "scan"];
const OUTCOMES: [&str; 4] = ["ok", "redirected", "refused", "unknown"];
const PATHS: [&str; 3] = ["lease", "read_index", "stale"];
const PROPOSALS: [&str; 3] = ["applied", "refused", "unknown"];
const STATES: [&str; 5] = ["leader", "follower", "learner", "no_leader", "hibernating"];
/// What became of a merge.
const MERGES: [&str; 2] = ["absorbed", "thawed"];
const SPLITS: [&str; 2] = ["driver", "alone"];

struct Handles {
    ops: [[Counter; 4]; 3],
    durations: [Histogram; 3],
    reads: [Histogram; 3],
    proposals: [Counter; 3],
    propose_wait: Histogram,
    entry_writes: Histogram,
    groups: [Gauge; 5],
    leaderships: [Counter; 2],
    capacity: [Gauge; 3],
    splits: [Counter; 2],
    merges: [Counter; 2],
    lag_max: Gauge,
}

static HANDLES: LazyLock<Handles> = LazyLock::new(|| Handles {
    ops: OPS.map(|op| {
        OUTCOMES.map(|result| counter!("holdfast_store_ops_total", "op" => op, "result" => result))
    }),
    durations: OPS.map(|op| histogram!("holdfast_store_op_duration_seconds", "op" => op)),
    reads: PATHS.map(|path| histogram!("holdfast_raft_read_seconds", "path" => path)),
    proposals: PROPOSALS.map(|result| counter!("holdfast_raft_proposals_total", "result" => result)),
    propose_wait: histogram!("holdfast_raft_propose_wait_seconds"),
    entry_writes: histogram!("holdfast_raft_proposal_entries"),
    groups: STATES.map(|state| gauge!("holdfast_raft_groups", "state" => state)),
    leaderships: ["leader", "follower"].map(|to| counter!("holdfast_raft_state_changes_total", "to" => to)),
    capacity: ["total", "used", "available"]
        .map(|kind| gauge!("holdfast_store_capacity_bytes", "kind" => kind)),
    splits: SPLITS.map(|reason| counter!("holdfast_range_splits_total", "reason" => reason)),
    merges: MERGES.map(|reason| counter!("holdfast_range_merges_total", "reason" => reason)),
    lag_max: gauge!("holdfast_raft_replication_lag_max_entries"),
});

/// Makes every series exist, at zero.
pub(crate) fn init() {
    LazyLock::force(&HANDLES);
}

/// `count` operations ended.
pub(crate) fn ops(op: Op, outcome: Outcome, count: usize) {
    HANDLES.ops[op as usize][outcome as usize].increment(count as u64);
}

/// An operation took this long; of those that are answered together, the slowest.
pub(crate) fn op_took(op: Op, took: Duration) {
    HANDLES.durations[op as usize].record(took);
}

/// Reads that were made sure of together took this long.
pub(crate) fn read_took(path: ReadPath, took: Duration) {
    HANDLES.reads[path as usize].record(took);
}

/// An entry with this many writes was proposed; the first of them had waited this long.
pub(crate) fn proposed(writes: usize, waited: Duration) {
    HANDLES.entry_writes.record(writes as f64);
    HANDLES.propose_wait.record(waited);
}

/// A proposal ended.
pub(crate) fn proposal_ended(how: Proposed) {
    HANDLES.proposals[how as usize].increment(1);
}

/// A replica of this store was elected, or lost its leadership.
pub(crate) fn leadership_changed(leads: bool) {
    HANDLES.leaderships[usize::from(!leads)].increment(1);
}

/// What the replicas are, and how far the slowest follower of a led range is behind.
pub(crate) fn groups(groups: Groups, lag_max_entries: u64) {
    let counts = [
        groups.leader,
        groups.follower,
        groups.learner,
        groups.no_leader,
        0,
    ];
    for (gauge, count) in HANDLES.groups.iter().zip(counts) {
        gauge.set(count as f64);
    }
    HANDLES.lag_max.set(lag_max_entries as f64);
}

/// What the disk guard saw.
pub(crate) fn capacity(capacity: Capacity) {
    let bytes = [capacity.total, capacity.used, capacity.available];
    for (gauge, bytes) in HANDLES.capacity.iter().zip(bytes) {
        gauge.set(bytes as f64);
    }
}

/// A range led here took over its right neighbour.
pub(crate) fn merged() {
    HANDLES.merges[0].increment(1);
}

/// A range led here was frozen for a merge, and thawed.
pub(crate) fn thawed() {
    HANDLES.merges[1].increment(1);
}

/// A range led here was split: by the driver's order, or by the valve.
pub(crate) fn split(alone: bool) {
    HANDLES.splits[usize::from(alone)].increment(1);
}

impl Outcome {
    /// What to count for an error.
    pub(crate) fn of(error: &holdfast_common::proto::kv::Error) -> Self {
        use holdfast_common::proto::kv::Error;
        match error {
            Error::NotLeader { .. } | Error::StaleEpoch { .. } | Error::NoSuchRange => Self::Redirected,
            Error::OutcomeUnknown => Self::Unknown,
            Error::Busy { .. }
            | Error::DiskFull
            | Error::NotReady(_)
            | Error::Retired
            | Error::Invalid(_)
            | Error::TokenReused
            | Error::CrossRange
            | Error::AnswerTooLarge
            | Error::ReadsLost => Self::Refused,
        }
    }
}
