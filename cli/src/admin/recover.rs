//! `holdfast range recover`: bringing ranges back that have lost their majority for good.

use clap::Args;
use reqwest::Method;
use serde_json::{Value, json};

use super::{cell, key_cell};
use crate::args::ChangeArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct RecoverArgs {
    /// The range; without it, every range that has lost its majority with these stores
    id: Option<u64>,
    /// A store that is down and will never come back; give every one of them
    #[arg(long = "lost-store", required = true, value_name = "STORE")]
    lost_stores: Vec<u64>,
    /// Have ranges of which nothing is left begin anew, empty
    #[arg(long)]
    create_empty: bool,
    /// Only say which survivors would be gone on with, and what that may lose
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) async fn run(args: RecoverArgs) -> Outcome {
    let path = match args.id {
        Some(id) => format!("/v1/ranges/{id}/recover"),
        None => "/v1/recover".to_owned(),
    };
    let query = match (args.dry_run, args.change.no_wait) {
        (true, _) => "?dry_run=true",
        (false, false) => "?wait=true",
        (false, true) => "",
    };
    let api = args.change.admin.api()?;
    let body = json!({"lost_stores": args.lost_stores, "create_empty": args.create_empty});
    let answer = api.change(Method::POST, &format!("{path}{query}"), &body).await?;
    match args.change.admin.output {
        Format::Json => output::json(&answer)?,
        Format::Table => tell(&answer)?,
    }
    let left = unsolved(&answer);
    if left == 0 {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Precondition,
        format!("{left} ranges can't be brought back now"),
    ))
}

/// Ranges for which nothing can be done, or whose recovery went wrong.
fn unsolved(answer: &Value) -> usize {
    let verdicts = answer["items"].as_array().into_iter().flatten();
    let stuck = verdicts.filter(|item| matches!(item["verdict"].as_str(), Some("gone" | "wait")));
    let operators = answer["operators"].as_array().into_iter().flatten();
    let broken = operators.filter(|operator| !matches!(operator["state"].as_str(), Some("done" | "running")));
    stuck.count() + broken.count()
}

fn tell(answer: &Value) -> Outcome {
    for item in answer["items"].as_array().into_iter().flatten() {
        output::line(line(item))?;
    }
    output::line(format!("mind: {}", cell(&answer["warning"])))
}

fn line(item: &Value) -> String {
    let range = format!(
        "range {} [{}, {})",
        cell(&item["range_id"]),
        key_cell(item, "start"),
        key_cell(item, "end")
    );
    if item["verdict"] == "begin_anew" {
        return format!(
            "{range}: begins anew, empty, on store {}",
            cell(&item["from_store"])
        );
    }
    if item["verdict"] != "recover" {
        return format!("{range}: {}: {}", cell(&item["verdict"]), cell(&item["reason"]));
    }
    let best = &item["survivors"][0]["log_end"];
    let behind = match item["entries_behind_when_last_heard"].as_u64() {
        Some(entries) => format!(", {entries} entries behind the lost leader when that was last heard of"),
        None => String::new(),
    };
    format!(
        "{range}: goes on with the replica on store {}, whose log ends with entry {} of term {}{behind}",
        cell(&item["from_store"]),
        cell(&best["index"]),
        cell(&best["term"])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_that_stays_lost_is_a_failure() {
        let answer = json!({"items": [{"verdict": "recover"}, {"verdict": "unharmed"}, {"verdict": "gone"}],
                            "operators": [{"state": "done"}, {"state": "failed"}]});
        assert_eq!(unsolved(&answer), 2);
    }
}
