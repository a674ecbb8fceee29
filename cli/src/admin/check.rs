//! `holdfast range check`: whether the replicas of ranges hold the same.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::cell;
use crate::args::AdminArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The range
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<u64>,
    /// Every range, one after the other
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

pub(super) async fn run(args: CheckArgs) -> Outcome {
    let api = args.admin.api()?;
    let ids: Vec<Value> = match args.id {
        Some(id) => vec![json!(id)],
        None => {
            let ranges = api.list("/v1/ranges").await?;
            ranges.into_iter().map(|mut range| range["id"].take()).collect()
        }
    };
    let mut reports = Vec::with_capacity(ids.len());
    for id in ids {
        let path = format!("/v1/ranges/{}/check", cell(&id));
        match api.change(Method::POST, &path, &json!({})).await {
            Ok(report) => reports.push(report),
            // Of many, one that can't be compared now is told with the others.
            Err(failure) if args.all => reports.push(json!({
                "range_id": id, "verdict": "failed", "reason": failure.to_string(), "replicas": [],
            })),
            Err(failure) => return Err(failure),
        }
    }
    let header = [
        "RANGE", "VERDICT", "ENTRY", "REPLICA", "STORE", "ROWS", "BYTES", "CHECKSUM", "NOTE",
    ];
    output::print(args.admin.output, &reports, &header, |reports| {
        reports.iter().flat_map(rows).collect()
    })?;
    conclude(&reports)
}

/// Replicas that differ are a failure of the cluster; ranges that could not be compared are one of the command.
fn conclude(reports: &[Value]) -> Outcome {
    let of = |verdict: &str| {
        reports
            .iter()
            .filter(|report| report["verdict"] == verdict)
            .count()
    };
    match (of("differ"), of("open") + of("failed")) {
        (0, 0) => Ok(()),
        (0, open) => Err(Failure::new(
            Exit::Unavailable,
            format!(
                "{open} of {} ranges could not be compared wholly: ask again later",
                reports.len()
            ),
        )),
        (differ, _) => Err(Failure::new(
            Exit::Other,
            format!(
                "{differ} of {} ranges have replicas that hold different data: see HoldfastReplicasDiffer in docs/runbook.md",
                reports.len()
            ),
        )),
    }
}

fn rows(report: &Value) -> Vec<Vec<String>> {
    let replicas = report["replicas"].as_array().map_or(&[][..], Vec::as_slice);
    let head = [&report["range_id"], &report["verdict"], &report["index"]].map(cell);
    if replicas.is_empty() {
        let blank = std::iter::repeat_n(String::new(), 5);
        return vec![
            head.into_iter()
                .chain(blank)
                .chain([cell(&report["reason"])])
                .collect(),
        ];
    }
    let row = |replica: &Value| {
        let note = if replica["suspect"] == true {
            "not as the majority".to_owned()
        } else {
            cell(&replica["unknown_because"])
        };
        let of = ["replica_id", "store_id", "rows", "bytes", "checksum"].map(|name| cell(&replica[name]));
        head.iter().cloned().chain(of).chain([note]).collect()
    };
    replicas.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_worse_than_what_is_not_known() {
        let exit = |verdicts: &[&str]| {
            let reports: Vec<Value> = verdicts
                .iter()
                .map(|verdict| json!({"verdict": verdict}))
                .collect();
            conclude(&reports).map_err(|failure| failure.exit())
        };
        assert_eq!(exit(&["agree", "agree"]), Ok(()));
        assert_eq!(exit(&["agree", "open"]), Err(Exit::Unavailable));
        assert_eq!(exit(&["failed"]), Err(Exit::Unavailable));
        assert_eq!(exit(&["open", "differ"]), Err(Exit::Other));
    }

    #[test]
    fn every_replica_has_a_row_and_so_has_a_range_without_any() {
        let report = json!({"range_id": 7, "verdict": "differ", "index": 40, "replicas": [
            {"replica_id": 1, "store_id": 1, "suspect": false, "rows": 2, "bytes": 9, "checksum": "0a"},
            {"replica_id": 2, "store_id": 2, "suspect": true, "rows": 3, "bytes": 9, "checksum": "0b"},
            {"replica_id": 3, "store_id": 3, "suspect": false, "unknown_because": "away"},
        ]});
        let rows = rows(&report);
        assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [9, 9, 9]);
        assert_eq!(rows[1][8], "not as the majority");
        assert_eq!(rows[2][8], "away");
        let failed =
            super::rows(&json!({"range_id": 7, "verdict": "failed", "reason": "no leader", "replicas": []}));
        assert_eq!((failed.len(), failed[0].len()), (1, 9));
    }
}
