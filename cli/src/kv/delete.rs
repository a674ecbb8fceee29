//! `holdfast kv delete`: one key, or every key of a prefix or between two bounds.

use std::ffi::OsString;

use clap::Args;
use indicatif::ProgressBar;
use reqwest::{Method, header};
use serde_json::{Value, json};

use super::argument;
use super::selection::{Lines, Selection};
use crate::api::Api;
use crate::args::DataArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["key", "prefix", "start", "end"]))]
pub(crate) struct DeleteArgs {
    /// The key
    #[arg(conflicts_with_all = ["prefix", "start", "end"])]
    key: Option<OsString>,
    /// Only if the key's revision is this one
    #[arg(long, value_name = "REVISION", requires = "key")]
    if_revision: Option<u64>,
    /// Every key that begins with this; an empty one is every key
    #[arg(long, conflicts_with_all = ["start", "end"])]
    prefix: Option<OsString>,
    /// Every key from this one on
    #[arg(long)]
    start: Option<OsString>,
    /// Every key up to this one, which is left out
    #[arg(long)]
    end: Option<OsString>,
    #[command(flatten)]
    data: DataArgs,
}

/// Deletes the key, or the keys; one that is absent is deleted already.
pub(crate) async fn run(args: DeleteArgs) -> Outcome {
    let Some(key) = &args.key else {
        return many(&args.data.api()?, args).await;
    };
    let client = args.data.client()?;
    match args.if_revision {
        Some(revision) => client.delete_revision(argument(key), revision).await?,
        None => client.delete(argument(key)).await?,
    }
    Ok(())
}

/// Follows the router, which deletes page by page and says after each how far it is.
async fn many(api: &Api, args: DeleteArgs) -> Outcome {
    let output = args.data.output;
    let selection = Selection {
        prefix: args.prefix,
        start: args.start,
        end: args.end,
        reverse: false,
    };
    let parameters = selection.parameters();
    let path = format!("/v1/kv?{}", parameters.trim_start_matches('&'));
    let request = api
        .request(Method::DELETE, &path)
        .header(header::ACCEPT, "application/x-ndjson");
    let mut lines = Lines::of(api.send(request).await?);
    let progress = ProgressBar::new_spinner();
    let mut deleted = 0;
    let ended = loop {
        let Some(line) = lines.next().await? else {
            break Err(cut(deleted, "the stream ended without its closing line"));
        };
        if let Some(error) = line.get("error") {
            let why = error["detail"].as_str().unwrap_or("the router gave no reason");
            break Err(cut(deleted, why));
        }
        deleted = line["deleted"].as_u64().unwrap_or(deleted);
        progress.set_message(format!("{deleted} keys deleted"));
        if line.get("next_cursor").is_some_and(Value::is_null) {
            break Ok(());
        }
    };
    progress.finish_and_clear();
    ended?;
    match output {
        Format::Json => output::json(&json!({"deleted": deleted})),
        Format::Table => output::line(format!("{deleted} keys deleted")),
    }
}

fn cut(deleted: u64, why: &str) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!("stopped after {deleted} keys: {why}; run it again to go on"),
    )
}
