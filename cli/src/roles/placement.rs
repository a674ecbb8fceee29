//! `holdfast placement`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{ProcessArgs, process};
use crate::exit::Outcome;

#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    process: ProcessArgs,
}

#[derive(Debug, Args, Serialize)]
struct Flags {
    /// This member's name, one of those in --members
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Where it keeps everything
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// Address for the admin API and the console
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    /// Address for RPC
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    rpc: Option<String>,
    /// What others dial for RPC, when that is another address
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    advertise: Option<String>,
    /// Every member, this one too: 1, 3 or 5 of them
    #[arg(long, value_name = "NAME=RPC,NAME=RPC…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    members: Vec<String>,
    /// Routers through which the console looks at data
    #[arg(long, value_name = "ADDR,ADDR…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    routers: Vec<String>,
    /// The control API of the launcher that runs the cluster
    #[arg(long, value_name = "ADDR", hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<String>,
    /// Found a new cluster; obeyed once, by one member with an empty directory
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    bootstrap: bool,
    /// Refuse requests without a credential, even before the first token was made; so it is anyway where others can reach
    /// the address
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    auth: bool,
}

/// Runs a placement member.
pub(crate) fn run(args: RoleArgs) -> Outcome {
    process::run(
        "placement",
        &args.process,
        &args.flags,
        |config: holdfast_placement::Config, metrics, shutdown| async move {
            let render = std::sync::Arc::new(move || metrics.render());
            Ok(holdfast_placement::run(config, render, shutdown).await?)
        },
    )
}
