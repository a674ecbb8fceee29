//! `holdfast kv delete`: one key, or every key of a prefix or between two bounds.

use std::ffi::OsString;

use clap::Args;
use futures::TryStreamExt;
use holdfast_client::{Client, Error};
use indicatif::ProgressBar;
use serde_json::json;

use super::argument;
use super::selection::Selection;
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
    let client = args.data.client()?;
    let Some(key) = &args.key else {
        return many(&client, args).await;
    };
    match args.if_revision {
        Some(revision) => client.delete_revision(argument(key), revision).await?,
        None => client.delete(argument(key)).await?,
    }
    Ok(())
}

/// Follows the removal, which says after each page how far it is.
async fn many(client: &Client, args: DeleteArgs) -> Outcome {
    let output = args.data.output;
    let selection = Selection {
        prefix: args.prefix,
        start: args.start,
        end: args.end,
        reverse: false,
    };
    let progress = ProgressBar::new_spinner();
    let mut removal = std::pin::pin!(client.delete_all(selection.scan()));
    let mut deleted = 0;
    let ended = loop {
        match removal.try_next().await {
            Ok(Some(so_far)) => {
                deleted = so_far;
                progress.set_message(format!("{deleted} keys deleted"));
            }
            Ok(None) => break Ok(()),
            Err(error @ Error::Unavailable(_)) => break Err(cut(deleted, &error)),
            Err(error) => break Err(error.into()),
        }
    };
    progress.finish_and_clear();
    ended?;
    match output {
        Format::Json => output::json(&json!({"deleted": deleted})),
        Format::Table => output::line(format!("{deleted} keys deleted")),
    }
}

fn cut(deleted: u64, why: &Error) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!("stopped after {deleted} keys: {why}; run it again to go on"),
    )
}
