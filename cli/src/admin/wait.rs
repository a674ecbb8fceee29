//! Following a planned change to its end.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::Value;

use super::cell;
use crate::args::ChangeArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};

/// Sends a change and, unless told not to, stays until its operator has ended; fails when the operator did.
pub(super) async fn change(args: &ChangeArgs, path: &str, body: &Value) -> Outcome {
    let api = args.admin.api()?;
    let progress = ProgressBar::new_spinner()
        .with_style(ProgressStyle::with_template("{spinner} {msg} {elapsed}").map_err(anyhow::Error::from)?);
    progress.enable_steady_tick(Duration::from_millis(100));
    progress.set_message("under way");
    let path = if args.no_wait {
        path.to_owned()
    } else {
        format!("{path}?wait=true")
    };
    let operator = api.change(Method::POST, &path, body).await?;
    progress.finish_and_clear();
    report(args.admin.output, &operator)?;
    match operator["state"].as_str() {
        Some("failed" | "cancelled" | "timed_out") => Err(Failure::new(
            Exit::Other,
            format!(
                "operator {} ended as {}: {}",
                cell(&operator["id"]),
                cell(&operator["state"]),
                cell(&operator["reason"])
            ),
        )),
        _ => Ok(()),
    }
}

fn report(format: Format, operator: &Value) -> Outcome {
    match format {
        Format::Json => output::json(operator),
        Format::Table => output::line(format!(
            "operator {}: {} of range {}: {}",
            cell(&operator["id"]),
            cell(&operator["kind"]),
            cell(&operator["range_id"]),
            cell(&operator["state"])
        )),
    }
}
