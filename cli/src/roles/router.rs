//! `holdfast router`.

use clap::Args;
use serde::Serialize;

use super::{ProcessArgs, process};
use crate::exit::Outcome;

#[derive(Debug, Args)]
pub(crate) struct RouterArgs {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Debug, Args, Serialize)]
struct Flags {
    /// Address to serve clients on
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    /// RPC addresses of the placement members
    #[arg(long, value_name = "RPC,RPC…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    placement: Vec<String>,
    /// What others dial, when that is another address
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise: Option<String>,
    /// Refuse requests without a credential, even before the first token was made; so it is anyway where others can reach
    /// the address
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    auth: bool,
}

/// Runs a router.
pub(crate) fn run(args: RouterArgs) -> Outcome {
    process::run(
        "router",
        &args.process,
        &args.flags,
        |config: holdfast_router::Config, metrics, shutdown| async move {
            let render = std::sync::Arc::new(move || metrics.render());
            Ok(holdfast_router::run(config, render, shutdown).await?)
        },
    )
}
