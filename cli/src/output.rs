//! Results on standard output: tables for people, JSON for programs.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::Outcome;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    #[default]
    Table,
    /// For programs: what the API answered
    Json,
}

/// Prints `value` as JSON, or as the table that `rows` makes of it.
pub(crate) fn print<T: Serialize>(
    format: Format,
    value: &T,
    header: &[&str],
    rows: impl FnOnce(&T) -> Vec<Vec<String>>,
) -> Outcome {
    match format {
        Format::Json => json(value),
        Format::Table => line(table(header, rows(value))),
    }
}

/// Prints `value` as indented JSON.
pub(crate) fn json<T: Serialize>(value: &T) -> Outcome {
    line(serde_json::to_string_pretty(value).map_err(anyhow::Error::from)?)
}

/// Prints one line. A reader that has gone away (`| head`) ends the command quietly.
pub(crate) fn line(text: impl std::fmt::Display) -> Outcome {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    let terminal = std::io::stdout().is_terminal();
    table.load_preset(if terminal {
        presets::UTF8_HORIZONTAL_ONLY
    } else {
        presets::NOTHING
    });
    if terminal {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(header.iter().map(|title| title.to_string()));
    table.add_rows(rows);
    table.trim_fmt()
}

/// A number of bytes for people: `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}
