//! `holdfast kv put`.

use std::ffi::OsString;
use std::io::Read;

use clap::Args;
use holdfast_client::{Condition, Written};
use serde_json::json;

use super::argument;
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
    let client = args.data.client()?;
    let value = match argument(&args.value) {
        b"-" => {
            let mut value = Vec::new();
            std::io::stdin().read_to_end(&mut value)?;
            value
        }
        bytes => bytes.to_vec(),
    };
    let mut write = client.write(argument(&args.key), value);
    if let Some(seconds) = args.ttl {
        write = write.ttl(seconds);
    }
    if args.if_absent {
        write = write.only_if(Condition::Absent);
    }
    if let Some(revision) = args.if_revision {
        write = write.only_if(Condition::Revision(revision));
    }
    let Written { created, revision } = write.send().await?;
    match args.data.output {
        Format::Json => output::json(&json!({"created": created, "revision": revision.to_string()})),
        Format::Table => output::line(format!(
            "{} at revision {revision}",
            if created { "created" } else { "replaced" }
        )),
    }
}
