//! What a router measures.

use holdfast_common::telemetry::catalogue::{Label, Metric};

use super::{ACCESS_VERSION, CODES, LOOKUPS, OPS, OUTCOMES, REJECTIONS, RETRY_REASONS};

const OP: Label = Label::one_of("op", &OPS);

/// The metrics.
pub const METRICS: &[Metric] = &[
    Metric::counter(
        "holdfast_router_requests_total",
        &[OP, Label::one_of("code", &CODES)],
        "Requests that were answered, by what they asked for and the status of the answer. `op=\"other\"`: health, metrics, and \
         what is not served.",
    ),
    Metric::histogram(
        "holdfast_router_request_duration_seconds",
        &[OP, Label::one_of("outcome", &OUTCOMES)],
        "Time from the head of a request to the head of its answer.",
    ),
    Metric::gauge(
        "holdfast_router_requests_in_flight",
        &[],
        "Requests being served.",
    ),
    Metric::gauge("holdfast_router_connections", &[], "Clients connected."),
    Metric::gauge(
        ACCESS_VERSION,
        &[],
        "Version of the rules of who may do what that the router goes by; 0 until it has heard of them.",
    ),
    Metric::counter(
        "holdfast_router_request_bytes_total",
        &[OP],
        "Bytes of the bodies of requests.",
    ),
    Metric::counter(
        "holdfast_router_response_bytes_total",
        &[OP],
        "Bytes of the bodies of answers.",
    ),
    Metric::counter(
        "holdfast_router_retries_total",
        &[Label::one_of("reason", &RETRY_REASONS)],
        "Attempts at a store that failed and were followed by another, by why.",
    ),
    Metric::gauge(
        "holdfast_router_range_cache_entries",
        &[],
        "Ranges to which the router knows the way.",
    ),
    Metric::counter(
        "holdfast_router_range_cache_lookups_total",
        &[Label::one_of("result", &LOOKUPS)],
        "Looks into the range cache. `stale`: there was a route, and the store that it led to knew better.",
    ),
    Metric::counter(
        "holdfast_router_admission_rejections_total",
        &[Label::one_of("reason", &REJECTIONS)],
        "Requests and connections that were turned away before they began: too many connections, bytes of bodies in memory, or \
         scans.",
    ),
];
