"""Where the time of a write goes, and how the groups are."""

from model import Dashboard, Panel, mean, quantile, rate

# The append to the leader's own log is within the commit, so it is not stacked.
STAGES = [
    ("1 propose", "holdfast_raft_propose_wait_seconds"),
    ("3 commit", "holdfast_raft_log_commit_seconds"),
    ("4 wait for apply", "holdfast_raft_apply_wait_seconds"),
    ("5 apply", "holdfast_raft_apply_seconds"),
]
ALL_STAGES = [STAGES[0], ("2 append", "holdfast_raft_log_append_seconds"), *STAGES[1:]]

PIPELINE = [
    Panel("Where the time of a write goes", "Mean time in each stage at the leader, one on the other: waiting to be proposed, until a majority has it, waiting to be applied, being applied.", "s",
          [(name, mean(metric)) for name, metric in STAGES], width=12, stack=True),
    Panel("99th percentile of each stage", "The append is the leader's and the followers' own; it is within the commit.", "s", [(name, quantile(0.99, metric)) for name, metric in ALL_STAGES], width=12),
    Panel("Slow stores: append", "99th percentile of the time until an append is durable, by store.", "s", [("{{instance}}", quantile(0.99, "holdfast_raft_log_append_seconds", "instance"))]),
    Panel("Slow stores: apply", "99th percentile of the time of applying an entry, by store.", "s", [("{{instance}}", quantile(0.99, "holdfast_raft_apply_seconds", "instance"))]),
    Panel("Fsync", "99th percentile of one fsync, by store.", "s", [("{{instance}}", quantile(0.99, "holdfast_wal_fsync_seconds", "instance"))]),
    Panel("Proposals", "Entries proposed, by what became of them.", "ops", [("{{result}}", rate("holdfast_raft_proposals_total", "result"))]),
    Panel("Writes an entry", "Writes in a proposed entry, on average: the busier a range, the more.", "none", [("{{instance}}", mean("holdfast_raft_proposal_entries", "instance"))]),
    Panel("Log", "Bytes of the Raft log on disk.", "bytes", [("{{instance}}", "holdfast_raft_log_bytes{@}")]),
]

READS = [
    Panel("Reads by path", "Rounds of reads, by how it was made sure that they are fresh.", "ops", [("{{path}}", rate("holdfast_raft_read_seconds_count", "path"))], width=12),
    Panel("99th percentile by path", "Time until reads were sure to be fresh.", "s", [("{{path}}", quantile(0.99, "holdfast_raft_read_seconds", "path"))], width=12),
]

GROUPS = [
    Panel("Elections", "Elections that replicas stood in. Some come with every store that stops; without one there should be none.", "ops", [("{{result}}", rate("holdfast_raft_elections_total", "result"))]),
    Panel("Changes of state", "Replicas that became leader, candidate, follower or learner.", "ops", [("{{to}}", rate("holdfast_raft_state_changes_total", "to"))]),
    Panel("Groups without a leader", "Replicas that know of no leader, by store.", "none", [("{{instance}}", 'holdfast_raft_groups{@,state="no_leader"}')]),
    Panel("Asleep", "Replicas whose timers are stopped; they work on without.", "none", [("{{role}}", "sum by (role) (holdfast_raft_hibernating{@})")], stack=True),
    Panel("Falling asleep and waking", "Replicas that fell asleep, and that woke, by cause.", "ops", [("asleep: {{role}}", rate("holdfast_raft_sleeps_total", "role")), ("awake: {{cause}}", rate("holdfast_raft_wakes_total", "cause"))]),
    Panel("Lag of followers", "Entries that followers lack.", "none", [(f"p{q * 100:g}", quantile(q, "holdfast_raft_replication_lag_entries")) for q in (0.5, 0.99)]),
    Panel("Slowest follower by store", "Entries that the slowest follower on a store lacks.", "none", [("store {{peer_store}}", "max by (peer_store) (holdfast_raft_replication_lag_max_entries{@})")]),
    Panel("Round trip by store", "99th percentile of the time from a heartbeat to its answer.", "s", [("store {{peer_store}}", quantile(0.99, "holdfast_raft_peer_rtt_seconds", "peer_store"))]),
]

NETWORK = [
    Panel("Messages sent", "Messages given to the transport, by type.", "ops", [("{{type}}", rate("holdfast_raft_messages_sent_total", "type"))], width=12),
    Panel("Messages without effect", "Messages sent in vain, or received and not acted on, by reason.", "ops", [("{{reason}}", rate("holdfast_raft_messages_dropped_total", "reason"))], width=12),
    Panel("Snapshots", "Snapshots that ended.", "ops", [("{{direction}} {{result}}", rate("holdfast_raft_snapshots_total", "direction, result"))]),
    Panel("Bytes of snapshots", "Bytes of snapshots, both ways.", "Bps", [("{{direction}}", rate("holdfast_raft_snapshot_bytes_total", "direction"))]),
    Panel("Phases of a snapshot", "90th percentile of the time that a phase of a snapshot took: written and sent, received and installed.", "s", [("{{phase}}", quantile(0.9, "holdfast_raft_snapshot_duration_seconds", "phase"))]),
]

RAFT = Dashboard("holdfast-raft", "Holdfast: Raft and write pipeline", "Where the time of a write goes, and how the groups are.", "store",
                 [("Write pipeline", PIPELINE), ("Reads", READS), ("Groups", GROUPS), ("Network and snapshots", NETWORK)])
