"""What the placement driver sees and does."""

from model import Dashboard, Panel, quantile

from .process import PROCESS

MEMBERS = [
    Panel("Leader", "The member that leads, over time: 1.", "none", [("{{instance}}", "holdfast_placement_leader{@}")]),
    Panel("Stores by state", "Stores by state.", "none", [("{{state}}", "max by (state) (holdfast_placement_stores{#})")], stack=True),
    Panel("Ranges by health", "Ranges by health.", "none", [("{{health}}", "max by (health) (holdfast_placement_ranges{#})")], stack=True),
    Panel("Last heard of", "Time since a store was last heard of. A store beats every second or so.", "s", [("store {{store}}", "max by (store) (holdfast_placement_heartbeat_age_seconds{#})")], levels=((None, "transparent"), (15, "red"))),
    Panel("Commit of the driver's log", "99th percentile of the time until an append of the driver's own group is durable.", "s", [("{{instance}}", quantile(0.99, "holdfast_raft_log_append_seconds", "instance"))]),
    Panel("Log", "Bytes of the driver's Raft log on disk.", "bytes", [("{{instance}}", "holdfast_raft_log_bytes{@}")]),
]

OPERATORS = [
    Panel("Under way", "Operators under way, by type.", "none", [("{{type}}", "max by (type) (holdfast_placement_operators_pending{#})")]),
    Panel("Ended", "Operators that ended, by type and how.", "ops", [("{{type}} {{state}}", "sum by (type, state) (rate(holdfast_placement_operators_total{#}[$__rate_interval]))")]),
    Panel("Duration", "90th percentile of the time that operators took.", "s",
          [("{{type}}", "histogram_quantile(0.9, sum by (le, type) (rate(holdfast_placement_operator_duration_seconds_bucket{#}[$__rate_interval])))")]),
]

BALANCE = [
    Panel("Replicas", "Replicas that each store holds.", "none", [("store {{store}}", 'max by (store) (holdfast_placement_store_score{#,kind="replicas"})')]),
    Panel("Leaderships", "Ranges that each store leads.", "none", [("store {{store}}", 'max by (store) (holdfast_placement_store_score{#,kind="leaders"})')]),
    Panel("Load", "Units of work a second that each store has.", "none", [("store {{store}}", 'max by (store) (holdfast_placement_store_score{#,kind="load"})')]),
    Panel("Reads of the busiest ranges", "Reads a second of the five ranges that are read most, by rank; which they are is in the console.", "ops",
          [("no. {{rank}}", 'max by (rank) (holdfast_placement_hot_range_ops_per_second{#,direction="read",rank=~"[1-5]"})')], width=12),
    Panel("Writes of the busiest ranges", "Writes a second of the five ranges that are written most, by rank.", "ops",
          [("no. {{rank}}", 'max by (rank) (holdfast_placement_hot_range_ops_per_second{#,direction="write",rank=~"[1-5]"})')], width=12),
]

PLACEMENT = Dashboard("holdfast-placement", "Holdfast: placement", "What the placement driver sees and does.", "placement", [("Members and what they see", MEMBERS), ("Operators", OPERATORS), ("Balance", BALANCE), PROCESS])
