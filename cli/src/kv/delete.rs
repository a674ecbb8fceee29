//! `holdfast kv delete`.

use std::ffi::OsString;

use clap::Args;
use reqwest::{Method, header};

use super::{argument, key_path};
use crate::api::Api;
use crate::args::DataArgs;
use crate::exit::Outcome;

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The key
    key: OsString,
    /// Only if the key's revision is this one
    #[arg(long, value_name = "REVISION")]
    if_revision: Option<u64>,
    #[command(flatten)]
    data: DataArgs,
}

/// Deletes the key; one that is absent is deleted already.
pub(crate) async fn run(args: DeleteArgs) -> Outcome {
    let api = Api::new(&args.data.url)?;
    let mut request = api.request(Method::DELETE, &key_path(argument(&args.key)));
    if let Some(revision) = args.if_revision {
        request = request.header(header::IF_MATCH, format!("\"{revision}\""));
    }
    api.send(request).await.map(drop)
}
