//! `holdfast store`.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use toml::Table;

use super::{ProcessArgs, pair, process};
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
    /// The store's name, unique in the cluster
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Where it keeps everything
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<PathBuf>,
    /// Address for health, metrics and debug
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
    /// RPC addresses of the placement members
    #[arg(long, value_name = "RPC,RPC…", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    placement: Vec<String>,
    /// When the data is damaged, set it aside and join as a new store, if the others have all of it
    #[arg(long)]
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    rebuild_damaged: bool,
    /// A label such as zone=a; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    #[serde(
        rename = "labels",
        skip_serializing_if = "Vec::is_empty",
        serialize_with = "as_table"
    )]
    label: Vec<(String, String)>,
}

fn as_table<S: serde::Serializer>(pairs: &[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    pairs
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect::<Table>()
        .serialize(serializer)
}

/// Runs a store.
pub(crate) fn run(args: RoleArgs) -> Outcome {
    process::run(
        "store",
        &args.process,
        &args.flags,
        |config: holdfast_store::Config, metrics, shutdown| async move {
            let render = std::sync::Arc::new(move || metrics.render());
            Ok(holdfast_store::run(config, render, shutdown).await?)
        },
    )
}
