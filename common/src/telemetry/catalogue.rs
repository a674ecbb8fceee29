//! What a metric is, said once: the tables made of these describe each metric to Prometheus, make `docs/metrics.md`, and
//! are what the tests hold a process's exposition to.

use std::fmt;

use metrics::Unit;

/// What a metric's value does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the process ends.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Observations, counted in buckets.
    Histogram,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// The values that a label takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// These; there is a series for each of them from the start.
    OneOf(&'static [&'static str]),
    /// What is known only while the process runs, as described; a series begins when it is.
    Each(&'static str),
}

/// A label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// Its values.
    pub values: Values,
}

impl Label {
    /// A label with a closed set of values.
    pub const fn one_of(name: &'static str, values: &'static [&'static str]) -> Self {
        let values = Values::OneOf(values);
        Self { name, values }
    }

    /// A label whose values come up while the process runs.
    pub const fn each(name: &'static str, what: &'static str) -> Self {
        let values = Values::Each(what);
        Self { name, values }
    }
}

/// A metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name, which ends in its unit, and for a counter in `_total`.
    pub name: &'static str,
    /// What its value does.
    pub kind: Kind,
    /// Its labels; a series for each combination of their values.
    pub labels: &'static [Label],
    /// What it means, in one sentence or two.
    pub help: &'static str,
}

impl Metric {
    /// A counter.
    pub const fn counter(name: &'static str, labels: &'static [Label], help: &'static str) -> Self {
        Self::new(Kind::Counter, name, labels, help)
    }

    /// A gauge.
    pub const fn gauge(name: &'static str, labels: &'static [Label], help: &'static str) -> Self {
        Self::new(Kind::Gauge, name, labels, help)
    }

    /// A histogram.
    pub const fn histogram(name: &'static str, labels: &'static [Label], help: &'static str) -> Self {
        Self::new(Kind::Histogram, name, labels, help)
    }

    const fn new(kind: Kind, name: &'static str, labels: &'static [Label], help: &'static str) -> Self {
        Self {
            name,
            kind,
            labels,
            help,
        }
    }

    /// The unit, by the name's ending.
    pub fn unit(&self) -> Unit {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        if name.ends_with("_seconds") {
            Unit::Seconds
        } else if name.ends_with("_bytes") {
            Unit::Bytes
        } else if name.ends_with("_per_second") {
            Unit::CountPerSecond
        } else {
            Unit::Count
        }
    }

    /// The unit, for people.
    pub fn unit_name(&self) -> &'static str {
        match self.unit() {
            Unit::Seconds => "seconds",
            Unit::Bytes => "bytes",
            Unit::CountPerSecond => "per second",
            _ => "count",
        }
    }

    /// Whether each of its series exists from the start.
    pub fn is_closed(&self) -> bool {
        let closed = |label: &Label| matches!(label.values, Values::OneOf(_));
        self.labels.iter().all(closed)
    }
}

/// Tells the recorder that is installed what each metric means.
pub fn describe(metrics: &[Metric]) {
    for metric in metrics {
        let (name, unit, help) = (metric.name, metric.unit(), metric.help);
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(name, unit, help),
            Kind::Gauge => metrics::describe_gauge!(name, unit, help),
            Kind::Histogram => metrics::describe_histogram!(name, unit, help),
        }
    }
}

/// What every process has.
pub const EVERY_PROCESS: &[Metric] = &[
    Metric::gauge(
        "holdfast_wall_clock_seconds",
        &[],
        "The process's wall clock when it was scraped, seconds since the Unix epoch. Less the sample's `timestamp()`: how far it is off.",
    ),
    Metric::gauge(
        "holdfast_build_info",
        &[
            Label::each("version", "the version of the build"),
            Label::each("commit", "the commit that it was made of, or `unknown`"),
            Label::each("role", "`placement`, `store` or `router`"),
        ],
        "The build that runs: always 1.",
    ),
    Metric::gauge(
        "holdfast_insecure",
        &[],
        "Whether the process was started with `--insecure`, so that what it is sent and sends may be read and forged: 1 or 0.",
    ),
    Metric::counter(
        "holdfast_access_decisions_total",
        &[Label::one_of("decision", &DECISIONS)],
        "Requests that were refused for who sent them, and why; and changes that placement members allowed.",
    ),
    Metric::counter(
        "holdfast_tls_reloads_total",
        &[Label::one_of("result", &RELOADS)],
        "New certificate files that were taken into use, or could not be.",
    ),
    Metric::gauge(
        "holdfast_tls_certificate_not_after_seconds",
        &[],
        "When the process's certificate ends, seconds since the Unix epoch; 0 without one.",
    ),
];

/// How access is decided.
const DECISIONS: [&str; 7] = [
    "allowed",
    "missing",
    "malformed",
    "unknown",
    "expired",
    "no_grant",
    "forbidden",
];

/// What becomes of new certificate files.
const RELOADS: [&str; 2] = ["ok", "failed"];

/// Makes the series of access and encryption exist before anything happens.
pub(super) fn begin_at_zero() {
    for decision in DECISIONS {
        metrics::counter!("holdfast_access_decisions_total", "decision" => decision).absolute(0);
    }
    for result in RELOADS {
        metrics::counter!("holdfast_tls_reloads_total", "result" => result).absolute(0);
    }
    metrics::gauge!("holdfast_insecure").set(0.0);
    metrics::gauge!("holdfast_tls_certificate_not_after_seconds").set(0.0);
}

/// What the operating system tells of a process, in the words of the Prometheus client libraries.
pub const OF_THE_PROCESS: &[Metric] = &[
    Metric::counter(
        "process_cpu_seconds_total",
        &[],
        "Processor time spent, in the system and outside.",
    ),
    Metric::gauge("process_max_fds", &[], "File descriptors that may be open."),
    Metric::gauge("process_open_fds", &[], "File descriptors that are open."),
    Metric::gauge("process_resident_memory_bytes", &[], "Memory that is resident."),
    Metric::gauge(
        "process_start_time_seconds",
        &[],
        "When the process started, seconds since the Unix epoch.",
    ),
    Metric::gauge("process_threads", &[], "Threads."),
    Metric::gauge("process_virtual_memory_bytes", &[], "Address space in use."),
    Metric::gauge(
        "process_virtual_memory_max_bytes",
        &[],
        "Address space that may be used.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_in_their_units() {
        let metric = |name| Metric::counter(name, &[], "");
        assert_eq!(metric("holdfast_a_seconds").unit(), Unit::Seconds);
        assert_eq!(metric("holdfast_a_bytes_total").unit(), Unit::Bytes);
        assert_eq!(metric("holdfast_a_per_second").unit(), Unit::CountPerSecond);
        assert_eq!(metric("holdfast_a_total").unit(), Unit::Count);
    }

    #[test]
    fn a_metric_with_a_label_that_comes_up_later_is_not_closed() {
        assert!(!EVERY_PROCESS[1].is_closed());
        assert!(OF_THE_PROCESS.iter().all(Metric::is_closed));
    }
}
