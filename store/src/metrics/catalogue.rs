//! What a store measures, beside the Raft log and network: see [`holdfast_common::raft::metrics`].

use holdfast_common::telemetry::catalogue::{Label, Metric};

use super::check::CHECKS;
use super::hibernation::{CAUSES, SLEEPERS};
use super::{CACHES, ELECTIONS, MERGES, OPS, OUTCOMES, PATHS, PROPOSALS, ROLES, SPLITS, STALLS, STATES};

const PEER: Label = Label::each("peer_store", "the peer's id; `other` for all beyond the first 64");

/// The metrics.
pub const METRICS: &[Metric] = &[
    Metric::counter(
        "holdfast_store_ops_total",
        &[Label::one_of("op", &OPS), Label::one_of("result", &OUTCOMES)],
        "Operations that ended. `redirected`: sent to another store or range; `refused`: too much waits, not ready, disk full, \
         not valid; `unknown`: a write whose fate is not known.",
    ),
    Metric::histogram(
        "holdfast_store_op_duration_seconds",
        &[Label::one_of("op", &OPS)],
        "Time from the arrival of an operation to its answer; of those that are answered together, the slowest.",
    ),
    Metric::counter(
        "holdfast_raft_state_changes_total",
        &[Label::one_of("to", &ROLES)],
        "Replicas of this store that became leader, candidate, follower or learner.",
    ),
    Metric::counter(
        "holdfast_raft_elections_total",
        &[Label::one_of("result", &ELECTIONS)],
        "Elections that a replica of this store stood in. `timed_out`: nobody won, and it stood again.",
    ),
    Metric::gauge(
        "holdfast_raft_groups",
        &[Label::one_of("state", &STATES)],
        "Replicas of this store by what they are in their groups. `no_leader`: they know of none.",
    ),
    Metric::gauge(
        "holdfast_raft_hibernating",
        &[Label::one_of("role", &SLEEPERS)],
        "Replicas of this store whose timers are stopped; they work on without. `leader` and `follower` in `holdfast_raft_groups` count \
         them, too. Learners are counted as followers.",
    ),
    Metric::counter(
        "holdfast_raft_sleeps_total",
        &[Label::one_of("role", &SLEEPERS)],
        "Replicas of this store that fell asleep.",
    ),
    Metric::counter(
        "holdfast_raft_wakes_total",
        &[Label::one_of("cause", &CAUSES)],
        "Replicas of this store that woke. `unanswered`: what was asked did not get on; `read`: a stale read of a leader; `message`: of \
         their group, but not of the leader that they sleep under; `step`: the range was to be changed; `asked`: another replica \
         woke, or was read from; `leader_lost`: the leader's store did not answer; `store_back`: a store was started again, or can be \
         reached again; `changed`: the group has another leader; `refused`: the group did not fall asleep after all.",
    ),
    Metric::counter(
        "holdfast_raft_proposals_total",
        &[Label::one_of("result", &PROPOSALS)],
        "Entries with writes that this store proposed. `refused`: never appended; `unknown`: appended, and its fate not known.",
    ),
    Metric::histogram(
        "holdfast_raft_proposal_entries",
        &[],
        "Writes in a proposed entry.",
    ),
    Metric::histogram(
        "holdfast_raft_propose_wait_seconds",
        &[],
        "Time from the arrival of an entry's first write to its proposal. The first stage of a write.",
    ),
    Metric::histogram(
        "holdfast_raft_log_commit_seconds",
        &[],
        "Time from the proposal of an entry until its leader knows that a majority has it. The third stage of a write; the append \
         to the leader's own log is within it.",
    ),
    Metric::histogram(
        "holdfast_raft_apply_wait_seconds",
        &[],
        "Time that a committed entry waits at its leader until applying it begins. The fourth stage of a write.",
    ),
    Metric::histogram(
        "holdfast_raft_apply_seconds",
        &[],
        "Time of applying an entry, on whatever replica, the wait for room in memory and for rows that it reads included. The last \
         stage of a write.",
    ),
    Metric::histogram(
        "holdfast_raft_replication_lag_entries",
        &[],
        "Entries that a follower of a range led here lacks: each follower of each range, every two seconds.",
    ),
    Metric::gauge(
        "holdfast_raft_replication_lag_max_entries",
        &[PEER],
        "Entries that the slowest follower on a peer lacks, of all ranges led here.",
    ),
    Metric::histogram(
        "holdfast_raft_read_seconds",
        &[Label::one_of("path", &PATHS)],
        "Time until reads that came together were sure to be as fresh as asked, and for `lease` answered too: by the leader's \
         lease, by asking a majority, or not at all.",
    ),
    Metric::counter(
        "holdfast_engine_write_stalls_total",
        &[Label::one_of("cause", &STALLS)],
        "Times that writes began to wait, or to be turned away, because the engine was behind: too many bytes not committed \
         (`overlay`), memtables not written out, or tables not merged.",
    ),
    Metric::gauge(
        "holdfast_engine_pending_compaction_bytes",
        &[],
        "Bytes of tables that are to be merged, about.",
    ),
    Metric::counter(
        "holdfast_engine_cache_requests_total",
        &[
            Label::one_of("cache", &CACHES),
            Label::one_of("result", &["hit", "miss"]),
        ],
        "Looks into a cache: for a row, among those written lately, and for a block of a table.",
    ),
    Metric::counter(
        "holdfast_engine_rows_fetched_total",
        &[],
        "Rows that were fetched before they were read, because tables have been slow to answer: more is read than fits into \
         memory.",
    ),
    Metric::gauge(
        "holdfast_store_capacity_bytes",
        &[Label::one_of("kind", &["total", "used", "available"])],
        "The file system of the data directory: its size, what this store takes of it, and what is free.",
    ),
    Metric::counter(
        "holdfast_range_splits_total",
        &[Label::one_of("reason", &SPLITS)],
        "Ranges led here that were split: by the placement driver's order, or by the store alone when no order came.",
    ),
    Metric::counter(
        "holdfast_range_merges_total",
        &[Label::one_of("reason", &MERGES)],
        "Merges of ranges led here: `absorbed` its right neighbour, or `thawed` because it was called off.",
    ),
    Metric::counter(
        "holdfast_store_checks_total",
        &[Label::one_of("result", &CHECKS)],
        "Comparisons of the replicas of ranges led here. `open`: of a replica it is not known what it holds, and the others agree; \
         `failed`: they were not compared.",
    ),
    Metric::counter(
        "holdfast_store_check_bytes_total",
        &[],
        "Bytes of keys and values of replicas here that were read to compare them with others.",
    ),
    Metric::counter(
        "holdfast_store_divergence_total",
        &[],
        "Times that a check found different data in the replicas of a range that has one here. Never above 0 in a cluster that is sound.",
    ),
    Metric::gauge(
        "holdfast_store_divergent_ranges",
        &[],
        "Ranges with a replica here whose replicas hold different data, as far as is known.",
    ),
    Metric::histogram(
        "holdfast_range_size_bytes",
        &[],
        "Sizes of the ranges led here: each, every ten seconds.",
    ),
];
