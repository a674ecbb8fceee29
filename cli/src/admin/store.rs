//! `holdfast store ls|show|drain|decommission|resume|verify`.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use super::{cell, labels_cell, leave, verify};
use crate::args::{AdminArgs, ChangeArgs};
use crate::exit::Outcome;
use crate::output::{self, Format};

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List stores
    Ls {
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Show one store
    Show {
        /// The store
        id: u64,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Move every leadership off a store
    Drain {
        /// The store
        id: u64,
        /// Only say what it would take and whether it can be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Move everything off a store, for good
    Decommission {
        /// The store
        id: u64,
        /// Only say what would move where and whether it can be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        change: ChangeArgs,
    },
    /// Put a store that is being drained or decommissioned back into service
    Resume {
        /// The store
        id: u64,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Read all that a stopped store has on disk, and say what is damaged
    Verify {
        /// Its data directory
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// How the report is printed
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// Runs a store command.
pub(crate) async fn run(command: StoreCommand) -> Outcome {
    match command {
        StoreCommand::Ls { admin } => {
            let stores = admin.api()?.list("/v1/stores").await?;
            print(&admin, &stores)
        }
        StoreCommand::Show { id, admin } => {
            let store = admin.api()?.get(&format!("/v1/stores/{id}")).await?;
            print(&admin, &vec![store])
        }
        StoreCommand::Drain { id, dry_run, change } => send_away(id, dry_run, &change, "drain").await,
        StoreCommand::Decommission { id, dry_run, change } => {
            send_away(id, dry_run, &change, "decommission").await
        }
        StoreCommand::Resume { id, admin } => leave::resume(&admin, id).await,
        StoreCommand::Verify { data_dir, output } => verify::run(&data_dir, output).await,
    }
}

async fn send_away(id: u64, dry_run: bool, change: &ChangeArgs, how: &str) -> Outcome {
    if dry_run {
        leave::ask(&change.admin, id, how).await
    } else {
        leave::leave(change, id, how).await
    }
}

fn print(admin: &AdminArgs, stores: &Vec<Value>) -> Outcome {
    let header = [
        "STORE",
        "NAME",
        "STATE",
        "RANGES",
        "LEADERS",
        "USED",
        "AVAILABLE",
        "LABELS",
        "HTTP",
    ];
    output::print(admin.output, stores, &header, |stores| {
        stores.iter().map(row).collect()
    })
}

fn row(store: &Value) -> Vec<String> {
    let space = |field: &str| {
        store["capacity"][field]
            .as_u64()
            .map(output::bytes)
            .unwrap_or_default()
    };
    vec![
        cell(&store["id"]),
        cell(&store["name"]),
        cell(&store["state"]),
        cell(&store["ranges"]),
        cell(&store["leaders"]),
        space("used"),
        space("available"),
        labels_cell(&store["labels"]),
        cell(&store["http"]),
    ]
}
