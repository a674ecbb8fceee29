//! `holdfast placement ls|transfer-leader|remove|replace`.

use std::time::Duration;

use clap::Subcommand;
use holdfast_common::clock;
use indicatif::ProgressBar;
use reqwest::Method;
use serde_json::{Value, json};

use super::cell;
use super::wait::change;
use crate::api::Api;
use crate::args::{AdminArgs, ChangeArgs};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};

/// How often a successor is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

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
    /// Take a member's vote away for good; one that starts under its name with an empty directory is a new one
    Remove {
        /// The member
        name: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Remove a member that has lost its directory, and wait until one with an empty directory votes in its place
    Replace {
        /// The member
        name: String,
        #[command(flatten)]
        change: ChangeArgs,
    },
}

/// Runs a placement command.
pub(crate) async fn run(command: PlacementCommand) -> Outcome {
    match command {
        PlacementCommand::Ls { admin } => {
            let cluster = admin.api()?.get("/v1/cluster").await?;
            let members = cluster["members"].as_array().cloned().unwrap_or_default();
            output::print(
                admin.output,
                &members,
                &["NAME", "ROLE", "HTTP", "RPC"],
                |members| members.iter().map(row).collect(),
            )
        }
        PlacementCommand::Remove { name, admin } => {
            let removed = remove(&admin.api()?, &name).await?;
            match admin.output {
                Format::Json => output::json(&removed),
                Format::Table => output::line(format!("{name}: removed")),
            }
        }
        PlacementCommand::Replace { name, change: args } => replace(&name, &args).await,
        PlacementCommand::TransferLeader { to, change: args } => {
            change(&args, "/v1/placement/transfer-leader", &json!({"to": to})).await
        }
    }
}

async fn remove(api: &Api, name: &str) -> Outcome<Value> {
    api.change(Method::POST, "/v1/placement/remove", &json!({"name": name}))
        .await
}

/// Removes the member as it was, and follows its successor until that votes.
async fn replace(name: &str, args: &ChangeArgs) -> Outcome {
    let api = args.admin.api()?;
    let cluster = api.get("/v1/cluster").await?;
    let before = member(&cluster, name)["id"].clone();
    if before.is_null() {
        return Err(Failure::new(Exit::NotFound, format!("there is no member {name}")));
    }
    remove(&api, name).await?;
    output::line(format!(
        "{name} votes no more: start it with the same command line and an empty data directory"
    ))?;
    if args.no_wait {
        return Ok(());
    }
    let progress = ProgressBar::new_spinner();
    progress.set_message("waiting for its successor");
    loop {
        progress.tick();
        clock::sleep(LOOK_EVERY).await;
        let cluster = api.get("/v1/cluster").await?;
        let now = member(&cluster, name);
        if now["id"] != before && matches!(now["role"].as_str(), Some("follower" | "leader")) {
            progress.finish_and_clear();
            return output::line(format!("{name} votes again, as member {}", cell(&now["id"])));
        }
    }
}

fn member<'a>(cluster: &'a Value, name: &str) -> &'a Value {
    let mut members = cluster["members"].as_array().into_iter().flatten();
    members
        .find(|member| member["name"] == name)
        .unwrap_or(&Value::Null)
}

fn row(member: &Value) -> Vec<String> {
    vec![
        cell(&member["name"]),
        cell(&member["role"]),
        cell(&member["http"]),
        cell(&member["rpc"]),
    ]
}
