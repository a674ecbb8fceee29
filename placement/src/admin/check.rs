//! Whether the replicas of a range hold the same: asking for a comparison, and what is known to differ.

use std::time::Duration;

use axum::extract::{Path, RawQuery};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use holdfast_common::clock;
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::net::{Error as NetError, ErrorCode, Lane};
use holdfast_common::proto::check::{Check, Member, Report, Verdict};
use holdfast_common::proto::placement::StepError;
use holdfast_common::proto::{self, method};
use serde_json::{Value, json};

use super::Leading;
use super::problem::Problem;
use super::query::{self, Query};
use crate::view::View;

/// How long a comparison is waited for. It goes on when nobody waits any more, and what it finds is told all the same.
const CHECK_WITHIN: Duration = Duration::from_secs(55);

/// `POST /v1/ranges/{id}/check`
pub(super) async fn range(
    Extension(leading): Extension<Leading>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let range = RangeId(query::number("id", &id)?);
    let address = leading.member.look(&leading.lead, |view| {
        if view.state.map.get(range).is_none() {
            return Err(Problem::not_found(format!("there is no range {range}")));
        }
        let leader = view.leader(range);
        let store = leader.and_then(|leader| view.state.stores.get(&leader.store));
        store
            .map(|store| store.rpc_address.clone())
            .ok_or_else(|| Problem::unavailable(format!("who leads range {range} is not known at present")))
    })?;
    let (body, deadline) = (proto::encode(&Check { range }), clock::now() + CHECK_WITHIN);
    let client = &leading.member.client;
    let answer = client
        .call(&address, Lane::Fast, method::STORE_CHECK, body, deadline)
        .await;
    let answer = answer.map_err(|error| not_answered(&error))?;
    let compared: Result<Report, StepError> = proto::decode(&answer)
        .map_err(|error| Problem::unavailable(format!("its leader answers nonsense: {error}")))?;
    match compared {
        Ok(report) => Ok(Json(told(&report)).into_response()),
        Err(error) => Err(Problem::unavailable(error.to_string())),
    }
}

fn not_answered(error: &NetError) -> Problem {
    match error {
        NetError::Remote { code, .. } if *code == ErrorCode::UnknownMethod => {
            Problem::unavailable("the store that leads the range runs a version without checks")
        }
        error if error.certainly_not_delivered() => Problem::unavailable(error.to_string()),
        error => Problem::outcome_unknown(format!(
            "{error}; the check may go on, and what it finds will be in /v1/cluster"
        )),
    }
}

/// Every range that is known to have replicas that differ, as long as those are among its members.
pub(super) fn differing(view: &View<'_>) -> Vec<Value> {
    let present = |id| view.state.present_stores().any(|store| store.id == id);
    let known = view.reports.differ(present);
    let still = known.values().filter(|report| {
        let range = view.state.map.get(report.range);
        let stays = |replica: ReplicaId| range.is_some_and(|range| range.replica(replica).is_some());
        match &report.verdict {
            Verdict::Differ { suspects } if !suspects.is_empty() => {
                suspects.iter().any(|suspect| stays(*suspect))
            }
            _ => range.is_some(),
        }
    });
    still.map(|report| told(report)).collect()
}

fn told(report: &Report) -> Value {
    let (verdict, suspects) = match &report.verdict {
        Verdict::Agree => ("agree", &[][..]),
        Verdict::Open => ("open", &[][..]),
        Verdict::Differ { suspects } => ("differ", suspects.as_slice()),
    };
    let replicas = report.replicas.iter().map(|member| {
        let Member {
            replica,
            store,
            found,
        } = member;
        let sum = found.as_ref().ok();
        json!({
            "replica_id": replica,
            "store_id": store,
            "suspect": suspects.contains(replica),
            "rows": sum.map(|sum| sum.rows),
            "bytes": sum.map(|sum| sum.bytes),
            "checksum": sum.map(|sum| format!("{:032x}", sum.checksum)),
            "entry": sum.map(|sum| json!({"term": sum.applied.term, "index": sum.applied.index})),
            "epoch": sum.map(|sum| json!({"bounds": sum.epoch.bounds, "membership": sum.epoch.membership})),
            "unknown_because": found.as_ref().err(),
        })
    });
    json!({
        "range_id": report.range,
        "verdict": verdict,
        "index": report.index,
        "replicas": replicas.collect::<Vec<_>>(),
    })
}
