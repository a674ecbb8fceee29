//! `POST /v1/plan`: what would happen if stores came, left or failed. Changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use holdfast_common::blocking;
use holdfast_common::ids::StoreId;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::problem::Problem;
use super::query::{self, Query};
use super::{Leading, json};
use crate::forecast::{Change, Fail, Forecast, Load, Outlook, Scenario, Violation};

/// Most changes, violations and the like that are told; of more, only the number.
const MAX_TOLD: usize = 1_000;

/// Forecasts at a time: each has a copy of everything.
static TURNS: Semaphore = Semaphore::const_new(1);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Question {
    #[serde(default)]
    add_stores: u64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    remove_stores: Vec<u64>,
    #[serde(default)]
    fail: Vec<String>,
    bytes_per_second: Option<u64>,
}

/// `POST /v1/plan`
pub(super) async fn ask(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let question: Question = query::body(&bytes)?;
    let rate = question.bytes_per_second;
    let scenario = scenario(question)?;
    let _turn = TURNS
        .acquire()
        .await
        .map_err(|error| Problem::unavailable(error.to_string()))?;
    let looked = leading.member.look(&leading.lead, |view| {
        let rate = rate.unwrap_or(view.state.settings.move_bytes_per_second);
        view.is_settled().then(|| (rate, Forecast::of(view, rate)))
    });
    let unsettled = || Problem::unavailable("the leading member has not heard of every store yet");
    let (rate, forecast) = looked.ok_or_else(unsettled)?;
    let played = blocking::run(move || forecast.play(&scenario)).await;
    let outlook = played
        .map_err(|error| Problem::unavailable(error.to_string()))?
        .map_err(|error| Problem::invalid(error.to_string()))?;
    Ok(Json(told(&outlook, rate)).into_response())
}

/// What a question supposes.
pub(super) fn scenario(question: Question) -> Result<Scenario, Problem> {
    let fails = question.fail.iter().map(|what| fail(what));
    Ok(Scenario {
        add_stores: question.add_stores,
        labels: question.labels,
        remove_stores: question.remove_stores.into_iter().map(StoreId).collect(),
        fail: fails.collect::<Result<_, _>>()?,
    })
}

/// `store=3`, or a label.
fn fail(what: &str) -> Result<Fail, Problem> {
    let (name, value) = what
        .split_once('=')
        .ok_or_else(|| Problem::invalid(format!("fail: {what:?} is neither store=ID nor a label")))?;
    if name == "store" {
        return Ok(Fail::Store(StoreId(query::number("fail", value)?)));
    }
    Ok(Fail::Label(name.to_owned(), value.to_owned()))
}

fn told(outlook: &Outlook, rate: u64) -> Value {
    let stores: BTreeSet<&StoreId> = outlook.before.keys().chain(outlook.after.keys()).collect();
    let stores = stores.into_iter().map(|store| {
        json!({"id": store, "before": outlook.before.get(store).map(load), "after": outlook.after.get(store).map(load)})
    });
    let moves = outlook.changes.iter().filter(|change| change.is_move());
    json!({
        "rests": outlook.rests,
        "rounds": outlook.rounds,
        "changes_total": outlook.changes.len(),
        "moves_total": moves.count(),
        "changes": outlook.changes.iter().take(MAX_TOLD).map(change).collect::<Vec<_>>(),
        "size_bytes": outlook.bytes(),
        "bytes_per_second": rate,
        "seconds": outlook.takes.as_secs_f64(),
        "stores": stores.collect::<Vec<_>>(),
        "violations_at_first": violations(&outlook.at_first),
        "violations": violations(&outlook.in_the_end),
        "stuck": outlook.stuck.iter().take(MAX_TOLD).collect::<Vec<_>>(),
    })
}

fn change(change: &Change) -> Value {
    json!({
        "round": change.round,
        "scheduler": change.scheduler,
        "range_id": change.range,
        "kind": change.kind.name(),
        "change": json::change(&change.kind),
        "size_bytes": change.bytes,
        "why": change.why,
    })
}

fn load(load: &Load) -> Value {
    json!({"replicas": load.replicas, "leaders": load.leaders, "size_bytes": load.bytes})
}

fn violations(violations: &[Violation]) -> Value {
    let told = violations.iter().take(MAX_TOLD).map(|violation| {
        let (range, store) = match violation {
            Violation::NoMajority(range)
            | Violation::UnderReplicated(range)
            | Violation::SharedZone(range) => (Some(range), None),
            Violation::DiskNearlyFull(store) => (None, Some(store)),
            Violation::TooFewStores { .. } => (None, None),
        };
        json!({"rule": violation.name(), "range_id": range, "store_id": store})
    });
    json!({"total": violations.len(), "items": told.collect::<Vec<_>>()})
}
