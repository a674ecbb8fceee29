//! `holdfast placement ls|transfer-leader`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::cell;
use super::wait::change;
use crate::api::Api;
use crate::args::{AdminArgs, ChangeArgs};
use crate::exit::Outcome;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum PlacementCommand {
    /// List the members
    Ls {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Hand the leadership to another member
    TransferLeader {
        /// The member that takes it
        #[arg(long)]
        to: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// Runs a placement command.
pub(crate) async fn run(command: PlacementCommand) -> Outcome {
    match command {
        PlacementCommand::Ls { admin } => {
            let cluster = Api::new(&admin.url)?.get("/v1/cluster").await?;
            let members = cluster["members"].as_array().cloned().unwrap_or_default();
            let leader = cell(&cluster["leader"]);
            output::print(
                admin.output,
                &members,
                &["NAME", "ROLE", "HTTP", "RPC"],
                |members| members.iter().map(|member| row(member, &leader)).collect(),
            )
        }
        PlacementCommand::TransferLeader { to, change: args } => {
            change(&args, "/v1/placement/transfer-leader", &json!({"to": to})).await
        }
    }
}

fn row(member: &Value, leader: &str) -> Vec<String> {
    let role = if cell(&member["name"]) == leader {
        "leader"
    } else {
        "follower"
    };
    vec![
        cell(&member["name"]),
        role.into(),
        cell(&member["http"]),
        cell(&member["rpc"]),
    ]
}
