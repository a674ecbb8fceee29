//! Figures of the cluster over the time between two looks at its members' metrics. Pure.

use std::collections::BTreeMap;

use holdfast_common::ids::StoreId;
use serde_json::{Map, Value, json};

use super::exposition::{self, Series};
use super::histogram::Histogram;

/// Where the time of a write goes on a store, in the order in which it passes there: name and metric.
const STAGES: [(&str, &str); 9] = [
    ("propose_wait", "holdfast_raft_propose_wait_seconds"),
    ("log_append", "holdfast_raft_log_append_seconds"),
    ("fsync", "holdfast_wal_fsync_seconds"),
    ("peer_rtt", "holdfast_raft_peer_rtt_seconds"),
    ("log_commit", "holdfast_raft_log_commit_seconds"),
    ("apply_wait", "holdfast_raft_apply_wait_seconds"),
    ("apply", "holdfast_raft_apply_seconds"),
    ("write", "holdfast_store_op_duration_seconds/write"),
    ("read", "holdfast_store_op_duration_seconds/get"),
];

const ROUTER_SECONDS: &str = "holdfast_router_request_duration_seconds";
const ROUTER_REQUESTS: &str = "holdfast_router_requests_total";
const ROUTER_IN: &str = "holdfast_router_request_bytes_total";
const ROUTER_OUT: &str = "holdfast_router_response_bytes_total";

/// The operations that clients see, as the console groups them.
const CLASSES: [&str; 4] = ["read", "write", "scan", "other"];

/// Who was asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// A router, by address.
    Router(String),
    /// A store.
    Store(StoreId),
}

/// What one process has counted since it began.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Counted {
    histograms: BTreeMap<&'static str, Histogram>,
    counters: BTreeMap<&'static str, f64>,
}

impl Counted {
    /// Reads what a process says of itself.
    pub(crate) fn read(text: &str) -> Self {
        let mut counted = Self::default();
        for series in exposition::series(text, "holdfast_") {
            counted.take(&series);
        }
        counted
    }

    fn take(&mut self, series: &Series<'_>) {
        match series.name {
            ROUTER_REQUESTS => {
                *self.counters.entry(class(series)).or_default() += series.value;
                let failed = series
                    .label("code")
                    .is_some_and(|code| code.starts_with('5') || code == "429");
                if failed {
                    *self.counters.entry("failed").or_default() += series.value;
                }
            }
            ROUTER_IN => *self.counters.entry("in").or_default() += series.value,
            ROUTER_OUT => *self.counters.entry("out").or_default() += series.value,
            name => {
                let Some((metric, part)) = histogram_part(name) else {
                    return;
                };
                let Some(kind) = kind(metric, series) else { return };
                let histogram = self.histograms.entry(kind).or_default();
                match part {
                    Part::Sum => histogram.add_sum(series.value),
                    Part::Bucket => {
                        let bound = series.label("le").and_then(|bound| bound.parse().ok());
                        histogram.add_bucket(bound.unwrap_or(f64::INFINITY), series.value);
                    }
                }
            }
        }
    }

    /// What it counted since `earlier`; everything, if it began anew meanwhile.
    fn since(&self, earlier: &Self) -> Self {
        let began_anew = self
            .counters
            .iter()
            .any(|(name, now)| earlier.counters.get(name).is_some_and(|before| before > now));
        let empty = Self::default();
        let earlier = if began_anew { &empty } else { earlier };
        let histograms = self.histograms.iter().map(|(name, now)| {
            (
                *name,
                earlier
                    .histograms
                    .get(name)
                    .map_or_else(|| now.clone(), |before| now.since(before)),
            )
        });
        let counters = self
            .counters
            .iter()
            .map(|(name, now)| (*name, now - earlier.counters.get(name).copied().unwrap_or(0.0)));
        Self {
            histograms: histograms.collect(),
            counters: counters.collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        for (name, histogram) in &other.histograms {
            self.histograms.entry(name).or_default().add(histogram);
        }
        for (name, count) in &other.counters {
            *self.counters.entry(name).or_default() += count;
        }
    }

    fn counter(&self, name: &str) -> f64 {
        self.counters.get(name).copied().unwrap_or(0.0)
    }

    fn summaries(&self, names: impl Iterator<Item = &'static str>) -> Value {
        let summary = |name: &str| self.histograms.get(name).map_or(Value::Null, Histogram::summary);
        Value::Object(
            names
                .map(|name| (name.to_owned(), summary(name)))
                .collect::<Map<_, _>>(),
        )
    }
}

enum Part {
    Bucket,
    Sum,
}

fn histogram_part(name: &str) -> Option<(&str, Part)> {
    let bucket = name.strip_suffix("_bucket").map(|metric| (metric, Part::Bucket));
    bucket.or_else(|| name.strip_suffix("_sum").map(|metric| (metric, Part::Sum)))
}

/// What a histogram is called here.
fn kind(metric: &str, series: &Series<'_>) -> Option<&'static str> {
    if metric == ROUTER_SECONDS {
        return Some(class(series));
    }
    let of = |wanted: &str| match wanted.split_once('/') {
        Some((wanted, op)) => wanted == metric && series.label("op") == Some(op),
        None => wanted == metric,
    };
    STAGES
        .iter()
        .find(|(_, wanted)| of(wanted))
        .map(|(name, _)| *name)
}

fn class(series: &Series<'_>) -> &'static str {
    match series.label("op") {
        Some("get" | "head") => "read",
        Some("put" | "delete" | "batch" | "txn") => "write",
        Some("scan") => "scan",
        _ => "other",
    }
}

/// What there is to say of the `seconds` between `before` and `now`. A member that is new since says nothing yet.
pub(crate) fn between(
    before: &BTreeMap<Source, Counted>,
    now: &BTreeMap<Source, Counted>,
    seconds: f64,
    at_ms: u64,
) -> Value {
    let (mut clients, mut pipeline, mut stores) = (Counted::default(), Counted::default(), Vec::new());
    let stages = || STAGES.iter().map(|(name, _)| *name);
    let mut asked = 0_usize;
    for (source, counted) in now {
        let Some(before) = before.get(source) else {
            continue;
        };
        let since = counted.since(before);
        match source {
            Source::Router(_) => {
                asked += 1;
                clients.add(&since);
            }
            Source::Store(id) => {
                stores.push(json!({"id": id, "stages": since.summaries(stages())}));
                pipeline.add(&since);
            }
        }
    }
    let per_second = |name: &str| clients.counter(name) / seconds.max(0.001);
    json!({
        "at_ms": at_ms,
        "seconds": seconds,
        "routers": asked,
        "traffic": {
            "reads": per_second("read"),
            "writes": per_second("write"),
            "scans": per_second("scan"),
            "failed": per_second("failed"),
            "bytes_in": per_second("in"),
            "bytes_out": per_second("out"),
        },
        "latency": clients.summaries(CLASSES.into_iter()),
        "stages": pipeline.summaries(stages()),
        "stores": stores,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(puts: u32, failed: u32) -> Counted {
        Counted::read(&format!(
            "holdfast_router_requests_total{{op=\"put\",code=\"201\"}} {puts}\n\
             holdfast_router_requests_total{{op=\"put\",code=\"503\"}} {failed}\n\
             holdfast_router_request_duration_seconds_bucket{{op=\"put\",outcome=\"ok\",le=\"0.001\"}} {puts}\n\
             holdfast_router_request_duration_seconds_bucket{{op=\"put\",outcome=\"ok\",le=\"+Inf\"}} {puts}\n"
        ))
    }

    fn store(writes: u32) -> Counted {
        Counted::read(&format!(
            "holdfast_store_op_duration_seconds_bucket{{op=\"write\",le=\"+Inf\"}} {writes}\n\
             holdfast_store_op_duration_seconds_bucket{{op=\"scan\",le=\"+Inf\"}} 9\n\
             holdfast_wal_fsync_seconds_bucket{{le=\"0.01\"}} {writes}\n\
             holdfast_wal_fsync_seconds_bucket{{le=\"+Inf\"}} {writes}\n\
             holdfast_wal_fsync_seconds_sum {writes}\n"
        ))
    }

    #[test]
    fn rates_are_of_the_time_between_and_of_all_members_together() {
        let source = |name: &str| Source::Router(name.to_owned());
        let before = BTreeMap::from([(source("a"), router(10, 0)), (source("b"), router(0, 0))]);
        let now = BTreeMap::from([
            (source("a"), router(20, 2)),
            (source("b"), router(10, 0)),
            (source("new"), router(999, 0)),
        ]);
        let sample = between(&before, &now, 2.0, 5);
        assert_eq!(sample["traffic"]["writes"], 11.0);
        assert_eq!(sample["traffic"]["failed"], 1.0);
        assert_eq!(sample["traffic"]["reads"], 0.0);
        assert_eq!(sample["latency"]["write"]["count"], 20.0);
        assert_eq!(sample["latency"]["read"], Value::Null);
    }

    #[test]
    fn each_store_has_its_stages_and_one_that_began_anew_counts_from_zero() {
        let before = BTreeMap::from([
            (Source::Store(StoreId(1)), store(5)),
            (Source::Store(StoreId(2)), store(50)),
        ]);
        let now = BTreeMap::from([
            (Source::Store(StoreId(1)), store(8)),
            (Source::Store(StoreId(2)), store(4)),
        ]);
        let sample = between(&before, &now, 1.0, 5);
        assert_eq!(sample["stages"]["write"]["count"], 7.0);
        assert_eq!(
            sample["stages"]["fsync"]["p99"].as_f64().map(|p99| p99 <= 0.01),
            Some(true)
        );
        assert_eq!(sample["stores"][0]["stages"]["fsync"]["count"], 3.0);
        assert_eq!(
            sample["stages"]["apply"],
            Value::Null,
            "not measured by this version"
        );
    }
}
