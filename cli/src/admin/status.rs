//! `holdfast status`.

use serde_json::Value;

use super::cell;
use crate::args::AdminArgs;
use crate::exit::Outcome;
use crate::output::{self, Format};

/// Says in a few lines how the cluster is.
pub(crate) async fn run(args: AdminArgs) -> Outcome {
    let api = args.api()?;
    let cluster = api.get("/v1/cluster").await?;
    if args.output == Format::Json {
        return output::json(&cluster);
    }
    output::line(format!(
        "cluster {}: {}",
        cell(&cluster["id"]),
        cell(&cluster["health"])
    ))?;
    output::print(args.output, &cluster, &["WHAT", "VALUE"], rows)
}

/// The scalar fields and counts of the cluster, one a row.
fn rows(cluster: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (name, value) in cluster.as_object().into_iter().flatten() {
        match value {
            Value::Object(counts) => rows.extend(
                counts
                    .iter()
                    .map(|(kind, count)| vec![format!("{name}.{kind}"), cell(count)]),
            ),
            Value::Array(items) => rows.push(vec![name.clone(), items.len().to_string()]),
            value => rows.push(vec![name.clone(), cell(value)]),
        }
    }
    rows
}
