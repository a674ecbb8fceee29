"""What clients ask, how they are answered, and how routers find the way."""

from model import Dashboard, Panel, quantile, rate

from .process import PROCESS

SECONDS = "holdfast_router_request_duration_seconds"

REQUESTS = [
    Panel("Requests by operation", "Requests that were answered, by what they asked for.", "reqps", [("{{op}}", rate("holdfast_router_requests_total", "op"))]),
    Panel("Requests by status", "Requests that were answered, by the status of the answer.", "reqps", [("{{code}}", rate("holdfast_router_requests_total", "code"))]),
    Panel("Requests by router", "Requests that each router answered: they should be alike.", "reqps", [("{{instance}}", rate("holdfast_router_requests_total", "instance"))]),
    Panel("Median latency", "Half of the requests that succeeded took less.", "s", [("{{op}}", quantile(0.5, SECONDS, "op", ',outcome="ok"'))]),
    Panel("99th percentile of latency", "One of a hundred requests that succeeded took longer.", "s", [("{{op}}", quantile(0.99, SECONDS, "op", ',outcome="ok"'))]),
    Panel("Latency of failures", "99th percentile of requests whose answer says that the service is at fault: near the clients' deadlines when a range can't be reached.", "s",
          [("{{op}}", quantile(0.99, SECONDS, "op", ',outcome="server_error"'))],
          may_be_empty="a cluster that loses one store of several need not fail any request"),
    Panel("Latency, all requests", "How many requests took how long.", "s", [("{{le}}", f"sum by (le) (increase({SECONDS}_bucket{{@}}[$__rate_interval]))")], kind="heatmap", width=24),
]

LOAD = [
    Panel("Requests in flight", "Requests being served.", "none", [("{{instance}}", "holdfast_router_requests_in_flight{@}")]),
    Panel("Connections", "Clients connected.", "none", [("{{instance}}", "holdfast_router_connections{@}")]),
    Panel("Bytes", "Bytes of bodies, in and out.", "Bps", [("in", rate("holdfast_router_request_bytes_total")), ("out", rate("holdfast_router_response_bytes_total"))]),
    Panel("Turned away", "Requests and connections that were refused before they began, by what there was too much of.", "reqps", [("{{reason}}", rate("holdfast_router_admission_rejections_total", "reason"))]),
]

ROUTES = [
    Panel("Retries", "Attempts at a store that failed and were followed by another. After a change of leader there are some; all the time there should be few.", "ops", [("{{reason}}", rate("holdfast_router_retries_total", "reason"))]),
    Panel("Range cache", "Looks into the range cache. Stale: the store that the route led to knew better.", "ops", [("{{result}}", rate("holdfast_router_range_cache_lookups_total", "result"))]),
    Panel("Ranges known", "Ranges to which the router knows the way: all of them.", "none", [("{{instance}}", "holdfast_router_range_cache_entries{@}")]),
]

ROUTER = Dashboard("holdfast-router", "Holdfast: router", "What clients ask, how they are answered, how routers find the way.", "router", [("Requests", REQUESTS), ("Load", LOAD), ("Routes", ROUTES), PROCESS])
