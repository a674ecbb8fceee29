//! `holdfast range heat`: the ranges of which most is asked.

use serde_json::Value;

use super::{cell, key_cell};
use crate::args::AdminArgs;
use crate::exit::Outcome;
use crate::output;

const HEADER: [&str; 10] = [
    "RANGE",
    "START",
    "END",
    "LEADER",
    "LOAD",
    "READS/S",
    "WRITES/S",
    "READ/S",
    "WRITTEN/S",
    "HOT KEY",
];

/// Prints the `top` ranges by load, the most loaded first.
pub(super) async fn run(admin: &AdminArgs, top: usize) -> Outcome {
    let mut ranges = admin.api()?.list("/v1/ranges").await?;
    ranges.sort_by(|a, b| load(b).total_cmp(&load(a)));
    ranges.truncate(top);
    output::print(admin.output, &ranges, &HEADER, |ranges| {
        ranges.iter().map(row).collect()
    })
}

fn load(range: &Value) -> f64 {
    range["load"].as_f64().unwrap_or_default()
}

fn row(range: &Value) -> Vec<String> {
    let rate = |field: &str| format!("{:.0}", range[field].as_f64().unwrap_or_default());
    // Rates are far below 2⁵³.
    let bytes = |field: &str| output::bytes(range[field].as_f64().unwrap_or_default() as u64);
    let hot = &range["hot_key"];
    let hot_key = match hot["percent"].as_u64() {
        Some(percent) => format!("{} ({percent} %)", key_cell(hot, "key")),
        None => String::new(),
    };
    vec![
        cell(&range["id"]),
        key_cell(range, "start"),
        key_cell(range, "end"),
        cell(&range["leader_store"]),
        rate("load"),
        rate("reads_per_second"),
        rate("writes_per_second"),
        bytes("read_bytes_per_second"),
        bytes("written_bytes_per_second"),
        hot_key,
    ]
}
