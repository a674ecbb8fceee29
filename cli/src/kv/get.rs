//! `holdfast kv get`.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::argument;
use super::rows::Row;
use crate::args::DataArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The key
    key: OsString,
    /// Accept what any replica has, which may be old
    #[arg(long)]
    stale: bool,
    #[command(flatten)]
    data: DataArgs,
}

/// How old a stale value may be: as old as can be asked for.
const STALE: Duration = Duration::MAX;

/// Prints the value as it is; with a line end on a terminal.
pub(crate) async fn run(args: GetArgs) -> Outcome {
    let client = args.data.client()?;
    let key = argument(&args.key);
    let record = match args.stale {
        true => client.get_stale(key, STALE).await?,
        false => client.get(key).await?,
    };
    let record = record.ok_or_else(|| Failure::new(Exit::NotFound, "there is no such key"))?;
    if args.data.output == Format::Json {
        let row = Row::new(key.to_vec(), record.value.to_vec());
        let mut row = serde_json::to_value(row).map_err(anyhow::Error::from)?;
        row["revision"] = json!(record.revision.to_string());
        return output::json(&row);
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&record.value)?;
    if out.is_terminal() {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}
