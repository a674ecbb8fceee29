//! Taking stores out of service, and back.

use std::time::Duration;

use holdfast_common::clock;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::{Value, json};

use super::cell;
use crate::args::{AdminArgs, ChangeArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};

/// How often the store is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Asks what it would take for a store to leave, and whether it can; fails when it can't.
pub(super) async fn ask(admin: &AdminArgs, id: u64, how: &str) -> Outcome {
    let path = format!("/v1/stores/{id}/{how}?dry_run=true");
    let plan = admin.api()?.change(Method::POST, &path, &json!({})).await?;
    match admin.output {
        Format::Json => output::json(&plan)?,
        Format::Table => tell(id, &plan)?,
    }
    if plan["possible"] == true {
        Ok(())
    } else {
        Err(Failure::new(Exit::Other, format!("store {id} can't leave now")))
    }
}

fn tell(id: u64, plan: &Value) -> Outcome {
    let bytes = output::bytes(plan["size_bytes"].as_u64().unwrap_or(0));
    output::line(format!(
        "store {id} holds {} replicas ({bytes}) and leads {} ranges",
        cell(&plan["ranges"]),
        cell(&plan["leaders"])
    ))?;
    for way in plan["moves"].as_array().into_iter().flatten() {
        let size = output::bytes(way["size_bytes"].as_u64().unwrap_or(0));
        output::line(format!(
            "range {} would go to store {} ({size})",
            cell(&way["range_id"]),
            cell(&way["to_store"])
        ))?;
    }
    if plan["shared_zones"].as_u64().is_some_and(|count| count > 0) {
        output::line(format!(
            "{} replicas would share a zone with another of their range",
            cell(&plan["shared_zones"])
        ))?;
    }
    for problem in plan["problems"].as_array().into_iter().flatten() {
        output::line(format!("problem: {}", cell(problem)))?;
    }
    Ok(())
}

/// Puts a store back into service.
pub(super) async fn resume(admin: &AdminArgs, id: u64) -> Outcome {
    let path = format!("/v1/stores/{id}/resume");
    let store = admin.api()?.change(Method::POST, &path, &json!({})).await?;
    report(admin.output, &store)
}

/// Has a store leave and, unless told not to, stays until nothing is left that should not be there.
pub(super) async fn leave(args: &ChangeArgs, id: u64, how: &str) -> Outcome {
    let api = args.admin.api()?;
    let mut store = api
        .change(Method::POST, &format!("/v1/stores/{id}/{how}"), &json!({}))
        .await?;
    if !args.no_wait {
        let template = "{spinner} {wide_bar} {pos}/{len} {msg} {elapsed}";
        let progress = ProgressBar::no_length()
            .with_style(ProgressStyle::with_template(template).map_err(anyhow::Error::from)?);
        let (field, unit) = if how == "drain" {
            ("leaders_left", "leaderships given away")
        } else {
            ("ranges_left", "replicas moved away")
        };
        progress.set_message(unit);
        let mut most = 0;
        while let Some(left) = store["drain"][field].as_u64()
            && (left > 0 || how == "decommission")
        {
            most = most.max(left);
            progress.set_length(most);
            progress.set_position(most - left);
            progress.set_message(message(unit, &store["drain"]));
            clock::sleep(LOOK_EVERY).await;
            store = api.get(&format!("/v1/stores/{id}")).await?;
        }
        progress.finish_and_clear();
    }
    report(args.admin.output, &store)
}

/// What is being done, how fast, and what is in the way.
fn message(unit: &str, drain: &Value) -> String {
    let mut message = unit.to_owned();
    if let Some(bytes) = drain["bytes_per_second"].as_f64().filter(|bytes| *bytes >= 1.0) {
        message += &format!("; {}/s", output::bytes(bytes as u64));
    }
    if let Some(seconds) = drain["seconds_left"].as_f64() {
        message += &format!("; about {} s left", seconds.ceil());
    }
    if let Some(problem) = drain["problems"].get(0) {
        message += &format!("; {}", cell(problem));
    }
    message
}

fn report(format: Format, store: &Value) -> Outcome {
    match format {
        Format::Json => output::json(store),
        Format::Table => output::line(format!(
            "store {}: {}, {} replicas, {} leaderships",
            cell(&store["id"]),
            cell(&store["state"]),
            cell(&store["ranges"]),
            cell(&store["leaders"])
        )),
    }
}
