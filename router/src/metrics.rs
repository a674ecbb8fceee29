//! Every metric of the router. Handles are made once, at start, so that each series exists from the beginning and a
//! request looks nothing up.

use std::time::Duration;

use holdfast_common::telemetry::catalogue::describe;
use http::StatusCode;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::retry::Failure;

mod catalogue;

pub use catalogue::METRICS;

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Reads a key.
    Get,
    /// Writes a key.
    Put,
    /// Removes a key.
    Delete,
    /// Reads many keys.
    Scan,
    /// Several operations, each for itself.
    Batch,
    /// Several operations at one moment.
    Txn,
    /// Health, metrics, and what is not served at all.
    Other,
}

/// Why a request was turned away before it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// Too many connections.
    Connections,
    /// Too many bytes of bodies in memory.
    Memory,
    /// Too many scans.
    Scans,
}

/// How a look into the range cache ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// There was a route.
    Hit,
    /// There was none.
    Miss,
    /// There was one, and the store that it led to knew better.
    Stale,
}

/// In the order of [`Op`].
const OPS: [&str; 7] = ["get", "put", "delete", "scan", "batch", "txn", "other"];
/// In the order of [`Rejection`].
const REJECTIONS: [&str; 3] = ["connections", "memory", "scans"];
/// In the order of [`Lookup`].
const LOOKUPS: [&str; 3] = ["hit", "miss", "stale"];

/// The statuses that the router answers with; any other is counted as the last.
const CODES: [&str; 22] = [
    "200", "201", "204", "304", "400", "401", "403", "404", "405", "408", "412", "413", "414", "422", "429",
    "431", "500", "501", "503", "504", "507", "other",
];

/// Which rules of access are gone by: see [`crate::gate`].
pub(crate) const ACCESS_VERSION: &str = "holdfast_router_access_version";

const OUTCOMES: [&str; 3] = ["ok", "client_error", "server_error"];

const RETRY_REASONS: [&str; 8] = [
    "not_leader",
    "epoch_stale",
    "unreachable",
    "busy",
    "no_answer",
    "not_ready",
    "no_route",
    "other",
];

/// The handles.
pub(crate) struct Metrics {
    ops: Vec<OpMetrics>,
    in_flight: Gauge,
    cache_entries: Gauge,
    connections: Gauge,
    retries: Vec<Counter>,
    lookups: Vec<Counter>,
    rejections: Vec<Counter>,
}

struct OpMetrics {
    requests: Vec<Counter>,
    /// By the index of the outcome.
    durations: Vec<Histogram>,
    request_bytes: Counter,
    response_bytes: Counter,
}

impl Metrics {
    /// Makes the handles with the recorder that is installed.
    pub(crate) fn new() -> Self {
        describe(METRICS);
        gauge!(ACCESS_VERSION).set(0.0);
        let retry = |reason: &'static str| counter!("holdfast_router_retries_total", "reason" => reason);
        let lookup =
            |result: &'static str| counter!("holdfast_router_range_cache_lookups_total", "result" => result);
        let rejection =
            |reason: &'static str| counter!("holdfast_router_admission_rejections_total", "reason" => reason);
        Self {
            ops: OPS.into_iter().map(OpMetrics::new).collect(),
            in_flight: gauge!("holdfast_router_requests_in_flight"),
            cache_entries: gauge!("holdfast_router_range_cache_entries"),
            connections: gauge!("holdfast_router_connections"),
            retries: RETRY_REASONS.into_iter().map(retry).collect(),
            lookups: LOOKUPS.into_iter().map(lookup).collect(),
            rejections: REJECTIONS.into_iter().map(rejection).collect(),
        }
    }

    /// A request began. It ends when the guard is dropped, whatever becomes of it.
    pub(crate) fn begin(&self) -> Present<'_> {
        Present::new(&self.in_flight)
    }

    /// A request was answered.
    pub(crate) fn answered(&self, op: Op, status: StatusCode, took: Duration) {
        let of_op = &self.ops[op as usize];
        let known = CODES.iter().position(|code| *code == status.as_str());
        of_op.requests[known.unwrap_or(CODES.len() - 1)].increment(1);
        let outcome = if status.is_server_error() {
            2
        } else {
            usize::from(status.is_client_error())
        };
        of_op.durations[outcome].record(took.as_secs_f64());
    }

    /// A request's body was read.
    pub(crate) fn request_bytes(&self, op: Op, bytes: usize) {
        self.ops[op as usize].request_bytes.increment(bytes as u64);
    }

    /// A body, or a part of one, is about to be sent.
    pub(crate) fn response_bytes(&self, op: Op, bytes: usize) {
        self.ops[op as usize].response_bytes.increment(bytes as u64);
    }

    /// An attempt failed and is followed by another.
    pub(crate) fn retried(&self, failure: Failure) {
        let reason = match failure {
            Failure::NotLeader => 0,
            Failure::StaleEpoch => 1,
            Failure::Unreachable | Failure::NotSentInTime => 2,
            Failure::Busy { .. } | Failure::Congested => 3,
            Failure::NoAnswerInTime | Failure::Lost | Failure::OutcomeUnknown => 4,
            Failure::NotReady | Failure::NoSuchRange => 5,
            Failure::NoRoute | Failure::NoAddress => 6,
            _ => 7,
        };
        self.retries[reason].increment(1);
    }

    /// The range cache was asked.
    pub(crate) fn looked_up(&self, result: Lookup) {
        self.lookups[result as usize].increment(1);
    }

    /// A request was turned away.
    pub(crate) fn rejected(&self, reason: Rejection) {
        self.rejections[reason as usize].increment(1);
    }

    /// The range cache holds this many routes.
    pub(crate) fn cache_entries(&self, routes: usize) {
        self.cache_entries.set(routes as f64);
    }

    /// A client connected. It leaves when the guard is dropped.
    pub(crate) fn connected(&self) -> Present<'_> {
        Present::new(&self.connections)
    }
}

impl OpMetrics {
    fn new(op: &'static str) -> Self {
        let requests =
            |code: &'static str| counter!("holdfast_router_requests_total", "op" => op, "code" => code);
        let duration = |outcome: &'static str| histogram!("holdfast_router_request_duration_seconds", "op" => op, "outcome" => outcome);
        Self {
            requests: CODES.into_iter().map(requests).collect(),
            durations: OUTCOMES.into_iter().map(duration).collect(),
            request_bytes: counter!("holdfast_router_request_bytes_total", "op" => op),
            response_bytes: counter!("holdfast_router_response_bytes_total", "op" => op),
        }
    }
}

/// One more in a gauge, until it is dropped.
pub(crate) struct Present<'a>(&'a Gauge);

impl<'a> Present<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_stands_at_its_own_index() {
        assert_eq!(OPS[Op::Get as usize], "get");
        assert_eq!(OPS[Op::Batch as usize], "batch");
        assert_eq!(OPS[Op::Other as usize], "other");
        assert_eq!(REJECTIONS[Rejection::Scans as usize], "scans");
        assert_eq!(LOOKUPS[Lookup::Stale as usize], "stale");
    }

    #[test]
    fn a_status_that_is_not_expected_is_counted_too() {
        assert_eq!(CODES.last(), Some(&"other"));
        assert!(
            CODES
                .iter()
                .rev()
                .skip(1)
                .all(|code| StatusCode::from_bytes(code.as_bytes()).is_ok())
        );
    }
}
