//! The metrics of the host, one function for each thing that happens. Handles are made once: a macro with labels costs
//! more than answering a read.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use holdfast_common::proto::placement::Capacity;
use holdfast_common::raft;
use holdfast_common::telemetry::catalogue::describe;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use parking_lot::Mutex;

mod catalogue;
mod check;
mod hibernation;

pub use catalogue::METRICS;
pub(crate) use check::{checked, differing, diverged, summed_up};
pub(crate) use hibernation::{Cause, asleep, slept, woke};

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

/// What a replica is in its group, as `raft_state_changes_total` counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Leading.
    Leader,
    /// Standing for election.
    Candidate,
    /// Following.
    Follower,
    /// Not voting.
    Learner,
}

/// How an election ended for one who stood in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Election {
    /// It leads.
    Won,
    /// Another leads, or a later term began.
    Lost,
    /// Nobody won.
    TimedOut,
}

/// Why the engine holds writes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stall {
    /// Too much is visible and not committed.
    Overlay,
    /// Memtables wait to be written out.
    Memtables,
    /// Tables wait to be merged.
    Tables,
}

/// A cache of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cache {
    /// Rows written lately.
    Rows,
    /// Blocks of tables.
    Blocks,
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
const STATES: [&str; 4] = ["leader", "follower", "learner", "no_leader"];
const ROLES: [&str; 4] = ["leader", "candidate", "follower", "learner"];
const ELECTIONS: [&str; 3] = ["won", "lost", "timed_out"];
const STALLS: [&str; 3] = ["overlay", "memtables", "tables"];
const CACHES: [&str; 2] = ["rows", "blocks"];
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
    groups: [Gauge; 4],
    commit: Histogram,
    apply_wait: Histogram,
    apply: Histogram,
    roles: [Counter; 4],
    elections: [Counter; 3],
    capacity: [Gauge; 3],
    splits: [Counter; 2],
    merges: [Counter; 2],
    lag: Histogram,
    /// By the label of the peer.
    lag_max: Mutex<BTreeMap<String, Gauge>>,
    stalls: [Counter; 3],
    pending_compaction: Gauge,
    /// By cache; hits first.
    cache_requests: [[Counter; 2]; 2],
    rows_fetched: Counter,
    range_size: Histogram,
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
    commit: histogram!("holdfast_raft_log_commit_seconds"),
    apply_wait: histogram!("holdfast_raft_apply_wait_seconds"),
    apply: histogram!("holdfast_raft_apply_seconds"),
    roles: ROLES.map(|to| counter!("holdfast_raft_state_changes_total", "to" => to)),
    elections: ELECTIONS.map(|result| counter!("holdfast_raft_elections_total", "result" => result)),
    capacity: ["total", "used", "available"]
        .map(|kind| gauge!("holdfast_store_capacity_bytes", "kind" => kind)),
    splits: SPLITS.map(|reason| counter!("holdfast_range_splits_total", "reason" => reason)),
    merges: MERGES.map(|reason| counter!("holdfast_range_merges_total", "reason" => reason)),
    lag: histogram!("holdfast_raft_replication_lag_entries"),
    lag_max: Mutex::default(),
    stalls: STALLS.map(|cause| counter!("holdfast_engine_write_stalls_total", "cause" => cause)),
    pending_compaction: gauge!("holdfast_engine_pending_compaction_bytes"),
    rows_fetched: counter!("holdfast_engine_rows_fetched_total"),
    cache_requests: CACHES.map(|cache| {
        ["hit", "miss"].map(
            |result| counter!("holdfast_engine_cache_requests_total", "cache" => cache, "result" => result),
        )
    }),
    range_size: histogram!("holdfast_range_size_bytes"),
});

/// Describes every metric, and makes each series exist, at zero.
pub(crate) fn init() {
    describe(METRICS);
    raft::metrics::init();
    LazyLock::force(&HANDLES);
    hibernation::init();
    check::init();
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

/// An entry that was proposed here was committed after this long.
pub(crate) fn committed(took: Duration) {
    HANDLES.commit.record(took);
}

/// An entry that was proposed here waited this long to be applied once it was committed.
pub(crate) fn apply_waited(waited: Duration) {
    HANDLES.apply_wait.record(waited);
}

/// An entry was applied.
pub(crate) fn applied(took: Duration) {
    HANDLES.apply.record(took);
}

/// A replica of this store became something else in its group.
pub(crate) fn became(role: Role) {
    HANDLES.roles[role as usize].increment(1);
}

/// An election ended in which a replica of this store stood.
pub(crate) fn elected(how: Election) {
    HANDLES.elections[how as usize].increment(1);
}

/// A follower of a range led here lacks so many entries.
pub(crate) fn lags(entries: u64) {
    HANDLES.lag.record(entries as f64);
}

/// How far the slowest follower on each peer is behind. One that is not named has none any more.
pub(crate) fn slowest(by_peer: &BTreeMap<String, u64>) {
    let mut gauges = HANDLES.lag_max.lock();
    gauges
        .iter()
        .filter(|(peer, _)| !by_peer.contains_key(*peer))
        .for_each(|(_, gauge)| gauge.set(0.0));
    for (peer, entries) in by_peer {
        let gauge = gauges.entry(peer.clone()).or_insert_with(
            || gauge!("holdfast_raft_replication_lag_max_entries", "peer_store" => peer.clone()),
        );
        gauge.set(*entries as f64);
    }
}

/// A range led here has this size.
pub(crate) fn range_size(bytes: u64) {
    HANDLES.range_size.record(bytes as f64);
}

/// The engine began to hold writes up.
pub(crate) fn stalled(cause: Stall) {
    HANDLES.stalls[cause as usize].increment(1);
}

/// So many rows were fetched before they were read.
pub(crate) fn fetched(rows: usize) {
    HANDLES.rows_fetched.increment(rows as u64);
}

/// So many bytes of tables are to be merged.
pub(crate) fn pending_compaction(bytes: u64) {
    HANDLES.pending_compaction.set(bytes as f64);
}

/// A cache was asked, and had what was asked for or not.
pub(crate) fn cache(cache: Cache, hits: u64, misses: u64) {
    let [hit, miss] = &HANDLES.cache_requests[cache as usize];
    if hits > 0 {
        hit.increment(hits);
    }
    if misses > 0 {
        miss.increment(misses);
    }
}

/// What the replicas are.
pub(crate) fn groups(groups: Groups) {
    let counts = [groups.leader, groups.follower, groups.learner, groups.no_leader];
    for (gauge, count) in HANDLES.groups.iter().zip(counts) {
        gauge.set(count as f64);
    }
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
