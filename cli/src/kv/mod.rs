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
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::exit::Outcome;

/// Everything but what RFC 3986 leaves unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

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

/// A byte string as a query parameter's value.
fn query(bytes: &[u8]) -> String {
    percent_encode(bytes, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_bound_survives_the_query() {
        assert_eq!(query(b"a/b c\x00\xff..+%"), "a%2Fb%20c%00%FF..%2B%25");
    }
}
