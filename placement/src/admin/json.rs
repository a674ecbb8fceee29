//! How things look in JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast_common::proto::placement::{HotKey, Leading as ProtoLeading, LoadCut};
use holdfast_common::range::{Descriptor, Role};
use serde_json::{Map, Value, json};

use crate::metrics::store_state;
use crate::operator::{Action, Kind, Operator, Status};
use crate::schedule::decision::{Decision, Verdict};
use crate::schedule::departure::departure;
use crate::schedule::pace::Estimate;
use crate::state::{Store, StoreIntent};
use crate::view::View;

/// A range, as the view has it.
pub(super) fn range(range: &Descriptor, view: &View<'_>) -> Value {
    let mut json = Map::new();
    let span = view.state.map.effective_span(range);
    json.insert("id".to_owned(), json!(range.id));
    put_key(&mut json, "start", span.start());
    put_key(&mut json, "end", span.end());
    let replicas = range.replicas.iter().map(|replica| {
        let progress = view.progress(range.id, replica.id);
        json!({
            "id": replica.id,
            "store_id": replica.store,
            "role": role(replica.role),
            "lag_entries": progress.and_then(|progress| progress.lag_entries),
            "live": progress.map(|progress| progress.live),
        })
    });
    let leading = view.reports.leading(range.id);
    let load = leading.map(ProtoLeading::load).unwrap_or_default();
    let hot = leading.and_then(|leading| leading.hot.as_deref());
    let rest = json!({
        "epoch": {"bounds": range.epoch.bounds, "membership": range.epoch.membership},
        "replicas": replicas.collect::<Vec<_>>(),
        "leader_store": view.leader(range.id).map(|leader| leader.store),
        "size_bytes": leading.map_or(0, |leading| leading.size_bytes),
        "keys": leading.map_or(0, |leading| leading.keys),
        "reads_per_second": load.reads,
        "writes_per_second": load.writes,
        "read_bytes_per_second": load.read_bytes,
        "written_bytes_per_second": load.written_bytes,
        "load": load.units(),
        "hot_key": hot.and_then(|hot| hot.key.as_ref()).map(hot_key),
        "load_split": hot.and_then(|hot| hot.cut.as_ref()).map(load_split),
        "state": view.range_health(range).name(),
        "operator_id": view.state.operators.on_range(range.id).map(|operator| operator.id),
    });
    json.extend(rest.as_object().cloned().unwrap_or_default());
    Value::Object(json)
}

/// The one key that draws half of a range's requests or more.
fn hot_key(hot: &HotKey) -> Value {
    let mut json = Map::from_iter([("percent".to_owned(), json!(hot.percent))]);
    put_key(&mut json, "key", hot.key.as_bytes());
    Value::Object(json)
}

/// Where a split would halve a busy range's load.
fn load_split(cut: &LoadCut) -> Value {
    let shares = json!({"left_percent": cut.left_percent, "right_percent": cut.right_percent});
    let mut json = shares.as_object().cloned().unwrap_or_default();
    put_key(&mut json, "key", cut.at.as_bytes());
    Value::Object(json)
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Voter => "voter",
        Role::Learner => "learner",
        Role::Outgoing => "outgoing",
    }
}

/// Text, and its base64 twin when the bytes are not UTF-8.
pub(super) fn put_key(json: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    json.insert(name.to_owned(), String::from_utf8_lossy(bytes).into());
    if str::from_utf8(bytes).is_err() {
        json.insert(format!("{name}_base64"), STANDARD.encode(bytes).into());
    }
}

/// A store, as the view has it, with how many ranges it leads and how fast it is emptied.
pub(super) fn store(store: &Store, leaders: usize, pace: Option<Estimate>, view: &View<'_>) -> Value {
    let report = view.reports.store(store.id);
    json!({
        "id": store.id,
        "name": store.name,
        "state": store_state(store.intent, view.health(store.id)),
        "labels": store.labels,
        "rpc": store.rpc_address,
        "http": store.http_address,
        "capacity": report.map(|report| json!({
            "total": report.capacity.total,
            "used": report.capacity.used,
            "available": report.capacity.available,
        })),
        "ranges": report.map_or(0, |report| report.replicas.len()),
        "leaders": leaders,
        "operators": view.moving_on(store.id),
        "last_heartbeat_age_ms": report.map(|_| view.silence(store.id)),
        "drain": leaving(store, pace, view),
    })
}

/// What is left on a store that is to leave.
fn leaving(store: &Store, pace: Option<Estimate>, view: &View<'_>) -> Value {
    match store.intent {
        StoreIntent::Active | StoreIntent::Removed | StoreIntent::Lost => Value::Null,
        StoreIntent::Draining | StoreIntent::Decommissioning => {
            let left = departure(store, store.intent, view);
            json!({
                "leaders_left": left.leaders,
                "ranges_left": left.ranges,
                "bytes_left": left.bytes,
                "bytes_per_second": pace.map_or(0.0, |pace| pace.bytes_per_second),
                "seconds_left": pace.and_then(|pace| pace.seconds_left),
                "problems": left.problems,
            })
        }
    }
}

/// An operator.
pub(super) fn operator(operator: &Operator) -> Value {
    let state_of = |i: usize| match i {
        i if i < operator.current => "done",
        i if i == operator.current && operator.status == Status::Running => "running",
        _ => "pending",
    };
    let steps = operator.steps.iter().enumerate().map(|(i, action)| {
        let mut json = action_detail(action);
        json["name"] = action.name().into();
        json["state"] = state_of(i).into();
        json
    });
    json!({
        "id": operator.id,
        "kind": operator.intent.kind.name(),
        "change": change(&operator.intent.kind),
        "range_id": operator.range(),
        "source": operator.intent.source,
        "why": operator.intent.why,
        "state": operator.status.name(),
        "reason": operator.status.reason(),
        "step": operator.action().map(Action::name),
        "steps": steps.collect::<Vec<_>>(),
        "progress": {"done": operator.current, "total": operator.steps.len()},
        "created_ms": operator.created_ms,
        "ended_ms": operator.ended_ms,
    })
}

fn action_detail(action: &Action) -> Value {
    match action {
        Action::CreateFirst { replica }
        | Action::CreateReplica { replica }
        | Action::AddLearner { replica }
        | Action::CatchUp { replica }
        | Action::DestroyReplica { replica }
        | Action::TransferLeader { to: replica } => {
            json!({"replica_id": replica.id, "store_id": replica.store})
        }
        Action::ChangeVoters(change) => json!({"promote": change.promote, "remove": change.remove}),
        Action::Split { at, right, .. } => {
            let mut json = Map::from_iter([("right_range_id".to_owned(), json!(right))]);
            if let Some(at) = at {
                put_key(&mut json, "key", at.as_bytes());
            }
            Value::Object(json)
        }
        Action::Merge { .. } => json!({}),
        Action::Recover { store, order } => {
            json!({"store_id": store, "from_replica": order.from, "replica_id": order.to, "log_end": order.last})
        }
    }
}

/// What an operator changes.
pub(super) fn change(kind: &Kind) -> Value {
    match kind {
        Kind::CreateFirst { on } => json!({"on_store": on}),
        Kind::Split { at } => {
            let mut json = Map::new();
            if let Some(at) = at {
                put_key(&mut json, "key", at.as_bytes());
            }
            Value::Object(json)
        }
        Kind::MoveReplica { from, to } => json!({"from_store": from, "to_store": to}),
        Kind::AddReplica { to } | Kind::TransferLeader { to } => json!({"to_store": to}),
        Kind::RemoveReplica { replica } => json!({"replica_id": replica}),
        Kind::Merge { into } => json!({"into_range_id": into}),
        Kind::Scatter { moves, leader } => {
            let moves = moves
                .iter()
                .map(|way| json!({"from_store": way.from, "to_store": way.to}));
            json!({"moves": moves.collect::<Vec<_>>(), "to_leader": leader})
        }
        Kind::Recover(recovery) => {
            json!({"from_store": recovery.survivor.store, "lost_stores": recovery.lost})
        }
    }
}

/// A decision.
pub(super) fn decision(decision: &Decision) -> Value {
    let scores = decision
        .scores
        .iter()
        .map(|score| json!({"store_id": score.store, "score": score.score}));
    let (verdict, operator, reason) = match &decision.verdict {
        Verdict::Taken(operator) => ("taken", Some(operator), None),
        Verdict::Rejected(reason) => ("rejected", None, Some(reason)),
    };
    json!({
        "id": decision.id,
        "at_ms": decision.at_ms,
        "times": decision.times,
        "scheduler": decision.scheduler,
        "range_id": decision.range,
        "kind": decision.change.as_ref().map(Kind::name),
        "change": decision.change.as_ref().map(change),
        "why": decision.why,
        "scores": scores.collect::<Vec<_>>(),
        "verdict": verdict,
        "operator_id": operator,
        "reason": reason,
    })
}
