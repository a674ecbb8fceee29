//! The cluster as a whole, and the members of the placement driver.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::RawQuery;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use holdfast_common::ids::{MemberId, ReplicaId};
use holdfast_common::raft::types::Membership;
use openraft::async_runtime::watch::WatchReceiver;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Leading;
use super::check;
use super::problem::Problem;
use super::query::{self, Query};
use crate::command::{Command, Outcome};
use crate::metrics::store_state;
use crate::roster::replica;
use crate::view::{RangeHealth, View};

/// How long a transfer of the leadership is waited for.
const TRANSFER_WITHIN: Duration = Duration::from_secs(10);

/// `GET /v1/cluster`
pub(super) async fn show(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let members = members(&leading);
    let cluster = leading
        .member
        .look(&leading.lead, |view| describe(&leading, members, view));
    Ok(Json(cluster).into_response())
}

pub(super) fn describe(leading: &Leading, members: Vec<Value>, view: &View<'_>) -> Value {
    let mut stores: BTreeMap<&str, usize> = BTreeMap::new();
    for store in view.state.stores.values() {
        *stores
            .entry(store_state(store.intent, view.health(store.id)))
            .or_default() += 1;
    }
    let mut health: BTreeMap<&str, usize> = BTreeMap::new();
    for range in view.state.map.iter() {
        *health.entry(view.range_health(range).name()).or_default() += 1;
    }
    let under = view
        .state
        .map
        .iter()
        .filter(|range| view.is_under_replicated(range))
        .count();
    let holes = view.state.map.holes().len();
    let differ = check::differing(view);
    let leaderless = health.get(RangeHealth::NoLeader.name()).copied().unwrap_or(0);
    let absent = view.state.present_stores().count() - stores.get("up").copied().unwrap_or(0);
    let overall = match () {
        // A new leading member has not heard of everything yet.
        () if !view.is_settled() => "unknown",
        () if leaderless > 0 || view.state.map.is_empty() || !differ.is_empty() => "critical",
        () if under > 0 || absent > 0 => "degraded",
        () => "ok",
    };
    json!({
        "id": leading.member.cluster.to_string(),
        "health": overall,
        "leader": leading.member.name,
        "members": members,
        "counts": {
            "stores": view.state.present_stores().count(),
            "ranges": view.state.map.len(),
            "replicas": view.state.map.iter().map(|range| range.replicas.len()).sum::<usize>(),
            "operators": view.state.operators.running_len(),
        },
        "stores": stores,
        "ranges": health,
        "under_replicated_ranges": under,
        "unknown_spans": holes,
        "divergent_ranges": differ,
        "replication_factor": view.state.settings.replication_factor,
        "settled": view.is_settled(),
    })
}

/// The members, with what each is in the group.
pub(super) fn members(leading: &Leading) -> Vec<Value> {
    let leader = leading
        .member
        .group
        .raft()
        .metrics()
        .borrow_watched()
        .current_leader;
    let agreed = leading.member.group.shared().membership();
    let role = |number: MemberId| match replica(&number) {
        id if leader == Some(id) => "leader",
        id => part(agreed.membership(), id),
    };
    let state = leading.member.group.shared().state();
    let members = state.members.iter().map(|(number, member)| {
        json!({
            "id": number,
            "name": member.name,
            "role": role(*number),
            "rpc": member.rpc_address,
            "http": member.http_address,
        })
    });
    members.collect()
}

/// What a member that does not lead is. While a change of votes is under way, both the old voters and the new ones have to
/// agree to everything: the group can spare nobody in the place of one whose vote is only coming.
fn part(membership: &Membership, member: ReplicaId) -> &'static str {
    let configs = membership.get_joint_config();
    let votes = |config: Option<&BTreeSet<ReplicaId>>| config.is_some_and(|voters| voters.contains(&member));
    match (votes(configs.first()), votes(configs.last())) {
        (true, true) => "follower",
        (true, false) => "leaving",
        (false, true) => "joining",
        (false, false) if membership.get_node(&member).is_some() => "learner",
        (false, false) => "joining",
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Transfer {
    to: String,
}

/// `POST /v1/placement/transfer-leader`
pub(super) async fn transfer_leader(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &["wait"])?;
    let Transfer { to } = query::body(&bytes)?;
    let target = named(&leading, &to)?;
    let raft = leading.member.group.raft();
    if target != leading.member.number {
        let is_voter = raft.voter_ids().any(|voter| voter == replica(&target));
        if !is_voter {
            return Err(Problem::conflict(format!(
                "{to} has no vote in the placement group yet"
            )));
        }
        raft.trigger()
            .transfer_leader(replica(&target))
            .await
            .map_err(|error| Problem::unavailable(error.to_string()))?;
        let moved = raft.wait(Some(TRANSFER_WITHIN));
        let moved = moved
            .metrics(
                |now| now.current_leader == Some(replica(&target)),
                "the leadership has moved",
            )
            .await;
        moved.map_err(|_| {
            Problem::outcome_unknown(format!(
                "{to} does not lead after {} s",
                TRANSFER_WITHIN.as_secs()
            ))
        })?;
    }
    Ok(Json(json!({"leader": to, "state": "done"})).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Remove {
    name: String,
}

/// `POST /v1/placement/remove`
pub(super) async fn remove_member(
    Extension(leading): Extension<Leading>,
    RawQuery(raw): RawQuery,
    bytes: Bytes,
) -> Result<Response, Problem> {
    Query::parse(raw.as_deref(), &[])?;
    let Remove { name } = query::body(&bytes)?;
    if named(&leading, &name)? == leading.member.number {
        return Err(Problem::conflict(format!(
            "{name} leads: transfer the leadership to another member first"
        )));
    }
    match leading
        .member
        .group
        .propose(&Command::RemoveMember { name: name.clone() })
        .await?
    {
        Outcome::Found(true) => Ok(Json(json!({"name": name, "state": "removed"})).into_response()),
        _ => Err(Problem::not_found(format!("there is no member {name}"))),
    }
}

fn named(leading: &Leading, name: &str) -> Result<MemberId, Problem> {
    let state = leading.member.group.shared().state();
    let found = state.members.iter().find(|(_, member)| member.name == name);
    found
        .map(|(number, _)| *number)
        .ok_or_else(|| Problem::not_found(format!("there is no member {name}")))
}

#[cfg(test)]
mod tests {
    use holdfast_common::raft::types::Node;

    use super::*;

    #[test]
    fn a_vote_counts_once_the_change_that_gives_it_is_over() {
        let voters = |ids: &[u64]| ids.iter().copied().map(ReplicaId).collect::<BTreeSet<_>>();
        let parts = |configs: &[&[u64]]| {
            let nodes = (1..=5).map(|id| (ReplicaId(id), Node::default()));
            let configs = configs.iter().map(|ids| voters(ids)).collect();
            let membership = Membership::new(configs, nodes.collect::<BTreeMap<_, _>>()).expect("valid");
            [1, 2, 3, 4, 6].map(|id| part(&membership, ReplicaId(id)))
        };
        assert_eq!(
            parts(&[&[1, 3]]),
            ["follower", "learner", "follower", "learner", "joining"]
        );
        assert_eq!(
            parts(&[&[1, 2, 3], &[1, 3, 4]]),
            ["follower", "leaving", "follower", "joining", "joining"]
        );
    }
}
