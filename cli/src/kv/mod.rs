//! `holdfast kv`: data commands through a router.

mod delete;
mod export;
mod get;
mod import;
mod put;
mod rows;
mod scan;
mod selection;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::Subcommand;

use crate::exit::Outcome;

#[derive(Debug, Subcommand)]
pub(crate) enum KvCommand {
    /// Print the value of a key
    Get(get::GetArgs),
    /// Write a value
    Put(put::PutArgs),
    /// Delete a key
    Delete(delete::DeleteArgs),
    /// List keys and values in order
    Scan(scan::ScanArgs),
    /// Write every row of a file
    Import(import::ImportArgs),
    /// Read every row into a file
    Export(export::ExportArgs),
}

/// Runs a data command.
pub(crate) async fn run(command: KvCommand) -> Outcome {
    match command {
        KvCommand::Get(args) => get::run(args).await,
        KvCommand::Put(args) => put::run(args).await,
        KvCommand::Delete(args) => delete::run(args).await,
        KvCommand::Scan(args) => scan::run(args).await,
        KvCommand::Import(args) => import::run(args).await,
        KvCommand::Export(args) => export::run(args).await,
    }
}

/// The bytes of an argument, whatever its encoding.
fn argument(text: &OsString) -> &[u8] {
    text.as_bytes()
}
