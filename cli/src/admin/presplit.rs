//! `holdfast range split` at many keys, and `holdfast range scatter`.

use std::ffi::OsString;
use std::io::BufRead as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use futures::{StreamExt, stream};
use holdfast_common::clock;
use indicatif::{ProgressBar, ProgressStyle};
use reqwest::Method;
use serde_json::{Value, json};

use super::cell;
use super::wait::change;
use crate::args::ChangeArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// Most keys, and most bytes of them, in one request.
const CHUNK_KEYS: usize = 500;
const CHUNK_BYTES: usize = 24 << 10;

/// How often a job is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Ranges scattered at a time.
const AT_A_TIME: usize = 8;

/// What a split at many keys takes.
#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    /// A key at which a range is to begin; give as many as there are
    #[arg(long = "key", conflicts_with_all = ["at", "id"])]
    keys: Vec<OsString>,
    /// A file with a key on each line
    #[arg(long, value_name = "FILE", conflicts_with_all = ["at", "id"])]
    file: Option<PathBuf>,
    /// Then place the new ranges at random among the stores that hold least
    #[arg(long, conflicts_with_all = ["at", "id"])]
    scatter: bool,
}

impl KeysArgs {
    /// Whether many keys were asked for.
    pub(super) fn are_given(&self) -> bool {
        !self.keys.is_empty() || self.file.is_some()
    }
}

/// Splits at all the keys and, unless told not to, stays until the last is done.
pub(super) async fn split(args: &KeysArgs, change: &ChangeArgs) -> Outcome {
    let mut keys: Vec<Vec<u8>> = args.keys.iter().map(|key| key.as_bytes().to_vec()).collect();
    if let Some(file) = &args.file {
        keys.extend(read(file)?);
    }
    keys.sort_unstable();
    keys.dedup();
    let api = change.admin.api()?;
    let progress = bar(2 * keys.len() as u64, args.scatter)?;
    let (mut done, mut failed) = (0, Vec::new());
    for chunk in chunks(&keys) {
        let body = json!({
            "keys_base64": chunk.iter().map(|key| BASE64.encode(key)).collect::<Vec<_>>(),
            "scatter": args.scatter,
        });
        let mut job = api.change(Method::POST, "/v1/ranges/split", &body).await?;
        while !change.no_wait && job["state"] == "running" {
            progress.set_position(done + ended(&job));
            clock::sleep(LOOK_EVERY).await;
            job = api.get(&format!("/v1/presplits/{}", cell(&job["id"]))).await?;
        }
        done += ended(&job);
        failed.extend(job["failed"].as_array().cloned().unwrap_or_default());
    }
    progress.finish_and_clear();
    let summary = json!({"keys": keys.len(), "failed": failed});
    match change.admin.output {
        output::Format::Json => output::json(&summary)?,
        output::Format::Table => output::line(format!("{} keys, {} failures", keys.len(), failed.len()))?,
    }
    match failed.first() {
        None => Ok(()),
        Some(first) => Err(Failure::new(Exit::Other, cell(first))),
    }
}

fn ended(job: &Value) -> u64 {
    let count = |field: &str| job[field].as_u64().unwrap_or(0);
    count("split") + count("scattered")
}

fn bar(length: u64, scatter: bool) -> Outcome<ProgressBar> {
    let template = "{spinner} {wide_bar} {pos}/{len} {msg} {elapsed}";
    let length = if scatter { length } else { length / 2 };
    let style = ProgressStyle::with_template(template).map_err(anyhow::Error::from)?;
    Ok(ProgressBar::new(length).with_style(style))
}

fn read(file: &Path) -> Outcome<Vec<Vec<u8>>> {
    let open =
        std::fs::File::open(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let lines = std::io::BufReader::new(open).split(b'\n');
    let keys = lines.filter(|line| !matches!(line, Ok(line) if line.is_empty()));
    Ok(keys.collect::<Result<_, _>>()?)
}

/// The keys in requests that are not too large.
fn chunks(keys: &[Vec<u8>]) -> Vec<&[Vec<u8>]> {
    let (mut chunks, mut begin, mut bytes) = (Vec::new(), 0, 0);
    for (i, key) in keys.iter().enumerate() {
        bytes += key.len();
        if i > begin && (bytes > CHUNK_BYTES || i - begin >= CHUNK_KEYS) {
            chunks.push(&keys[begin..i]);
            (begin, bytes) = (i, key.len());
        }
    }
    if begin < keys.len() {
        chunks.push(&keys[begin..]);
    }
    chunks
}

#[derive(Debug, Args)]
pub(crate) struct ScatterArgs {
    /// The range
    #[arg(required_unless_present_any = ["prefix", "start", "end"], conflicts_with_all = ["prefix", "start", "end"])]
    id: Option<u64>,
    /// Every range with keys that begin so
    #[arg(long, conflicts_with_all = ["start", "end"])]
    prefix: Option<String>,
    /// Every range with keys from here on
    #[arg(long)]
    start: Option<String>,
    /// Every range with keys before this one
    #[arg(long)]
    end: Option<String>,
    #[command(flatten)]
    change: ChangeArgs,
}

/// Scatters one range, or all of a span.
pub(super) async fn scatter(args: ScatterArgs) -> Outcome {
    if let Some(id) = args.id {
        return change(&args.change, &format!("/v1/ranges/{id}/scatter"), &json!({})).await;
    }
    let api = args.change.admin.api()?;
    let ranges = api.list("/v1/ranges").await?;
    let chosen: Vec<u64> = ranges
        .iter()
        .filter(|range| is_in_span(range, &args))
        .filter_map(|range| range["id"].as_u64())
        .collect();
    let progress = bar(chosen.len() as u64, true)?;
    let wait = if args.change.no_wait { "" } else { "?wait=true" };
    let (api, moving) = (&api, &progress);
    let ended: Vec<Outcome<Value>> = stream::iter(chosen)
        .map(|id| async move {
            let path = format!("/v1/ranges/{id}/scatter{wait}");
            let operator = api.change(Method::POST, &path, &json!({})).await;
            moving.inc(1);
            operator
        })
        .buffer_unordered(AT_A_TIME)
        .collect()
        .await;
    progress.finish_and_clear();
    let count = ended.len();
    for operator in ended {
        let operator = operator?;
        if !matches!(operator["state"].as_str(), Some("done" | "running")) {
            return Err(Failure::new(
                Exit::Other,
                format!(
                    "range {}: {}",
                    cell(&operator["range_id"]),
                    cell(&operator["reason"])
                ),
            ));
        }
    }
    output::line(format!("{count} ranges scattered"))
}

/// Whether a range has keys in the span that was asked for.
fn is_in_span(range: &Value, args: &ScatterArgs) -> bool {
    let (begins, ends) = (bytes(range, "start"), bytes(range, "end"));
    if let Some(prefix) = args.prefix.as_deref().map(str::as_bytes) {
        let ends_before = !ends.is_empty() && ends.as_slice() <= prefix;
        let begins_behind = begins.as_slice() > prefix && !begins.starts_with(prefix);
        return !ends_before && !begins_behind;
    }
    let after = |start: &String| ends.is_empty() || ends.as_slice() > start.as_bytes();
    let before = |end: &String| begins.as_slice() < end.as_bytes();
    args.start.as_ref().is_none_or(after) && args.end.as_ref().is_none_or(before)
}

/// A bound of a range, whichever way it is written.
fn bytes(range: &Value, field: &str) -> Vec<u8> {
    let base64 = range[format!("{field}_base64")].as_str();
    match base64.and_then(|text| BASE64.decode(text).ok()) {
        Some(bytes) => bytes,
        None => range[field].as_str().unwrap_or_default().as_bytes().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_neither_too_many_keys_nor_too_many_bytes() {
        let small: Vec<Vec<u8>> = (0..1_201u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let sizes: Vec<usize> = chunks(&small).iter().map(|chunk| chunk.len()).collect();
        assert_eq!(sizes, [500, 500, 201]);
        let large: Vec<Vec<u8>> = (0..10u8).map(|n| vec![n; 4_096]).collect();
        let sizes: Vec<usize> = chunks(&large).iter().map(|chunk| chunk.len()).collect();
        assert_eq!(sizes, [6, 4]);
        assert!(chunks(&[]).is_empty());
    }
}
