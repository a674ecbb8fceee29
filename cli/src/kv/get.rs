//! `holdfast kv get`.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};

use clap::Args;
use reqwest::Method;
use serde_json::json;

use super::rows::Row;
use super::{argument, key_path};
use crate::args::DataArgs;
use crate::exit::Outcome;
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

/// Prints the value as it is; with a line end on a terminal.
pub(crate) async fn run(args: GetArgs) -> Outcome {
    let api = args.data.api()?;
    let key = argument(&args.key);
    let consistency = if args.stale { "?consistency=stale" } else { "" };
    let response = api
        .send(api.request(Method::GET, &format!("{}{consistency}", key_path(key))))
        .await?;
    let revision = revision(&response);
    let value = response.bytes().await.map_err(anyhow::Error::from)?;
    if args.data.output == Format::Json {
        let mut row =
            serde_json::to_value(Row::new(key.to_vec(), value.to_vec())).map_err(anyhow::Error::from)?;
        row["revision"] = json!(revision);
        return output::json(&row);
    }
    let mut out = std::io::stdout().lock();
    out.write_all(&value)?;
    if out.is_terminal() {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// The revision that an answer's ETag carries.
pub(super) fn revision(response: &reqwest::Response) -> Option<String> {
    let etag = response.headers().get(reqwest::header::ETAG)?.to_str().ok()?;
    Some(etag.trim_matches('"').to_owned())
}
