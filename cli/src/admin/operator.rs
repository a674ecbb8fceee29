//! `holdfast operator`.

use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;

use super::cell;
use crate::args::AdminArgs;
use crate::exit::Outcome;
use crate::output;

#[derive(Debug, Subcommand)]
pub(crate) enum OperatorCommand {
    /// List planned changes, those that ended lately too
    Ls {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Show one, with its steps
    Show {
        /// The operator
        id: u64,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Cancel one
    Cancel {
        /// The operator
        id: u64,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Runs an operator command.
pub(crate) async fn run(command: OperatorCommand) -> Outcome {
    match command {
        OperatorCommand::Ls { admin } => {
            let operators = admin.api()?.list("/v1/operators").await?;
            print(&admin, &operators)
        }
        OperatorCommand::Show { id, admin } => {
            output::json(&admin.api()?.get(&format!("/v1/operators/{id}")).await?)
        }
        OperatorCommand::Cancel { id, admin } => {
            let api = admin.api()?;
            api.send(api.request(Method::DELETE, &format!("/v1/operators/{id}")))
                .await?;
            output::line(format!("operator {id} cancelled"))
        }
    }
}

fn print(admin: &AdminArgs, operators: &Vec<Value>) -> Outcome {
    let header = ["OPERATOR", "KIND", "RANGE", "STATE", "STEP", "WHY", "REASON"];
    output::print(admin.output, operators, &header, |operators| {
        operators.iter().map(row).collect()
    })
}

fn row(operator: &Value) -> Vec<String> {
    ["id", "kind", "range_id", "state", "step", "why", "reason"]
        .iter()
        .map(|field| cell(&operator[*field]))
        .collect()
}
