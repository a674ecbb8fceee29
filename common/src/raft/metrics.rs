//! What the Raft log and the Raft network measure, for stores and placement members alike.

use crate::telemetry::catalogue::{Label, Metric, describe};
use crate::telemetry::disk;

use super::{log, network};

/// Messages by type.
pub(super) const MESSAGES: [&str; 6] = ["append", "vote", "pre_vote", "transfer", "heartbeats", "snapshot"];

/// Why a message had no effect.
pub(super) const DROPS: [&str; 10] = [
    "unreachable",
    "timeout",
    "lost",
    "refused",
    "bad_answer",
    "unknown_replica",
    "not_voting_yet",
    "stopped",
    "busy",
    "malformed",
];

const DIRECTION: Label = Label::one_of("direction", &["send", "receive"]);

/// The metrics.
pub const METRICS: &[Metric] = &[
    Metric::histogram(
        "holdfast_raft_log_append_seconds",
        &[],
        "Time from an append to the log until it is durable here: waiting for the batch before, and the fsync. The second \
         stage of a write; the leader's runs beside the replication.",
    ),
    Metric::gauge(
        "holdfast_raft_log_bytes",
        &[],
        "Bytes of the Raft log on disk, journals included.",
    ),
    Metric::counter(
        "holdfast_raft_messages_sent_total",
        &[Label::one_of("type", &MESSAGES)],
        "Messages given to the transport, by type. One message of the type `heartbeats` carries those of many ranges.",
    ),
    Metric::counter(
        "holdfast_raft_messages_dropped_total",
        &[Label::one_of("reason", &DROPS)],
        "Messages that had no effect, by reason: sent in vain (`unreachable`, `timeout`, `lost`, `refused`, `bad_answer`), or \
         received and not acted on (the others).",
    ),
    Metric::histogram(
        "holdfast_raft_peer_rtt_seconds",
        &[Label::each(
            "peer_store",
            "the peer's id; `other` for all beyond the first 64",
        )],
        "Time from a heartbeat message to its answer.",
    ),
    Metric::counter(
        "holdfast_raft_snapshots_total",
        &[DIRECTION, Label::one_of("result", &["ok", "failed", "cancelled"])],
        "Snapshots that ended. `cancelled`: the other side did not finish.",
    ),
    Metric::counter(
        "holdfast_raft_snapshot_bytes_total",
        &[DIRECTION],
        "Bytes of snapshots, those sent again included.",
    ),
    Metric::histogram(
        "holdfast_raft_snapshot_duration_seconds",
        &[Label::one_of("phase", &network::SNAPSHOT_PHASES)],
        "Time that a phase of a snapshot took that went well: `build` writes the file and `send` delivers it, on the sender; \
         `receive` takes it until it is verified and `install` puts it in place, on the receiver.",
    ),
    Metric::histogram(
        "holdfast_wal_fsync_seconds",
        &[],
        "Time of one fsync of the Raft log, which serves all groups that had something to write.",
    ),
    Metric::histogram(
        "holdfast_wal_group_commit_entries",
        &[],
        "Raft entries that became durable with one fsync.",
    ),
    Metric::histogram(
        "holdfast_wal_group_commit_bytes",
        &[],
        "Bytes that became durable with one fsync.",
    ),
];

/// Describes them, and makes every series exist, at zero.
pub fn init() {
    describe(METRICS);
    describe(disk::METRICS);
    disk::init();
    log::init_metrics();
    network::init_metrics();
}
