//! `holdfast kv put`.

use std::ffi::OsString;
use std::io::Read;

use clap::Args;
use reqwest::{Method, StatusCode, header};
use serde_json::json;

use super::get::revision;
use super::{argument, key_path};
use crate::args::DataArgs;
use crate::exit::Outcome;
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The key
    key: OsString,
    /// The value; `-` reads it from standard input
    value: OsString,
    /// Only if the key does not exist
    #[arg(long, conflicts_with = "if_revision")]
    if_absent: bool,
    /// Only if the key's revision is this one
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    /// Let the key expire after so many seconds
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    #[command(flatten)]
    data: DataArgs,
}

/// Writes the value and says which revision it got.
pub(crate) async fn run(args: PutArgs) -> Outcome {
    let api = args.data.api()?;
    let value = match argument(&args.value) {
        b"-" => {
            let mut value = Vec::new();
            std::io::stdin().read_to_end(&mut value)?;
            value
        }
        bytes => bytes.to_vec(),
    };
    let ttl = args
        .ttl
        .map(|seconds| format!("?ttl={seconds}"))
        .unwrap_or_default();
    let mut request = api
        .request(Method::PUT, &format!("{}{ttl}", key_path(argument(&args.key))))
        .body(value);
    if args.if_absent {
        request = request.header(header::IF_NONE_MATCH, "*");
    }
    if let Some(revision) = args.if_revision {
        request = request.header(header::IF_MATCH, format!("\"{revision}\""));
    }
    let response = api.send(request).await?;
    let created = response.status() == StatusCode::CREATED;
    let revision = revision(&response).unwrap_or_default();
    match args.data.output {
        Format::Json => output::json(&json!({"created": created, "revision": revision})),
        Format::Table => output::line(format!(
            "{} at revision {revision}",
            if created { "created" } else { "replaced" }
        )),
    }
}
