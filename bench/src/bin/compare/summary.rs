//! What all rounds of a case add up to: medians, spread, and the ratio of the two systems.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

use crate::rounds::{Run, System};

/// Every case, in the order of its first run.
#[derive(Debug, Serialize)]
pub(crate) struct Summary {
    cases: Vec<Case>,
}

/// One workload with one number of clients.
#[derive(Debug, Serialize)]
struct Case {
    workload: String,
    clients: usize,
    systems: BTreeMap<System, Side>,
    /// Holdfast's median operations a second by etcd's; absent if one was not measured.
    ratio: Option<f64>,
}

/// One system in one case. Each figure is the median over the rounds on its own.
#[derive(Debug, Serialize)]
struct Side {
    operations_per_second: f64,
    operations_per_second_min: f64,
    operations_per_second_max: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    /// Failed operations of all rounds.
    errors: u64,
    client_cpu_us: f64,
    server_cpu_us: BTreeMap<String, f64>,
    all_servers_cpu_us: f64,
    other_cores: f64,
}

impl Summary {
    pub(crate) fn of(runs: &[Run]) -> Self {
        let mut keys: Vec<(&str, usize)> = Vec::new();
        for run in runs {
            let key = (run.report.workload.as_str(), run.report.clients);
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        Self {
            cases: keys
                .into_iter()
                .map(|(workload, clients)| Case::of(runs, workload, clients))
                .collect(),
        }
    }

    /// Operations a second and latency, a line for each case.
    pub(crate) fn throughput_table(&self) -> Table {
        let mut table = new_table([
            "case",
            "clients",
            "Holdfast ops/s",
            "(min–max)",
            "p50 ms",
            "p99 ms",
            "etcd ops/s",
            "(min–max)",
            "p50 ms",
            "p99 ms",
            "ratio",
            "errors",
        ]);
        for case in &self.cases {
            let mut row = vec![case.workload.clone(), case.clients.to_string()];
            for system in [System::Holdfast, System::Etcd] {
                row.extend(
                    case.systems
                        .get(&system)
                        .map_or_else(|| [const { String::new() }; 4], Side::cells),
                );
            }
            row.push(case.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default());
            row.push(
                case.systems
                    .values()
                    .map(|side| side.errors)
                    .sum::<u64>()
                    .to_string(),
            );
            table.add_row(row);
        }
        table
    }

    /// Processor time an operation, a line for each case and system.
    pub(crate) fn cpu_table(&self) -> Table {
        let mut table = new_table([
            "case",
            "clients",
            "system",
            "client",
            "servers",
            "of which",
            "others' cores",
        ]);
        for case in &self.cases {
            for (system, side) in &case.systems {
                let each: Vec<_> = side
                    .server_cpu_us
                    .iter()
                    .map(|(name, used)| format!("{name} {used:.1}"))
                    .collect();
                table.add_row([
                    case.workload.clone(),
                    case.clients.to_string(),
                    system.name().to_owned(),
                    format!("{:.1}", side.client_cpu_us),
                    format!("{:.1}", side.all_servers_cpu_us),
                    each.join(", "),
                    format!("{:.2}", side.other_cores),
                ]);
            }
        }
        table
    }
}

impl Case {
    fn of(runs: &[Run], workload: &str, clients: usize) -> Self {
        let runs: Vec<_> = runs
            .iter()
            .filter(|run| run.report.workload == workload && run.report.clients == clients)
            .collect();
        let mut systems = BTreeMap::new();
        for system in [System::Holdfast, System::Etcd] {
            let of_system: Vec<_> = runs.iter().copied().filter(|run| run.system == system).collect();
            if !of_system.is_empty() {
                systems.insert(system, Side::of(&of_system));
            }
        }
        let rate = |system| systems.get(&system).map(|side: &Side| side.operations_per_second);
        let ratio = match (rate(System::Holdfast), rate(System::Etcd)) {
            (Some(holdfast), Some(etcd)) if etcd > 0.0 => Some(holdfast / etcd),
            _ => None,
        };
        Self {
            workload: workload.to_owned(),
            clients,
            systems,
            ratio,
        }
    }
}

impl Side {
    fn of(runs: &[&Run]) -> Self {
        let median_of = |figure: &dyn Fn(&Run) -> f64| median(runs.iter().map(|run| figure(run)).collect());
        let rates = || runs.iter().map(|run| run.report.operations_per_second);
        let names = runs.iter().flat_map(|run| run.server_cpu_us.keys());
        let used = |name: &String| median_of(&|run| run.server_cpu_us.get(name).copied().unwrap_or_default());
        Self {
            operations_per_second: median(rates().collect()),
            operations_per_second_min: rates().fold(f64::INFINITY, f64::min),
            operations_per_second_max: rates().fold(0.0, f64::max),
            p50_us: median_of(&|run| run.report.latency.p50_us as f64),
            p99_us: median_of(&|run| run.report.latency.p99_us as f64),
            p999_us: median_of(&|run| run.report.latency.p999_us as f64),
            errors: runs.iter().map(|run| run.report.error_count()).sum(),
            client_cpu_us: median_of(&|run| run.client_cpu_us),
            server_cpu_us: names.map(|name| (name.clone(), used(name))).collect(),
            all_servers_cpu_us: median_of(&|run| run.server_cpu_us.values().sum()),
            other_cores: median_of(&|run| run.other_cores),
        }
    }

    fn cells(&self) -> [String; 4] {
        [
            format!("{:.0}", self.operations_per_second),
            format!(
                "{:.0}–{:.0}",
                self.operations_per_second_min, self.operations_per_second_max
            ),
            format!("{:.2}", self.p50_us / 1000.0),
            format!("{:.2}", self.p99_us / 1000.0),
        ]
    }
}

/// The middle figure, or the mean of the two in the middle; zero of none.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() {
        0 => 0.0,
        count if count % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

fn new_table<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(header);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

#[cfg(test)]
mod tests {
    use holdfast_bench::{Latency, Report};

    use super::*;

    fn run(system: System, round: u32, workload: &str, rate: f64) -> Run {
        let latency = Latency {
            mean_us: 1.0,
            p50_us: 500,
            p90_us: 1,
            p99_us: 1500,
            p999_us: 1,
            max_us: 1,
        };
        let report = Report {
            target: system.name(),
            workload: workload.to_owned(),
            clients: 64,
            rate: None,
            value_bytes: 128,
            keys: 10,
            seconds: 1.0,
            operations: rate as u64,
            operations_per_second: rate,
            latency,
            by_operation: BTreeMap::new(),
            not_found: 0,
            errors: BTreeMap::from([("timeout".to_owned(), 1)]),
            unsent: 0,
            answered_in_all: rate as u64,
        };
        let server_cpu_us = BTreeMap::from([("a".to_owned(), 10.0), ("b".to_owned(), 5.0)]);
        Run {
            system,
            round,
            report,
            client_cpu_us: 8.0,
            server_cpu_us,
            other_cores: 0.1,
        }
    }

    #[test]
    fn medians_are_of_the_sorted_middle() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0]), 3.0);
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
    }

    #[test]
    fn cases_keep_their_order_and_compare_medians() {
        let mut runs = Vec::new();
        for (round, holdfast, etcd) in [(1, 300.0, 90.0), (2, 200.0, 100.0), (3, 100.0, 110.0)] {
            runs.push(run(System::Etcd, round, "put", etcd));
            runs.push(run(System::Holdfast, round, "put", holdfast));
            runs.push(run(System::Etcd, round, "get", etcd));
        }
        let summary = Summary::of(&runs);
        let [put, get] = &summary.cases[..] else {
            panic!("two cases: {summary:?}")
        };
        assert_eq!(
            (put.workload.as_str(), put.ratio, get.workload.as_str(), get.ratio),
            ("put", Some(2.0), "get", None)
        );
        let side = &put.systems[&System::Holdfast];
        assert_eq!(
            (side.operations_per_second_min, side.operations_per_second_max),
            (100.0, 300.0)
        );
        assert_eq!((side.errors, side.all_servers_cpu_us), (3, 15.0));
    }

    #[test]
    fn tables_show_every_case() {
        let summary = Summary::of(&[
            run(System::Holdfast, 1, "put", 300.0),
            run(System::Etcd, 1, "put", 100.0),
        ]);
        let text = summary.throughput_table().to_string();
        assert!(
            text.contains("3.00") && text.contains("300–300") && text.contains("1.50"),
            "{text}"
        );
        let text = summary.cpu_table().to_string();
        assert!(text.contains("a 10.0, b 5.0") && text.contains("15.0"), "{text}");
    }
}
