//! What a run found, as JSON and as a table.

use std::{collections::BTreeMap, fmt};

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{recorder::Recorder, session::Target, workload::Workload};

/// The outcome of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `holdfast` or `etcd`.
    pub target: &'static str,
    /// The kind of workload, as text.
    pub workload: String,
    /// Concurrent clients.
    pub clients: usize,
    /// Requests a second asked for; absent for the closed loop.
    pub rate: Option<f64>,
    /// Length of the values written, in bytes.
    pub value_bytes: usize,
    /// Number of keys in the key set.
    pub keys: u64,
    /// Length of the measured window, in seconds.
    pub seconds: f64,
    /// Successful operations that were due within the window.
    pub operations: u64,
    /// Successful operations a second.
    pub operations_per_second: f64,
    /// Latency of successful operations.
    pub latency: Latency,
    /// The same for each sort of operation: `read`, `update`, `insert`, `scan`, `read-modify-write`.
    pub by_operation: BTreeMap<&'static str, OperationReport>,
    /// Successful reads of absent keys, part of `operations`.
    pub not_found: u64,
    /// Failed operations by kind, none of them part of `operations`.
    pub errors: BTreeMap<String, u64>,
    /// Operations that were due and never sent, because the target was behind (open loop only).
    pub unsent: u64,
    /// Successful operations of the whole run, warm-up included.
    pub answered_in_all: u64,
}

/// One sort of operation within a run.
#[derive(Clone, Debug, Serialize)]
pub struct OperationReport {
    /// Successful operations of this sort.
    pub operations: u64,
    /// Successful operations of this sort a second.
    pub operations_per_second: f64,
    /// Their latency.
    pub latency: Latency,
}

/// A latency distribution, in microseconds; all zero if there was no operation.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Latency {
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// 99.9th percentile.
    pub p999_us: u64,
    /// Longest.
    pub max_us: u64,
}

/// The outcome of loading the key set.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LoadReport {
    /// Keys written.
    pub keys: u64,
    /// Time it took, in seconds.
    pub seconds: f64,
    /// Attempts that failed and were made again.
    pub retries: u64,
}

impl Report {
    pub(crate) fn new(workload: &Workload, target: &Target, recorder: &Recorder) -> Self {
        let (seconds, total) = (workload.duration.as_secs_f64(), recorder.total());
        let by_operation = recorder.by_sort().map(|(sort, histogram)| {
            let report = OperationReport {
                operations: histogram.len(),
                operations_per_second: histogram.len() as f64 / seconds,
                latency: Latency::of(histogram),
            };
            (sort.name(), report)
        });
        Self {
            target: target.name(),
            workload: workload.kind.to_string(),
            clients: workload.clients,
            rate: workload.rate,
            value_bytes: workload.value_bytes,
            keys: workload.keys,
            seconds,
            operations: total.len(),
            operations_per_second: total.len() as f64 / seconds,
            latency: Latency::of(&total),
            by_operation: by_operation.collect(),
            not_found: recorder.not_found,
            errors: recorder
                .failures
                .iter()
                .map(|(failure, count)| (failure.to_string(), *count))
                .collect(),
            unsent: recorder.unsent,
            answered_in_all: recorder.answered_in_all,
        }
    }

    /// Failed operations of every kind.
    pub fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The report as a table, one line for each sort of operation and one for all.
    pub fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(UTF8_FULL_CONDENSED);
        table.set_header([
            "operation",
            "count",
            "ops/s",
            "p50 ms",
            "p90 ms",
            "p99 ms",
            "p99.9 ms",
            "max ms",
        ]);
        table
            .column_iter_mut()
            .skip(1)
            .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        if self.by_operation.len() > 1 {
            for (name, operation) in &self.by_operation {
                table.add_row(row(
                    name,
                    operation.operations,
                    operation.operations_per_second,
                    &operation.latency,
                ));
            }
        }
        table.add_row(row(
            &self.workload,
            self.operations,
            self.operations_per_second,
            &self.latency,
        ));
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.rate {
            Some(rate) => format!("open loop, {rate} ops/s asked"),
            None => "closed loop".to_owned(),
        };
        let Self {
            target,
            workload,
            clients,
            keys,
            value_bytes,
            seconds,
            ..
        } = self;
        writeln!(
            formatter,
            "{target}: {workload}, {clients} clients, {mode}, {keys} keys of {value_bytes} bytes, {seconds} s"
        )?;
        writeln!(formatter, "{}", self.table())?;
        if self.not_found > 0 {
            writeln!(formatter, "reads of absent keys: {}", self.not_found)?;
        }
        if self.unsent > 0 {
            writeln!(
                formatter,
                "never sent, for the target was behind: {}",
                self.unsent
            )?;
        }
        write!(formatter, "errors: {}", self.error_count())?;
        self.errors
            .iter()
            .try_for_each(|(kind, count)| write!(formatter, "\n  {kind}: {count}"))
    }
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        Self {
            mean_us: histogram.mean(),
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

fn row(name: &str, count: u64, rate: f64, latency: &Latency) -> [String; 8] {
    let millis = |micros: u64| format!("{:.2}", micros as f64 / 1000.0);
    [
        name.to_owned(),
        count.to_string(),
        format!("{rate:.0}"),
        millis(latency.p50_us),
        millis(latency.p90_us),
        millis(latency.p99_us),
        millis(latency.p999_us),
        millis(latency.max_us),
    ]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    fn target() -> Target {
        Target::holdfast(["127.0.0.1:1"]).expect("an address")
    }

    use super::*;
    use crate::{
        recorder::Sort,
        session::{Answer, Failure},
        workload::Kind,
    };

    fn report() -> Report {
        let mut workload = Workload::new(Kind::Mixed { read_percent: 50 });
        workload.duration = Duration::from_secs(2);
        let mut recorder = Recorder::default();
        for micros in 1..=100 {
            recorder.record(Sort::Read, true, Duration::from_micros(micros), Ok(Answer::Done));
            recorder.record(
                Sort::Update,
                true,
                Duration::from_millis(micros),
                Ok(Answer::Done),
            );
        }
        recorder.record(Sort::Update, true, Duration::ZERO, Err(Failure::Status(503)));
        Report::new(&workload, &target(), &recorder)
    }

    #[test]
    fn sums_up_each_operation_and_all() {
        let report = report();
        assert_eq!(
            (
                report.operations,
                report.operations_per_second,
                report.error_count()
            ),
            (200, 100.0, 1)
        );
        let read = &report.by_operation["read"];
        assert_eq!(
            (
                read.operations,
                read.latency.p50_us,
                read.latency.p99_us,
                read.latency.max_us
            ),
            (100, 50, 99, 100)
        );
        let update = report.by_operation["update"].latency.p50_us;
        assert!(
            (50_000..50_100).contains(&update),
            "three digits of 50 ms: {update}"
        );
    }

    #[test]
    fn json_names_its_units() {
        let json = serde_json::to_value(report()).expect("serializable");
        assert_eq!(json["workload"], "mixed");
        assert_eq!(json["errors"]["status 503"], 1);
        assert_eq!(json["by_operation"]["read"]["latency"]["p99_us"], 99);
    }

    #[test]
    fn the_table_has_a_line_for_each_operation() {
        let text = report().to_string();
        for expected in [
            "read",
            "update",
            "mixed",
            "p99.9 ms",
            "errors: 1",
            "status 503: 1",
        ] {
            assert!(text.contains(expected), "{expected} in\n{text}");
        }
    }

    #[test]
    fn a_run_without_operations_reports_zeroes() {
        let report = Report::new(&Workload::new(Kind::Get), &target(), &Recorder::default());
        assert_eq!(
            (report.operations, report.latency.p99_us, report.latency.mean_us),
            (0, 0, 0.0)
        );
        assert!(report.to_string().contains("errors: 0"));
    }
}
