//! Bringing ranges back that have lost their majority for good: `docs/unsafe-recovery.md`.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, RawQuery};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use futures::future::join_all;
use holdfast_common::clock;
use holdfast_common::ids::{OperatorId, RangeId, StoreId};
use holdfast_common::net::Lane;
use holdfast_common::proto::recovery::{MAX_SURVEYED, Survey, Surveyed, Survivor};
use holdfast_common::proto::{self, method};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::operators::{self, ADMIN};
use super::problem::Problem;
use super::query::{self, Query};
use super::{Leading, json};
use crate::operator::{Intent, Kind};
use crate::recovery::{Finding, Surveys, Verdict, assess, begin_anew, check_lost, harmed};
use crate::schedule::decision;
use crate::schedule::{Idea, Score};
use crate::view::Health;

/// How long a store may take to say what it holds.
const SURVEY_WITHIN: Duration = Duration::from_secs(10);

/// Who decides, in the list of decisions.
const DECIDER: &str = "recovery";

/// What is said with every plan, so that nobody can say not to have known.
const WARNING: &str = "every write that was acknowledged and reached no surviving replica is lost, and a write that was never \
                       acknowledged may appear; what is on the lost stores is given up, and destroyed should they come back";

/// Why a range can't go on with anything.
const GONE: &str = "no replica with data is left; create_empty begins the range anew, with nothing in it";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lost {
    lost_stores: Vec<u64>,
    #[serde(default)]
    create_empty: bool,
}

/// `POST /v1/ranges/{id}/recover`
pub(super) async fn range(
    Extension(leading): Extension<Leading>,
    Path(id): Path<String>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let id = RangeId(query::number("id", &id)?);
    if leading.member.group.shared().state().map.get(id).is_none() {
        return Err(Problem::not_found(format!("there is no range {id}")));
    }
    recover(&leading, Some(id), raw.as_deref(), &bytes).await
}

/// `POST /v1/recover`: every range that has lost its majority with these stores.
pub(super) async fn all(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Result<Response, Problem> {
    recover(&leading, None, raw.as_deref(), &bytes).await
}

async fn recover(
    leading: &Leading,
    only: Option<RangeId>,
    raw: Option<&str>,
    bytes: &Bytes,
) -> Result<Response, Problem> {
    let query = Query::parse(raw, &["wait", "dry_run"])?;
    let (wait, dry_run) = (query.flag("wait")?, query.flag("dry_run")?);
    let Lost {
        lost_stores,
        create_empty,
    } = query::body(bytes)?;
    let lost: BTreeSet<StoreId> = lost_stores.into_iter().map(StoreId).collect();
    let findings = investigate(leading, only, &lost, create_empty).await?;
    if dry_run {
        return Ok(Json(told(&findings, &[])).into_response());
    }
    if let (Some(_), [finding]) = (only, findings.as_slice()) {
        match &finding.verdict {
            Verdict::Recover(_) => {}
            Verdict::Unharmed(why) | Verdict::Wait(why) => return Err(Problem::conflict(why.clone())),
            Verdict::Gone => return Err(Problem::conflict(GONE)),
        }
    }
    let mut begun = Vec::new();
    for finding in &findings {
        if let Verdict::Recover(_) = finding.verdict {
            begun.push((finding.range, begin(leading, finding).await?));
        }
    }
    leading.lead.wake();
    let mut all_ended = wait;
    for (_, id) in begun.iter().filter(|_| wait) {
        all_ended &= operators::ended(leading, *id).await;
    }
    let status = if all_ended {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let mut answer = told(&findings, &begun);
    let operators = begun
        .iter()
        .filter_map(|(_, id)| Some(json::operator(&operators::find(leading, *id).ok()?)));
    answer["operators"] = operators.collect::<Vec<_>>().into();
    if let (Some(_), Some(operator)) = (only, answer["operators"].get(0)) {
        answer["state"] = operator["state"].clone();
    }
    Ok((status, Json(answer)).into_response())
}

/// Asks the survivors, and judges by what they say.
async fn investigate(
    leading: &Leading,
    only: Option<RangeId>,
    lost: &BTreeSet<StoreId>,
    create_empty: bool,
) -> Result<Vec<Finding>, Problem> {
    let looked = leading.member.look(&leading.lead, |view| {
        check_lost(lost, view)?;
        let ranges = only.map_or_else(|| harmed(lost, view), |range| vec![range]);
        let up = view
            .state
            .present_stores()
            .filter(|store| !lost.contains(&store.id) && view.health(store.id) == Health::Up);
        let up: Vec<_> = up.map(|store| (store.id, store.rpc_address.clone())).collect();
        Ok::<_, String>((ranges, up))
    });
    let (ranges, up) = looked.map_err(Problem::conflict)?;
    let asked = up
        .iter()
        .map(|(store, address)| ask(leading, *store, address, &ranges));
    let surveys: Surveys = join_all(asked).await.into_iter().flatten().collect();
    let findings = leading.member.look(&leading.lead, |view| {
        // What was true before the survey has to be true still.
        check_lost(lost, view)?;
        let mut findings = assess(&ranges, lost, &surveys, view);
        if create_empty {
            begin_anew(&mut findings, lost, view);
        }
        Ok::<_, String>(findings)
    });
    findings.map_err(Problem::conflict)
}

/// What a store says; none when it does not answer.
async fn ask(
    leading: &Leading,
    store: StoreId,
    address: &str,
    ranges: &[RangeId],
) -> Option<(StoreId, Vec<Survivor>)> {
    let mut said = Vec::new();
    for ranges in ranges.chunks(MAX_SURVEYED) {
        let survey = Survey {
            ranges: ranges.to_vec(),
        };
        let (body, deadline) = (proto::encode(&survey), clock::now() + SURVEY_WITHIN);
        let client = &leading.member.client;
        let answer = client
            .call(address, Lane::Fast, method::STORE_SURVEY, body, deadline)
            .await;
        let answer = answer.map_err(|error| tracing::warn!(%store, %error, "a store was not surveyed"));
        said.extend(proto::decode::<Surveyed>(&answer.ok()?).ok()?.replicas);
    }
    Some((store, said))
}

/// Starts the recovery of one range, and says so in the log and among the decisions.
async fn begin(leading: &Leading, finding: &Finding) -> Result<OperatorId, Problem> {
    let Verdict::Recover(recovery) = &finding.verdict else {
        return Err(Problem::conflict("there is nothing to recover"));
    };
    let (range, kind) = (finding.range, Kind::Recover(recovery.clone()));
    let lost: Vec<u64> = recovery.lost.iter().map(|store| store.0).collect();
    let (store, last) = (recovery.survivor.store, recovery.last);
    let why = if recovery.survivor.id.is_some() {
        format!("stores {lost:?} were declared lost; the replica on store {store} has the newest log, {last}")
    } else {
        format!("stores {lost:?} were declared lost, and nothing is left: it begins anew on store {store}")
    };
    let intent = Intent {
        range,
        kind: kind.clone(),
        source: ADMIN.to_owned(),
        why: why.clone(),
    };
    let begun = operators::begin(leading, intent).await;
    let verdict = match &begun {
        Ok(id) => decision::Verdict::Taken(*id),
        Err(problem) => decision::Verdict::Rejected(problem.detail().to_owned()),
    };
    tracing::warn!(%range, why, behind = ?finding.behind, ?verdict, "unsafe recovery: {WARNING}");
    let scores = finding
        .survivors
        .iter()
        .enumerate()
        .map(|(place, (store, _))| Score {
            store: *store,
            score: place as f64,
        });
    let idea = Idea {
        range,
        change: Some(kind),
        why,
        scores: scores.collect(),
    };
    let now = clock::wall_ms();
    leading.lead.plans().decisions.note(DECIDER, idea, verdict, now);
    begun
}

fn told(findings: &[Finding], begun: &[(RangeId, OperatorId)]) -> Value {
    let items = findings.iter().map(|finding| {
        let operator = begun.iter().find(|(range, _)| *range == finding.range);
        let mut item = describe(finding);
        item["operator_id"] = json!(operator.map(|(_, id)| id));
        item
    });
    json!({"items": items.collect::<Vec<_>>(), "warning": WARNING})
}

fn describe(finding: &Finding) -> Value {
    let mut item = Map::new();
    json::put_key(&mut item, "start", finding.span.start());
    json::put_key(&mut item, "end", finding.span.end());
    let (verdict, reason, chosen) = match &finding.verdict {
        Verdict::Unharmed(why) => ("unharmed", Some(why.clone()), None),
        Verdict::Wait(why) => ("wait", Some(why.clone()), None),
        Verdict::Gone => ("gone", Some(GONE.to_owned()), None),
        Verdict::Recover(recovery) if recovery.survivor.id.is_some() => ("recover", None, Some(recovery)),
        Verdict::Recover(recovery) => ("begin_anew", Some(GONE.to_owned()), Some(recovery)),
    };
    if let Some(recovery) = chosen {
        let mut kept = Map::new();
        json::put_key(&mut kept, "start", recovery.span.start());
        json::put_key(&mut kept, "end", recovery.span.end());
        item.insert("keeps".to_owned(), Value::Object(kept));
    }
    let survivors = finding.survivors.iter().map(|(store, survivor)| {
        json!({"store_id": store, "replica_id": survivor.replica,
               "log_end": {"term": survivor.last.term, "index": survivor.last.index}})
    });
    let rest = json!({
        "range_id": finding.range,
        "verdict": verdict,
        "reason": reason,
        "from_store": chosen.map(|recovery| recovery.survivor.store),
        "survivors": survivors.collect::<Vec<_>>(),
        "entries_behind_when_last_heard": finding.behind,
    });
    item.extend(rest.as_object().cloned().unwrap_or_default());
    Value::Object(item)
}
