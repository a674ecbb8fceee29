//! Administration through the placement driver's HTTP API.

mod check;
pub(crate) mod config;
mod heat;
mod leave;
pub(crate) mod operator;
pub(crate) mod placement;
pub(crate) mod plan;
mod presplit;
pub(crate) mod range;
mod recover;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod token;
mod verify;
mod wait;

use serde_json::Value;

/// A field for a table: text as it is, nothing for what is not there.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A key field, or its base64 twin when the key is not text.
fn key_cell(row: &Value, field: &str) -> String {
    match row[format!("{field}_base64")].as_str() {
        Some(base64) => format!("base64:{base64}"),
        None => cell(&row[field]),
    }
}

/// Labels as `name=value`.
fn labels_cell(labels: &Value) -> String {
    let pairs = labels.as_object().map(|labels| {
        labels
            .iter()
            .map(|(name, value)| format!("{name}={}", cell(value)))
    });
    pairs
        .map(|pairs| pairs.collect::<Vec<_>>().join(","))
        .unwrap_or_default()
}
