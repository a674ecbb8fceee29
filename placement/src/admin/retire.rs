//! Taking stores out of service, and back into it.

use std::time::Duration;

use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use holdfast_common::clock;
use holdfast_common::ids::StoreId;
use serde_json::{Value, json};

use super::problem::Problem;
use super::query::{self, Query};
use super::{Leading, json};
use crate::command::{Command, Outcome};
use crate::schedule::departure::{Departure, departure};
use crate::state::StoreIntent;

/// Longest wait for a store to be empty.
const WAIT_AT_MOST: Duration = Duration::from_secs(3_600);

/// How often it is looked at again while nothing is known to have changed: leaderships change without a command.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// `POST /v1/stores/{id}/drain`
pub(super) async fn drain(
    leading: Extension<Leading>,
    id: Path<String>,
    raw: RawQuery,
) -> Result<Response, Problem> {
    change(&leading, &id, raw, StoreIntent::Draining).await
}

/// `POST /v1/stores/{id}/decommission`
pub(super) async fn decommission(
    leading: Extension<Leading>,
    id: Path<String>,
    raw: RawQuery,
) -> Result<Response, Problem> {
    change(&leading, &id, raw, StoreIntent::Decommissioning).await
}

/// `POST /v1/stores/{id}/resume`
pub(super) async fn resume(
    leading: Extension<Leading>,
    id: Path<String>,
    raw: RawQuery,
) -> Result<Response, Problem> {
    change(&leading, &id, raw, StoreIntent::Active).await
}

/// Changes what is to become of a store, unless it can't be done or this is but a question.
async fn change(
    leading: &Leading,
    id: &str,
    RawQuery(raw): RawQuery,
    intent: StoreIntent,
) -> Result<Response, Problem> {
    let query = Query::parse(raw.as_deref(), &["wait", "dry_run"])?;
    let (wait, dry_run) = (query.flag("wait")?, query.flag("dry_run")?);
    let id = StoreId(query::number("id", id)?);
    let plan = leading.member.look(&leading.lead, |view| {
        let store = view.state.stores.get(&id)?;
        store.is_alive().then(|| departure(store, intent, view))
    });
    let plan = plan.ok_or_else(|| Problem::not_found(format!("there is no store {id}")))?;
    if dry_run {
        return Ok(Json(planned(&plan)).into_response());
    }
    if !plan.problems.is_empty() {
        return Err(Problem::conflict(format!(
            "store {id} can't leave: {}",
            plan.problems.join("; ")
        )));
    }
    let command = Command::Retire { store: id, intent };
    if leading.member.group.propose(&command).await? != Outcome::Found(true) {
        return Err(Problem::conflict(format!("store {id} has been removed")));
    }
    tracing::info!(store = %id, ?intent, "what is to become of a store was changed");
    leading.lead.wake();
    let ended = wait && ended(leading, id, intent).await;
    let store = leading.member.look(&leading.lead, |view| {
        let store = view.state.stores.get(&id)?;
        let led = view.reports.leaders_by_store().get(&id).copied().unwrap_or(0);
        Some(json::store(store, led, super::stores::pace(leading, id), view))
    });
    let status = if ended || intent == StoreIntent::Active {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((status, Json(store)).into_response())
}

/// Waits until the store is as it should become; false if it took too long or this member leads no more.
async fn ended(leading: &Leading, id: StoreId, intent: StoreIntent) -> bool {
    let done = || {
        leading.member.look(&leading.lead, |view| {
            let store = view.state.stores.get(&id)?;
            Some(match intent {
                StoreIntent::Active | StoreIntent::Removed | StoreIntent::Lost => true,
                StoreIntent::Draining => departure(store, intent, view).leaders == 0,
                StoreIntent::Decommissioning => store.intent == StoreIntent::Removed,
            })
        })
    };
    let mut plans = leading.member.group.shared().hub().plans();
    let ends = async {
        while done() == Some(false) {
            plans.mark_unchanged();
            // Whichever it is, the store is looked at again.
            let _ = clock::timeout(LOOK_EVERY, plans.changed()).await;
        }
        true
    };
    tokio::select! {
        ended = clock::timeout(WAIT_AT_MOST, ends) => ended.unwrap_or(false),
        () = leading.lead.ended() => false,
    }
}

fn planned(plan: &Departure) -> Value {
    let moves = plan
        .moves
        .iter()
        .map(|way| json!({"range_id": way.range, "to_store": way.to, "size_bytes": way.bytes}));
    json!({
        "possible": plan.problems.is_empty(),
        "problems": plan.problems,
        "ranges": plan.ranges,
        "leaders": plan.leaders,
        "size_bytes": plan.bytes,
        "moves": moves.collect::<Vec<_>>(),
        "shared_zones": plan.shared_zones,
    })
}
