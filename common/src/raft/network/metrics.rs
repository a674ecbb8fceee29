//! The metrics of the Raft network. Handles are made once, so that counting costs an atomic addition, and every series
//! exists from the start.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use crate::ids::StoreId;
use crate::telemetry::peer_label;

/// Messages given to the transport, by type.
const SENT: &str = "holdfast_raft_messages_sent_total";
/// Messages that had no effect, by reason.
const DROPPED: &str = "holdfast_raft_messages_dropped_total";
/// Time from a heartbeat message to its answer, by peer.
const RTT: &str = "holdfast_raft_peer_rtt_seconds";
/// Snapshots that ended, by direction and result.
const SNAPSHOTS: &str = "holdfast_raft_snapshots_total";
/// Bytes of snapshots, by direction.
const SNAPSHOT_BYTES: &str = "holdfast_raft_snapshot_bytes_total";
/// How long a phase of a snapshot took.
const SNAPSHOT_SECONDS: &str = "holdfast_raft_snapshot_duration_seconds";
/// The phases, the sender's first.
pub(crate) const SNAPSHOT_PHASES: [&str; 4] = ["build", "send", "receive", "install"];

/// What leaves this process.
pub(super) struct Sent {
    pub(super) append: Counter,
    pub(super) vote: Counter,
    pub(super) pre_vote: Counter,
    pub(super) transfer: Counter,
    pub(super) heartbeats: Counter,
    pub(super) snapshot: Counter,
    /// The peer could not be reached; the message was not delivered.
    pub(super) unreachable: Counter,
    /// No answer came in time.
    pub(super) timeout: Counter,
    /// The connection broke before the answer came.
    pub(super) lost: Counter,
    /// The peer refused it.
    pub(super) refused: Counter,
    /// The answer made no sense.
    pub(super) bad_answer: Counter,
    pub(super) snapshots: Snapshots,
}

/// What comes in.
pub(super) struct Received {
    /// For a replica that is not here.
    pub(super) unknown_replica: Counter,
    /// For a replica that does not vote yet.
    pub(super) not_voting_yet: Counter,
    /// For a replica that has stopped.
    pub(super) stopped: Counter,
    /// Too much was under way.
    pub(super) busy: Counter,
    /// Not a message.
    pub(super) malformed: Counter,
    pub(super) snapshots: Snapshots,
}

/// Snapshots in one direction.
#[derive(Clone)]
pub(super) struct Snapshots {
    ok: Counter,
    pub(super) failed: Counter,
    pub(super) cancelled: Counter,
    pub(super) bytes: Counter,
    /// Until it can be moved: written to a file, or received in one.
    first_phase: Histogram,
    /// Until it is where it belongs: delivered, or installed.
    second_phase: Histogram,
}

impl Sent {
    pub(super) fn new() -> Self {
        let sent = |kind: &'static str| counter!(SENT, "type" => kind);
        Self {
            append: sent("append"),
            vote: sent("vote"),
            pre_vote: sent("pre_vote"),
            transfer: sent("transfer"),
            heartbeats: sent("heartbeats"),
            snapshot: sent("snapshot"),
            unreachable: dropped("unreachable"),
            timeout: dropped("timeout"),
            lost: dropped("lost"),
            refused: dropped("refused"),
            bad_answer: dropped("bad_answer"),
            snapshots: Snapshots::new("send", ["build", "send"]),
        }
    }
}

impl Received {
    pub(super) fn new() -> Self {
        Self {
            unknown_replica: dropped("unknown_replica"),
            not_voting_yet: dropped("not_voting_yet"),
            stopped: dropped("stopped"),
            busy: dropped("busy"),
            malformed: dropped("malformed"),
            snapshots: Snapshots::new("receive", ["receive", "install"]),
        }
    }
}

impl Snapshots {
    fn new(direction: &'static str, [first, second]: [&'static str; 2]) -> Self {
        let took = |phase: &'static str| histogram!(SNAPSHOT_SECONDS, "phase" => phase);
        let ended = |result: &'static str| counter!(SNAPSHOTS, "direction" => direction, "result" => result);
        Self {
            ok: ended("ok"),
            failed: ended("failed"),
            cancelled: ended("cancelled"),
            bytes: counter!(SNAPSHOT_BYTES, "direction" => direction),
            first_phase: took(first),
            second_phase: took(second),
        }
    }

    /// It was built, or received, in this time.
    pub(super) fn staged(&self, took: Duration) {
        self.first_phase.record(took);
    }

    /// It was delivered, or installed, in this time.
    pub(super) fn landed(&self, took: Duration) {
        self.second_phase.record(took);
        self.ok.increment(1);
    }
}

/// The round-trip times to one peer.
pub(super) fn rtt(peer: StoreId) -> Histogram {
    histogram!(RTT, "peer_store" => peer_label(peer))
}

fn dropped(reason: &'static str) -> Counter {
    counter!(DROPPED, "reason" => reason)
}
