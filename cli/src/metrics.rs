//! The metrics of each role, from the tables of the crates that measure them, and the document that they make:
//! `docs/metrics.md`, which a test holds to be the same.

use std::fmt::Write as _;

use holdfast_common::raft;
use holdfast_common::telemetry::catalogue::{EVERY_PROCESS, Label, Metric, OF_THE_PROCESS, Values};
use holdfast_common::telemetry::disk;

/// A part of the document: what it is about, and its table.
type Part = (&'static str, &'static [Metric]);

const PARTS: [Part; 6] = [
    ("Every process", EVERY_PROCESS),
    ("Router", holdfast_router::metrics::METRICS),
    ("Store", holdfast_store::metrics::METRICS),
    (
        "Raft log and network (stores and placement members)",
        raft::metrics::METRICS,
    ),
    ("Disk (stores and placement members)", disk::METRICS),
    ("Placement driver", holdfast_placement::metrics::METRICS),
];

const INTRODUCTION: &str = "\
# Metrics

Every process tells its metrics at `GET /metrics` of its HTTP address, in Prometheus' text format. What is below is made from
the tables in the code that also describe the metrics to Prometheus, by `just openapi`; a test holds it to the code, and another
one holds running processes to it.

* Names end in their unit, and those of counters in `_total`: seconds, bytes, or numbers of things.
* Every series exists from the start, at zero, so that nothing in a dashboard is empty because nothing has happened yet. The exceptions
  are those with a label whose values are known only later, such as the id of another store; their values are said in words.
* No label names a range or a key: there are too many. Figures of ranges are in the admin API, and the twenty busiest ranges
  here, by rank. A process has at most 3,000 series.
* Histograms of seconds have buckets from 0.1 ms to 10 s; those of operators and snapshots from 10 ms to an hour.
* `holdfast_placement_*` figures of the cluster are told by the leading member and are 0 at the others: take `max` over the members.

The stages of a write, in its order, each a histogram: `holdfast_raft_propose_wait_seconds` → `holdfast_raft_log_append_seconds` (beside
the replication) → `holdfast_raft_log_commit_seconds` → `holdfast_raft_apply_wait_seconds` → `holdfast_raft_apply_seconds`. The time of a write
at its leader is that of the first, third, fourth and fifth together.

Dashboards, recording rules and alerts that use them are in [`grafana/`](../grafana); what to do about an alert is in the
[runbook](runbook.md).
";

/// The tables of the metrics that a process of this role has.
///
/// # Panics
/// There is no such role.
pub fn tables(role: &str) -> Vec<&'static [Metric]> {
    let own = match role {
        "router" => vec![holdfast_router::metrics::METRICS],
        "store" => vec![
            holdfast_store::metrics::METRICS,
            raft::metrics::METRICS,
            disk::METRICS,
        ],
        "placement" => vec![
            holdfast_placement::metrics::METRICS,
            raft::metrics::METRICS,
            disk::METRICS,
        ],
        other => panic!("{other} is no role"),
    };
    [vec![EVERY_PROCESS, OF_THE_PROCESS], own].concat()
}

/// The document.
pub fn document() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (title, metrics) in PARTS.into_iter().chain([("The process", OF_THE_PROCESS)]) {
        let _ = write!(
            text,
            "\n## {title}\n\n| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n"
        );
        metrics.iter().for_each(|metric| row(&mut text, metric));
    }
    text
}

fn row(text: &mut String, metric: &Metric) {
    let labels: Vec<_> = metric.labels.iter().map(label).collect();
    let labels = if labels.is_empty() {
        "–".to_owned()
    } else {
        labels.join("; ")
    };
    let Metric { name, kind, help, .. } = metric;
    let unit = metric.unit_name();
    let _ = writeln!(text, "| `{name}` | {kind} | {unit} | {labels} | {help} |");
}

fn label(label: &Label) -> String {
    match label.values {
        Values::OneOf(values) if values.len() > 12 => {
            let ends = values.first().zip(values.last());
            let (first, last) = ends.unwrap_or((&"", &""));
            format!("`{}`: {} values, `{first}` to `{last}`", label.name, values.len())
        }
        Values::OneOf(values) => {
            let values: Vec<_> = values.iter().map(|value| format!("`{value}`")).collect();
            format!("`{}`: {}", label.name, values.join(", "))
        }
        Values::Each(what) => format!("`{}`: {what}", label.name),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

    #[test]
    fn the_committed_document_is_the_present_one() {
        if std::env::var_os("HOLDFAST_BLESS").is_some() {
            std::fs::write(COMMITTED, document()).expect("a file");
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == document(),
            "docs/metrics.md is out of date: run `just openapi` and commit it"
        );
    }

    #[test]
    fn names_are_unique_and_as_prometheus_wants_them() {
        let all: Vec<_> = PARTS.iter().flat_map(|(_, metrics)| metrics.iter()).collect();
        let names: BTreeSet<_> = all.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), all.len());
        for metric in all {
            let is_counter = metric.kind.to_string() == "counter";
            assert_eq!(is_counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.name.starts_with("holdfast_"), "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            let by_range = |label: &Label| matches!(label.name, "range" | "range_id" | "key" | "le");
            assert!(!metric.labels.iter().any(by_range), "{}", metric.name);
        }
    }
}
