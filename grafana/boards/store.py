"""What stores are asked, and what that takes of their disks."""

from model import Dashboard, Panel, mean, quantile, rate

from .process import PROCESS

OPERATIONS = [
    Panel("Operations", "Operations that ended, by what was asked.", "ops", [("{{op}}", rate("holdfast_store_ops_total", "op"))]),
    Panel("Operations that did not succeed", "Operations that were sent elsewhere, refused, or are of unknown outcome.", "ops",
          [("{{op}} {{result}}", 'sum by (op, result) (rate(holdfast_store_ops_total{@,result!="ok"}[$__rate_interval]))')]),
    Panel("99th percentile of latency", "Time from the arrival at the store to the answer.", "s", [("{{op}}", quantile(0.99, "holdfast_store_op_duration_seconds", "op"))]),
    Panel("Operations by store", "What each store is asked.", "ops", [("{{instance}}", rate("holdfast_store_ops_total", "instance"))]),
    Panel("Replicas", "Replicas by what they are in their groups.", "none", [("{{state}}", "sum by (state) (holdfast_raft_groups{@})")], stack=True),
    Panel("Leaderships by store", "Ranges that each store leads: nearly as many each.", "none", [("{{instance}}", 'holdfast_raft_groups{@,state="leader"}')]),
]

DISK = [
    Panel("Free", "Free bytes of the file system of the data directory.", "bytes", [("{{instance}}", 'holdfast_store_capacity_bytes{@,kind="available"}')]),
    Panel("Taken", "What the store takes of its file system.", "bytes", [("{{instance}}", 'holdfast_store_capacity_bytes{@,kind="used"}')]),
    Panel("Raft log", "Bytes of the Raft log on disk.", "bytes", [("{{instance}}", "holdfast_raft_log_bytes{@}")]),
    Panel("Read", "Bytes read, by what for.", "Bps", [("{{kind}}", 'sum by (kind) (rate(holdfast_disk_io_bytes_total{@,dir="read"}[$__rate_interval]))')], width=12),
    Panel("Written", "Bytes written, by what for.", "Bps", [("{{kind}}", 'sum by (kind) (rate(holdfast_disk_io_bytes_total{@,dir="write"}[$__rate_interval]))')], width=12),
    Panel("Fsync of the log", "Time of one fsync, which serves all that wait.", "s", [(f"p{q * 100:g} {{{{instance}}}}", quantile(q, "holdfast_wal_fsync_seconds", "instance")) for q in (0.5, 0.99)],
          levels=((None, "transparent"), (0.1, "red"))),
    Panel("Entries a commit", "Raft entries that became durable with one fsync, on average.", "none", [("{{instance}}", mean("holdfast_wal_group_commit_entries", "instance"))]),
    Panel("Bytes a commit", "Bytes that became durable with one fsync, on average.", "bytes", [("{{instance}}", mean("holdfast_wal_group_commit_bytes", "instance"))]),
]

ENGINE = [
    Panel("Stalls", "Times that writes began to wait, or to be refused, because the engine was behind.", "ops", [("{{cause}}", rate("holdfast_engine_write_stalls_total", "cause"))], width=12),
    Panel("To be merged", "Bytes of tables that compaction still has to merge, about.", "bytes", [("{{instance}}", "holdfast_engine_pending_compaction_bytes{@}")], width=12),
    Panel("Cache hits", "Share of the looks into a cache that found what they wanted.", "percentunit",
          [("{{cache}}", 'sum by (cache) (rate(holdfast_engine_cache_requests_total{@,result="hit"}[$__rate_interval])) / sum by (cache) (rate(holdfast_engine_cache_requests_total{@}[$__rate_interval]))')], width=12),
    Panel("Rows fetched", "Rows that were fetched before they were read, because tables are slow to answer: more is read than fits into memory.", "ops",
          [("{{instance}}", rate("holdfast_engine_rows_fetched_total", "instance"))], width=12),
]

RANGES = [
    Panel("Sizes", "Sizes of ranges, weighed alike.", "bytes", [(f"p{q * 100:g}", quantile(q, "holdfast_range_size_bytes")) for q in (0.5, 0.99)]),
    Panel("Splits", "Ranges that were split, by whose decision.", "ops", [("{{reason}}", rate("holdfast_range_splits_total", "reason"))]),
    Panel("Comparisons", "Ranges whose replicas were compared, by what came of it.", "ops", [("{{result}}", rate("holdfast_store_checks_total", "result"))]),
    Panel("Ranges whose replicas differ", "Ranges with a replica on each store whose replicas hold different data: never above 0 in a cluster that is sound.", "none",
          [("{{instance}}", "holdfast_store_divergent_ranges{@}")], levels=((None, "transparent"), (1, "red"))),
    Panel("Merges", "Ranges that took over their neighbour, and merges that were called off.", "ops", [("{{reason}}", rate("holdfast_range_merges_total", "reason"))]),
]

STORE = Dashboard("holdfast-store", "Holdfast: store", "What stores are asked, and what that takes of their disks.", "store", [("Operations", OPERATIONS), ("Disk", DISK), ("Engine", ENGINE), ("Ranges", RANGES), PROCESS])
