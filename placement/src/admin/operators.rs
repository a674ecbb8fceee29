//! Planned changes: starting, following, cancelling.

use std::time::Duration;

use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use holdfast_common::clock;
use holdfast_common::ids::{OperatorId, RangeId};

use super::page::Page;
use super::problem::Problem;
use super::query::{self, Query};
use super::{Leading, json};
use crate::command::{Command, Outcome};
use crate::duties;
use crate::operator::recover::is_irrevocable;
use crate::operator::{Intent, Kind, Operator, Refusal, Status};

/// Longest wait for the end of an operator.
const WAIT_AT_MOST: Duration = Duration::from_secs(3_600);

/// How long a change that somebody asks for waits for one that a scheduler has begun on the same range.
const WAIT_FOR_SCHEDULERS: Duration = Duration::from_secs(15);

/// The source of operators that people start.
pub(super) const ADMIN: &str = "admin";

/// `GET /v1/operators`: latest first, those under way and those that ended lately.
pub(super) async fn list(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    let page = Page::of(&Query::parse(raw.as_deref(), &["limit", "cursor"])?)?;
    let from = OperatorId(page.number()?.unwrap_or(u64::MAX));
    let state = leading.member.group.shared().state();
    let mut all: Vec<&Operator> = state.operators.running().chain(state.operators.ended()).collect();
    all.retain(|operator| operator.id <= from);
    all.sort_unstable_by_key(|operator| std::cmp::Reverse(operator.id));
    Ok(page.cut(
        all.into_iter()
            .map(|operator| (operator.id.0.to_be_bytes().to_vec(), json::operator(operator))),
    ))
}

/// `GET /v1/operators/{id}`
pub(super) async fn show(
    Extension(leading): Extension<Leading>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let operator = find(&leading, OperatorId(query::number("id", &id)?))?;
    Ok(Json(json::operator(&operator)).into_response())
}

/// `DELETE /v1/operators/{id}`
pub(super) async fn cancel(
    Extension(leading): Extension<Leading>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &["wait"])?;
    let id = OperatorId(query::number("id", &id)?);
    let operator = find(&leading, id)?;
    if operator.status != Status::Running {
        return Err(Problem::conflict(format!(
            "operator {id} has ended: {}",
            operator.status.name()
        )));
    }
    if is_irrevocable(&operator.intent.kind) {
        return Err(Problem::conflict(format!(
            "operator {id} can't be taken back: what it does may have been done already"
        )));
    }
    let cancelled = Status::Cancelled("cancelled through the admin API".to_owned());
    duties::end(&leading.member, &leading.lead, &operator, cancelled).await?;
    Ok(Json(json::operator(&find(&leading, id)?)).into_response())
}

/// Starts an operator, and answers with it: at once (202), or once it has ended (200).
pub(super) async fn start(
    leading: &Leading,
    range: RangeId,
    kind: Kind,
    wait: bool,
) -> Result<Response, Problem> {
    let (source, why) = (ADMIN.to_owned(), "asked for through the admin API".to_owned());
    let intent = Intent {
        range,
        kind,
        source,
        why,
    };
    let id = begin(leading, intent).await?;
    leading.lead.wake();
    let ended = wait && ended(leading, id).await;
    let operator = find(leading, id)?;
    let status = if ended {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    Ok((status, Json(json::operator(&operator))).into_response())
}

/// Starts an operator. What a scheduler has begun on the range is nothing that the asker could have known of: it is waited
/// for, within bounds.
pub(super) async fn begin(leading: &Leading, intent: Intent) -> Result<OperatorId, Problem> {
    let until = clock::now() + WAIT_FOR_SCHEDULERS;
    loop {
        let command = Command::Start {
            intent: intent.clone(),
            now_ms: clock::wall_ms(),
        };
        let refusal = match leading.member.group.propose(&command).await? {
            Outcome::Started(Ok(id)) => return Ok(id),
            Outcome::Started(Err(refusal)) => refusal,
            other => {
                return Err(Problem::outcome_unknown(format!(
                    "an unexpected answer: {other:?}"
                )));
            }
        };
        let Refusal::RangeBusy(_, busy) = refusal else {
            return Err(refusal.into());
        };
        let begun_by_scheduler = find(leading, busy).is_ok_and(|busy| busy.intent.source != ADMIN);
        let left = until.saturating_duration_since(clock::now());
        if !begun_by_scheduler || clock::timeout(left, ended(leading, busy)).await != Ok(true) {
            return Err(refusal.into());
        }
    }
}

/// Waits for the end of an operator; false if this member can't tell, because it leads no more or the wait was too long.
pub(super) async fn ended(leading: &Leading, id: OperatorId) -> bool {
    let mut plans = leading.member.group.shared().hub().plans();
    let ends = async {
        loop {
            plans.mark_unchanged();
            if !matches!(find(leading, id), Ok(operator) if operator.status == Status::Running) {
                return true;
            }
            if plans.changed().await.is_err() {
                return false;
            }
        }
    };
    tokio::select! {
        ended = clock::timeout(WAIT_AT_MOST, ends) => ended.unwrap_or(false),
        () = leading.lead.ended() => false,
    }
}

pub(super) fn find(leading: &Leading, id: OperatorId) -> Result<Operator, Problem> {
    let found = leading.member.group.shared().state().operators.get(id).cloned();
    found.ok_or_else(|| Problem::not_found(format!("there is no operator {id}, or it ended long ago")))
}
