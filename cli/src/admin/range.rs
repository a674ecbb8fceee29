//! `holdfast range`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::{Args, Subcommand};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};

use super::heat;
use super::wait::change;
use super::{cell, key_cell};
use crate::args::{AdminArgs, ChangeArgs};
use crate::exit::Outcome;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum RangeCommand {
    /// List ranges in key order
    Ls(LsArgs),
    /// List the ranges of which most is asked
    Heat {
        /// How many of them
        #[arg(long, default_value_t = 20)]
        top: usize,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Show one range
    Show {
        /// The range
        id: u64,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Split a range, at a key or at the middle of its data, or the key space at many keys
    Split(SplitArgs),
    /// Merge a range with its right neighbour
    Merge {
        /// The left range
        id: u64,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Move a replica from one store to another
    Move {
        /// The range
        id: u64,
        /// The store that gives the replica up
        #[arg(long)]
        from: u64,
        /// The store that takes it
        #[arg(long)]
        to: u64,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Hand a range's leadership to another store
    TransferLeader {
        /// The range
        id: u64,
        /// The store that takes it
        #[arg(long)]
        to: u64,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Compare what a range's replicas hold, or those of every range
    Check(super::check::CheckArgs),
    /// Place a range's replicas and its leader anew, at random among the stores that hold least
    Scatter(super::presplit::ScatterArgs),
    /// Bring ranges back that have lost their majority for good: unsafe, see docs/unsafe-recovery.md
    Recover(super::recover::RecoverArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Only the range that holds this key
    #[arg(long)]
    key: Option<OsString>,
    #[command(flatten)]
    admin: AdminArgs,
}

#[derive(Debug, Args)]
pub(crate) struct SplitArgs {
    /// The first key of the right part
    #[arg(long, required_unless_present_any = ["id", "keys", "file"], conflicts_with = "id")]
    at: Option<OsString>,
    /// The range to split at the middle of its data
    id: Option<u64>,
    #[command(flatten)]
    many: super::presplit::KeysArgs,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Runs a range command.
pub(crate) async fn run(command: RangeCommand) -> Outcome {
    match command {
        RangeCommand::Ls(args) => list(args).await,
        RangeCommand::Heat { top, admin } => heat::run(&admin, top).await,
        RangeCommand::Show { id, admin } => {
            let range = admin.api()?.get(&format!("/v1/ranges/{id}")).await?;
            print(&admin, &vec![range])
        }
        RangeCommand::Split(args) if args.many.are_given() => {
            super::presplit::split(&args.many, &args.change).await
        }
        RangeCommand::Split(args) => change(&args.change, "/v1/ranges/split", &split_body(&args)).await,
        RangeCommand::Merge { id, change: args } => {
            change(&args, &format!("/v1/ranges/{id}/merge"), &json!({})).await
        }
        RangeCommand::Move {
            id,
            from,
            to,
            change: args,
        } => {
            change(
                &args,
                &format!("/v1/ranges/{id}/move"),
                &json!({"from_store": from, "to_store": to}),
            )
            .await
        }
        RangeCommand::TransferLeader { id, to, change: args } => {
            change(
                &args,
                &format!("/v1/ranges/{id}/transfer-leader"),
                &json!({"to_store": to}),
            )
            .await
        }
        RangeCommand::Check(args) => super::check::run(args).await,
        RangeCommand::Scatter(args) => super::presplit::scatter(args).await,
        RangeCommand::Recover(args) => super::recover::run(args).await,
    }
}

async fn list(args: LsArgs) -> Outcome {
    let api = args.admin.api()?;
    let path = match &args.key {
        Some(key) => format!(
            "/v1/ranges?key={}",
            percent_encode(key.as_bytes(), NON_ALPHANUMERIC)
        ),
        None => "/v1/ranges".to_owned(),
    };
    print(&args.admin, &api.list(&path).await?)
}

fn split_body(args: &SplitArgs) -> Value {
    match (&args.at, args.id) {
        (Some(key), _) => match key.to_str() {
            Some(text) => json!({"key": text}),
            None => json!({"key_base64": BASE64.encode(key.as_bytes())}),
        },
        (None, id) => json!({"range_id": id}),
    }
}

fn print(admin: &AdminArgs, ranges: &Vec<Value>) -> Outcome {
    let header = [
        "RANGE", "START", "END", "EPOCH", "LEADER", "STORES", "SIZE", "KEYS", "STATE",
    ];
    output::print(admin.output, ranges, &header, |ranges| {
        ranges.iter().map(row).collect()
    })
}

fn row(range: &Value) -> Vec<String> {
    let stores = range["replicas"].as_array().map(|replicas| {
        let one = |replica: &Value| match replica["role"].as_str() {
            Some("voter") | None => cell(&replica["store_id"]),
            Some(role) => format!("{} ({role})", cell(&replica["store_id"])),
        };
        replicas.iter().map(one).collect::<Vec<_>>().join(" ")
    });
    vec![
        cell(&range["id"]),
        key_cell(range, "start"),
        key_cell(range, "end"),
        format!(
            "{}.{}",
            cell(&range["epoch"]["bounds"]),
            cell(&range["epoch"]["membership"])
        ),
        cell(&range["leader_store"]),
        stores.unwrap_or_default(),
        range["size_bytes"]
            .as_u64()
            .map(output::bytes)
            .unwrap_or_default(),
        cell(&range["keys"]),
        cell(&range["state"]),
    ]
}
