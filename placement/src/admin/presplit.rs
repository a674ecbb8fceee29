//! Splitting at many keys, and scattering ranges.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::{StreamExt, future, stream};
use holdfast_common::clock;
use holdfast_common::ids::RangeId;
use holdfast_common::key::Key;
use serde_json::{Value, json};

use super::Leading;
use super::operators::{self, ADMIN, start};
use super::problem::Problem;
use super::query::{self, Query};
use crate::operator::{Intent, Kind, Status};
use crate::presplit::{self, Progress};
use crate::schedule::scatter;

/// Most keys in one request.
pub(super) const MAX_KEYS: usize = 1_000;

/// Splits, or ranges scattered, at a time.
const AT_A_TIME: usize = 16;

/// How often places are chosen again.
const CHOICES: usize = 5;

/// Looks without any progress before a job is given up.
const MAX_IDLE_LOOKS: usize = 60;

/// How often a job that can't go on looks again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// `POST /v1/ranges/{id}/scatter`
pub(super) async fn scatter_one(
    Extension(leading): Extension<Leading>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &["wait"])?;
    let range = RangeId(query::number("id", &id)?);
    let kind =
        places(&leading, range).ok_or_else(|| Problem::not_found(format!("there is no range {range}")))?;
    start(&leading, range, kind, query.flag("wait")?).await
}

/// New places for a range.
fn places(leading: &Leading, range: RangeId) -> Option<Kind> {
    let mut pick = |below: usize| {
        let below = u64::try_from(below.max(1)).unwrap_or(1);
        usize::try_from(clock::random_id() % below).unwrap_or(0)
    };
    leading.member.look(&leading.lead, |view| {
        Some(scatter(view.state.map.get(range)?, view, &mut pick))
    })
}

/// `POST /v1/ranges/split` with many keys: answers with the job, at once (202) or once it has ended (200).
pub(super) async fn split_many(
    leading: &Leading,
    keys: BTreeSet<Key>,
    scatter: bool,
    wait: bool,
) -> Result<Response, Problem> {
    if !(1..=MAX_KEYS).contains(&keys.len()) {
        return Err(Problem::invalid(format!("give 1 to {MAX_KEYS} keys")));
    }
    let id = leading.lead.presplits().begin(keys.len());
    let (worker, lead) = (leading.clone(), leading.lead.clone());
    let work = tokio::spawn(async move {
        tokio::select! {
            () = carry_out(&worker, id, keys, scatter) => {}
            () = lead.ended() => {}
        }
    });
    if wait {
        work.await
            .map_err(|error| Problem::unavailable(error.to_string()))?;
    }
    let progress = find(leading, id)?;
    let status = if progress.has_ended {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((status, Json(told(id, &progress))).into_response())
}

/// `GET /v1/presplits/{id}`
pub(super) async fn show(
    Extension(leading): Extension<Leading>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let id = query::number("id", &id)?;
    Ok(Json(told(id, &find(&leading, id)?)).into_response())
}

fn find(leading: &Leading, id: u64) -> Result<Progress, Problem> {
    let found = leading.lead.presplits().get(id).cloned();
    found.ok_or_else(|| {
        Problem::not_found(format!(
            "job {id} is not known to this leading member: ask for the same keys again, those that are done are passed over"
        ))
    })
}

fn told(id: u64, progress: &Progress) -> Value {
    json!({
        "id": id,
        "state": progress.state(),
        "keys": progress.keys,
        "split": progress.split,
        "ranges": progress.ranges,
        "scattered": progress.scattered,
        "failed": progress.failed,
    })
}

async fn carry_out(leading: &Leading, id: u64, keys: BTreeSet<Key>, scatter: bool) {
    let mut failed = split_all(leading, id, &keys).await;
    if scatter && failed.is_empty() {
        failed = scatter_all(leading, id, &keys).await;
    }
    let lead = &leading.lead;
    lead.presplits().update(id, |job| {
        job.failed = failed;
        job.has_ended = true;
    });
    tracing::info!(job = id, keys = keys.len(), "splitting at many keys has ended");
}

/// Splits until every key begins a range. Returns what did not work.
async fn split_all(leading: &Leading, id: u64, keys: &BTreeSet<Key>) -> Vec<String> {
    let mut plans = leading.member.group.shared().hub().plans();
    let (mut best, mut idle, mut last) = (0, 0, Vec::new());
    loop {
        plans.mark_unchanged();
        let (done, next) = {
            let state = leading.member.group.shared().state();
            (presplit::done(keys, &state.map), presplit::next(keys, &state.map))
        };
        leading.lead.presplits().update(id, |job| job.split = done);
        if done == keys.len() {
            return Vec::new();
        }
        idle = if done > best { 0 } else { idle + 1 };
        best = best.max(done);
        if idle > MAX_IDLE_LOOKS {
            last.push(format!("{} keys begin no range", keys.len() - done));
            return last;
        }
        let splits = stream::iter(next)
            .map(|(range, at)| run(leading, range, Kind::Split { at: Some(at) }))
            .buffer_unordered(AT_A_TIME);
        last = splits
            .filter_map(|ended| future::ready(ended.err()))
            .collect()
            .await;
        if !last.is_empty() || idle > 0 {
            // Something is in the way, or the map has not heard of the halves yet.
            let _ = clock::timeout(LOOK_EVERY, plans.changed()).await;
        }
    }
}

/// Scatters every range that begins at a key, and the one before the first.
async fn scatter_all(leading: &Leading, id: u64, keys: &BTreeSet<Key>) -> Vec<String> {
    let ranges: BTreeSet<RangeId> = {
        let state = leading.member.group.shared().state();
        let begun = keys.iter().filter_map(|key| state.map.at(key.as_bytes()));
        begun.map(|range| range.id).collect()
    };
    leading
        .lead
        .presplits()
        .update(id, |job| job.ranges = ranges.len());
    let scattered = stream::iter(ranges)
        .map(|range| async move {
            let ended = scatter_range(leading, range).await;
            leading.lead.presplits().update(id, |job| job.scattered += 1);
            ended
        })
        .buffer_unordered(AT_A_TIME);
    scattered
        .filter_map(|ended| future::ready(ended.err()))
        .collect()
        .await
}

/// Chooses places and has them taken; chooses again when a scheduler has moved the range in between.
async fn scatter_range(leading: &Leading, range: RangeId) -> Result<(), String> {
    let mut attempts = 0;
    // A range that is no more needs no places.
    while let Some(kind) = places(leading, range) {
        match run(leading, range, kind).await {
            Err(_) if attempts < CHOICES => attempts += 1,
            ended => return ended,
        }
    }
    Ok(())
}

/// Runs one operator to its end.
async fn run(leading: &Leading, range: RangeId, kind: Kind) -> Result<(), String> {
    let intent = Intent {
        range,
        kind,
        source: ADMIN.to_owned(),
        why: "part of a split at many keys".to_owned(),
    };
    let told = |problem: Problem| format!("range {range}: {}", problem.detail());
    let id = operators::begin(leading, intent).await.map_err(told)?;
    leading.lead.wake();
    if !operators::ended(leading, id).await {
        return Err(format!("operator {id} was not followed to its end"));
    }
    let operator = operators::find(leading, id).map_err(told)?;
    match operator.status {
        Status::Done => Ok(()),
        other => Err(format!(
            "operator {id}: {}: {}",
            other.name(),
            other.reason().unwrap_or_default()
        )),
    }
}
