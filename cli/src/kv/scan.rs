//! `holdfast kv scan`.

use std::pin::pin;

use clap::Args;
use futures::TryStreamExt;
use holdfast_client::Item;

use super::rows::Row;
use super::selection::Selection;
use crate::args::DataArgs;
use crate::exit::Outcome;
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    #[command(flatten)]
    selection: Selection,
    /// Print keys alone
    #[arg(long)]
    keys_only: bool,
    /// Stop after so many rows
    #[arg(long, default_value_t = 1000)]
    limit: u64,
    #[command(flatten)]
    data: DataArgs,
}

/// Prints rows as they arrive: `key TAB value`, or the API's JSON, one a line.
pub(crate) async fn run(args: ScanArgs) -> Outcome {
    let mut scan = args.selection.scan().limit(args.limit);
    if args.keys_only {
        scan = scan.keys_only();
    }
    let client = args.data.client()?;
    let mut rows = pin!(client.scan(scan));
    while let Some(row) = rows.try_next().await? {
        match args.data.output {
            Format::Json => output::line(json(&row, args.keys_only)?)?,
            Format::Table => output::line(text(&row, args.keys_only))?,
        }
    }
    Ok(())
}

/// A row as the API writes it.
fn json(row: &Item, keys_only: bool) -> Outcome<serde_json::Value> {
    let key = row.key.to_vec();
    let written = match keys_only {
        true => Row::key(key),
        false => Row::new(key, row.value.to_vec()),
    };
    let mut written = serde_json::to_value(written).map_err(anyhow::Error::from)?;
    written["revision"] = row.revision.to_string().into();
    Ok(written)
}

/// A row for a person: what is not text is escaped.
fn text(row: &Item, keys_only: bool) -> String {
    let shown = |bytes: &[u8]| match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    };
    match keys_only {
        true => row.key.escape_ascii().to_string(),
        false => format!("{}\t{}", shown(&row.key), shown(&row.value)),
    }
}
