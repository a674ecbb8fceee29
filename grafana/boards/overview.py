"""Is the cluster well, what is asked of it, and does it have room."""

from model import Dashboard, Panel, quantile, rate

from .process import PROCESS

GOOD, FAIR, BAD = "green", "orange", "red"


def stat(title, description, expression, levels, unit="none", legend="", width=4):
    return Panel(title, description, unit, [(legend, expression)], kind="stat", width=width, levels=levels)


HEALTH = [
    stat("Stores up", "Stores that the placement driver hears from.", 'max(holdfast_placement_stores{#,state="up"})', ((None, BAD), (1, GOOD))),
    stat(
        "Stores not up",
        "Stores that are suspect or down. Their replicas are made anew elsewhere once they are down.",
        'max(holdfast_placement_stores{#,state="suspect"}) + max(holdfast_placement_stores{#,state="down"})',
        ((None, GOOD), (1, BAD)),
    ),
    stat("Healthy ranges", "Ranges with all their replicas, on stores that are up, and a leader.", 'max(holdfast_placement_ranges{#,health="ok"})', ((None, BAD), (1, GOOD))),
    stat(
        "Ranges in want of a replica",
        "Ranges with too few replicas, or one on a store that is down. They are served, and are made whole by themselves if there is room.",
        'max(holdfast_placement_ranges{#,health="under"}) + max(holdfast_placement_ranges{#,health="down_replica"})',
        ((None, GOOD), (1, FAIR)),
    ),
    stat("Ranges without a leader", "Ranges that nobody leads: they serve nothing.", 'max(holdfast_placement_ranges{#,health="no_leader"})', ((None, GOOD), (1, BAD))),
    stat("Placement leaders", "Members that lead the placement driver: one.", "sum(holdfast_placement_leader{#})", ((None, BAD), (1, GOOD), (2, BAD))),
    stat("Processes that answer", "Processes that Prometheus reaches.", "sum(up{#})", ((None, BAD), (1, GOOD)), width=6),
    stat("Processes that do not", "Processes that Prometheus does not reach.", "count(up{#}) - sum(up{#})", ((None, GOOD), (1, BAD)), width=6),
    stat("Builds", "Builds that run at the same time: one, but for an upgrade.", "count(count by (version, commit) (holdfast_build_info{#}))", ((None, GOOD), (2, FAIR)), width=6),
    stat(
        "Largest clock offset",
        "How far the clock of a process is from that of Prometheus, the time of a scrape included. Expiry goes by the leaders' clocks.",
        "max(abs(holdfast_wall_clock_seconds{#} - timestamp(holdfast_wall_clock_seconds{#})))",
        ((None, GOOD), (0.25, FAIR), (0.5, BAD)),
        unit="s",
        width=6,
    ),
]

TRAFFIC = [
    Panel("Requests", "Requests that routers answered, by what they asked for.", "reqps", [("{{op}}", rate("holdfast_router_requests_total", "op"))]),
    Panel(
        "Failed requests",
        "Share of the answers that say that the service is at fault (5xx).",
        "percentunit",
        [("5xx", 'sum(rate(holdfast_router_requests_total{@,code=~"5.."}[$__rate_interval])) / sum(rate(holdfast_router_requests_total{@}[$__rate_interval]))')],
        levels=((None, "transparent"), (0.01, BAD)),
    ),
    Panel(
        "Latency",
        "Time from the head of a request to the head of its answer, of those that succeeded.",
        "s",
        [(f"p{q * 100:g}", quantile(q, "holdfast_router_request_duration_seconds", where=',outcome="ok",op!="other"')) for q in (0.5, 0.99, 0.999)],
    ),
    Panel("Stores by state", "Stores by state, as the leading placement member sees them.", "none", [("{{state}}", "max by (state) (holdfast_placement_stores{#})")], stack=True),
    Panel("Ranges by health", "Ranges by health, as the leading placement member sees them.", "none", [("{{health}}", "max by (health) (holdfast_placement_ranges{#})")], stack=True),
    Panel(
        "Disk in use",
        "Share of a store's file system that is taken, by whomever. Stores refuse writes when it is nearly full.",
        "percentunit",
        [("{{instance}}", '1 - holdfast_store_capacity_bytes{#,kind="available"} / ignoring(kind) holdfast_store_capacity_bytes{#,kind="total"}')],
        levels=((None, "transparent"), (0.8, FAIR), (0.9, BAD)),
    ),
]

OVERVIEW = Dashboard("holdfast-overview", "Holdfast: overview", "Is the cluster well, what is asked of it, does it have room.", ".+", [("Health", HEALTH), ("Traffic and room", TRAFFIC), PROCESS])
