//! `holdfast plan`: what would happen if stores came, left or failed.

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::cell;
use crate::args::AdminArgs;
use crate::exit::{Failure, Outcome};
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Add this many stores, as large as the largest there is
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    add_stores: u64,
    /// A label of the stores that are added, as NAME=VALUE
    #[arg(long = "label", value_name = "NAME=VALUE", requires = "add_stores")]
    labels: Vec<String>,
    /// Decommission this store
    #[arg(long = "remove-store", value_name = "STORE")]
    remove_stores: Vec<u64>,
    /// Let stores fail for good: store=ID, or all with a label such as zone=a
    #[arg(long, value_name = "WHAT")]
    fail: Vec<String>,
    /// Bytes per second to or from each store; the default is the setting move_bytes_per_second
    #[arg(long)]
    bytes_per_second: Option<u64>,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Asks, and prints the answer.
pub(crate) async fn run(args: PlanArgs) -> Outcome {
    let labels = args.labels.iter().map(|label| {
        let pair = label.split_once('=');
        let (name, value) = pair.ok_or_else(|| Failure::usage(format!("{label}: expected NAME=VALUE")))?;
        Ok((name.to_owned(), Value::from(value)))
    });
    let question = json!({
        "add_stores": args.add_stores,
        "labels": labels.collect::<Outcome<Map<_, _>>>()?,
        "remove_stores": args.remove_stores,
        "fail": args.fail,
        "bytes_per_second": args.bytes_per_second,
    });
    let plan = args
        .admin
        .api()?
        .change(Method::POST, "/v1/plan", &question)
        .await?;
    match args.admin.output {
        Format::Json => output::json(&plan),
        Format::Table => tell(&args.admin, &plan),
    }
}

fn tell(admin: &AdminArgs, plan: &Value) -> Outcome {
    let changes = plan["changes"].as_array().cloned().unwrap_or_default();
    let header = ["ROUND", "RANGE", "CHANGE", "FROM", "TO", "SIZE", "WHY"];
    output::print(admin.output, &changes, &header, |changes| {
        changes.iter().map(change_row).collect()
    })?;
    let untold = plan["changes_total"]
        .as_u64()
        .unwrap_or(0)
        .saturating_sub(changes.len() as u64);
    if untold > 0 {
        output::line(format!("and {untold} more changes"))?;
    }
    let stores = plan["stores"].as_array().cloned().unwrap_or_default();
    let header = ["STORE", "REPLICAS", "LEADERS", "SIZE"];
    output::print(admin.output, &stores, &header, |stores| {
        stores.iter().map(store_row).collect()
    })?;
    output::line(format!(
        "{} moves of {} in about {} s at {} per second",
        cell(&plan["moves_total"]),
        output::bytes(plan["size_bytes"].as_u64().unwrap_or(0)),
        plan["seconds"].as_f64().unwrap_or(0.0).ceil(),
        output::bytes(plan["bytes_per_second"].as_u64().unwrap_or(0)),
    ))?;
    if plan["rests"] == false {
        output::line("the plan was cut short: it has not come to rest".to_owned())?;
    }
    violations("at first", &plan["violations_at_first"])?;
    violations("in the end", &plan["violations"])?;
    for stuck in plan["stuck"].as_array().into_iter().flatten() {
        output::line(format!("can't be done: {}", cell(stuck)))?;
    }
    Ok(())
}

fn violations(when: &str, violations: &Value) -> Outcome {
    for item in violations["items"].as_array().into_iter().flatten() {
        let place = match (&item["range_id"], &item["store_id"]) {
            (Value::Null, Value::Null) => String::new(),
            (Value::Null, store) => format!(": store {}", cell(store)),
            (range, _) => format!(": range {}", cell(range)),
        };
        output::line(format!("{when}, {}{place}", cell(&item["rule"])))?;
    }
    Ok(())
}

fn change_row(change: &Value) -> Vec<String> {
    let size = change["size_bytes"].as_u64().filter(|size| *size > 0);
    vec![
        cell(&change["round"]),
        cell(&change["range_id"]),
        cell(&change["kind"]),
        cell(&change["change"]["from_store"]),
        cell(&change["change"]["to_store"]),
        size.map(output::bytes).unwrap_or_default(),
        cell(&change["why"]),
    ]
}

fn store_row(store: &Value) -> Vec<String> {
    let both = |field: &str| {
        format!(
            "{} -> {}",
            cell(&store["before"][field]),
            cell(&store["after"][field])
        )
    };
    let size = |when: &str| {
        store[when]["size_bytes"]
            .as_u64()
            .map(output::bytes)
            .unwrap_or_default()
    };
    vec![
        cell(&store["id"]),
        both("replicas"),
        both("leaders"),
        format!("{} -> {}", size("before"), size("after")),
    ]
}
