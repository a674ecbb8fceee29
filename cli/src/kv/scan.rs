//! `holdfast kv scan`.

use clap::Args;
use serde_json::Value;

use super::pages::{Pages, Selection};
use super::rows::Row;
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
    let api = args.data.api()?;
    let mut pages = Pages::new(&api, &args.selection, args.keys_only, args.limit);
    while let Some(row) = pages.next().await? {
        match args.data.output {
            Format::Json => output::line(row)?,
            Format::Table => output::line(text(row, args.keys_only)?)?,
        }
    }
    Ok(())
}

/// A row for a person: what is not text is escaped.
fn text(row: Value, keys_only: bool) -> Outcome<String> {
    let row: Row = serde_json::from_value(row).map_err(anyhow::Error::from)?;
    if keys_only {
        return Ok(row
            .into_key()
            .map_err(anyhow::Error::from)?
            .escape_ascii()
            .to_string());
    }
    let (key, value) = row.into_bytes().map_err(anyhow::Error::from)?;
    let shown = |bytes: Vec<u8>| {
        String::from_utf8(bytes).unwrap_or_else(|error| error.as_bytes().escape_ascii().to_string())
    };
    Ok(format!("{}\t{}", shown(key), shown(value)))
}
