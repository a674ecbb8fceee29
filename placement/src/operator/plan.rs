//! From what is wanted to the steps that lead there, or why it can't be.
//!
//! Planning happens when the command that starts an operator is applied, from the replicated state alone, so that every
//! member plans the same. What only the leading member knows (who leads, who is alive) is looked at when steps are taken.

use holdfast_common::ids::{OperatorId, RangeId, ReplicaId, StoreId};
use holdfast_common::key::Key;
use holdfast_common::proto::placement::VoterChange;
use holdfast_common::range::{Descriptor, Replica, Role};
use serde::{Deserialize, Serialize};

use super::action::voters;
use super::{Action, Kind, Relocation, recover};
use crate::state::{State, StoreIntent};

/// Why an operator is not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The map has no such range.
    #[error("there is no range {0}")]
    NoSuchRange(RangeId),
    /// No such store is a member.
    #[error("there is no store {0}")]
    NoSuchStore(StoreId),
    /// An operator is under way for the range.
    #[error("operator {1} is under way for range {0}")]
    RangeBusy(RangeId, OperatorId),
    /// As many operators are under way as may be.
    #[error("{0} operators are under way already")]
    TooMany(usize),
    /// The range or the store is not in a state that allows it.
    #[error("{0}")]
    Conflict(String),
}

/// Mints the ids that a plan needs.
pub trait Mint {
    /// An id for a range or a replica that nobody else is given.
    fn mint(&mut self) -> u64;
}

/// Plans `kind` for `range`.
///
/// # Errors
/// It makes no sense as the state is.
pub fn plan(state: &State, range: RangeId, kind: &Kind, ids: &mut dyn Mint) -> Result<Vec<Action>, Refusal> {
    if let Kind::Recover(recovery) = kind {
        return recover::plan(state, range, recovery, ids);
    }
    if let Some(busy) = state.operators.on_range(range) {
        return Err(Refusal::RangeBusy(range, busy.id));
    }
    if let Kind::CreateFirst { on } = kind {
        let replica = Replica {
            id: ReplicaId(ids.mint()),
            store: *on,
            role: Role::Voter,
        };
        return Ok(vec![Action::CreateFirst { replica }]);
    }
    let descriptor = state.map.get(range).ok_or(Refusal::NoSuchRange(range))?;
    if descriptor.is_joint() {
        return Err(conflict(format!(
            "a change of membership of range {range} is half done and will be completed first"
        )));
    }
    match kind {
        Kind::CreateFirst { .. } | Kind::Recover(_) => Err(conflict("planned elsewhere".to_owned())),
        Kind::Split { at } => split(descriptor, at.as_ref(), ids),
        Kind::MoveReplica { from, to } => move_replica(state, descriptor, *from, *to, ids),
        Kind::AddReplica { to } => add_replica(state, descriptor, *to, ids),
        Kind::RemoveReplica { replica } => remove_replica(descriptor, *replica),
        Kind::TransferLeader { to } => transfer_leader(state, descriptor, *to),
        Kind::Merge { into } => merge(state, descriptor, *into, ids),
        Kind::Scatter { moves, leader } => scatter(state, descriptor, moves, *leader, ids),
    }
}

fn split(range: &Descriptor, at: Option<&Key>, ids: &mut dyn Mint) -> Result<Vec<Action>, Refusal> {
    if let Some(key) = at
        && range.span.split_at(key).is_none()
    {
        return Err(conflict(format!(
            "range {} {} begins at {key} already, or does not hold it",
            range.id, range.span
        )));
    }
    let right = RangeId(ids.mint());
    let replicas = range
        .replicas
        .iter()
        .map(|replica| (replica.store, ReplicaId(ids.mint())))
        .collect();
    Ok(vec![Action::Split {
        bounds: range.epoch.bounds,
        at: at.cloned(),
        right,
        replicas,
    }])
}

fn move_replica(
    state: &State,
    range: &Descriptor,
    from: StoreId,
    to: StoreId,
    ids: &mut dyn Mint,
) -> Result<Vec<Action>, Refusal> {
    state.stores.get(&from).ok_or(Refusal::NoSuchStore(from))?;
    let old = range
        .replica_on(from)
        .copied()
        .filter(|replica| replica.role == Role::Voter);
    let old = old.ok_or_else(|| conflict(format!("range {} has no voter on store {from}", range.id)))?;
    let (new, mut steps) = bring_up(state, range, to, ids)?;
    if range.voters().count() > 1 {
        steps.push(change(voters(range), &[new.id], &[old.id]));
    } else {
        // The only voter can't leave before there is another to hand the leadership to.
        steps.push(change(voters(range), &[new.id], &[]));
        steps.push(change(vec![old.id, new.id], &[], &[old.id]));
    }
    steps.push(Action::DestroyReplica { replica: old });
    Ok(steps)
}

/// First the range's replicas move to where the neighbour's are, then the range goes.
fn merge(
    state: &State,
    range: &Descriptor,
    into: RangeId,
    ids: &mut dyn Mint,
) -> Result<Vec<Action>, Refusal> {
    if let Some(busy) = state.operators.on_range(into) {
        return Err(Refusal::RangeBusy(into, busy.id));
    }
    let left = state.map.get(into).ok_or(Refusal::NoSuchRange(into))?;
    if left.span.join(&range.span).is_none() {
        return Err(conflict(format!(
            "range {} does not begin where range {into} ends",
            range.id
        )));
    }
    for one in [left, range] {
        if one.is_joint() || one.voters().count() != one.replicas.len() {
            let id = one.id;
            return Err(conflict(format!(
                "a change of membership of range {id} is half done"
            )));
        }
    }
    if left.replicas.len() != range.replicas.len() {
        return Err(conflict(format!(
            "ranges {into} and {} have different numbers of replicas",
            range.id
        )));
    }
    let mut moving = range.clone();
    let mut steps = Vec::new();
    let wanted = left.replicas.iter().map(|replica| replica.store);
    for to in wanted.filter(|store| range.replica_on(*store).is_none()) {
        let leaves = |replica: &&Replica| left.replica_on(replica.store).is_none();
        let Some(from) = moving.replicas.iter().find(leaves).copied() else {
            break;
        };
        let taken = move_replica(state, &moving, from.store, to, ids)?;
        moving.replicas.retain(|replica| replica.id != from.id);
        moving.replicas.extend(taken.iter().find_map(arrived));
        steps.extend(taken);
    }
    steps.push(Action::Merge {
        bounds: range.epoch.bounds,
    });
    Ok(steps)
}

/// The replica that a step creates, as the voter that it becomes.
fn arrived(step: &Action) -> Option<Replica> {
    match step {
        Action::CreateReplica { replica } => Some(Replica {
            role: Role::Voter,
            ..*replica
        }),
        _ => None,
    }
}

fn add_replica(
    state: &State,
    range: &Descriptor,
    to: StoreId,
    ids: &mut dyn Mint,
) -> Result<Vec<Action>, Refusal> {
    let (new, mut steps) = bring_up(state, range, to, ids)?;
    steps.push(change(voters(range), &[new.id], &[]));
    Ok(steps)
}

/// The steps until a new replica on `to` could become a voter.
fn bring_up(
    state: &State,
    range: &Descriptor,
    to: StoreId,
    ids: &mut dyn Mint,
) -> Result<(Replica, Vec<Action>), Refusal> {
    let store = state.stores.get(&to).ok_or(Refusal::NoSuchStore(to))?;
    if store.intent != StoreIntent::Active {
        return Err(conflict(format!(
            "store {to} takes no new replicas: it is to leave"
        )));
    }
    if range.replica_on(to).is_some() {
        return Err(conflict(format!(
            "range {} has a replica on store {to} already",
            range.id
        )));
    }
    let replica = Replica {
        id: ReplicaId(ids.mint()),
        store: to,
        role: Role::Learner,
    };
    let steps = vec![
        Action::CreateReplica { replica },
        Action::AddLearner { replica },
        Action::CatchUp { replica },
    ];
    Ok((replica, steps))
}

fn remove_replica(range: &Descriptor, id: ReplicaId) -> Result<Vec<Action>, Refusal> {
    let none = || conflict(format!("range {} has no replica {id}", range.id));
    let replica = *range.replica(id).ok_or_else(none)?;
    if replica.role == Role::Voter && range.voters().count() == 1 {
        return Err(conflict(format!(
            "replica {id} is the only voter of range {}",
            range.id
        )));
    }
    Ok(vec![
        change(voters(range), &[], &[id]),
        Action::DestroyReplica { replica },
    ])
}

fn transfer_leader(state: &State, range: &Descriptor, to: StoreId) -> Result<Vec<Action>, Refusal> {
    state.stores.get(&to).ok_or(Refusal::NoSuchStore(to))?;
    match range.replica_on(to) {
        Some(replica) if replica.role == Role::Voter => Ok(vec![Action::TransferLeader { to: *replica }]),
        _ => Err(conflict(format!("range {} has no voter on store {to}", range.id))),
    }
}

/// One move after the other, each planned on what the one before leaves behind.
fn scatter(
    state: &State,
    range: &Descriptor,
    moves: &[Relocation],
    leader: StoreId,
    ids: &mut dyn Mint,
) -> Result<Vec<Action>, Refusal> {
    let (mut range, mut steps) = (range.clone(), Vec::new());
    for way in moves {
        let next = move_replica(state, &range, way.from, way.to, ids)?;
        let new = next.iter().find_map(|step| match step {
            Action::CreateReplica { replica } => Some(*replica),
            _ => None,
        });
        range.replicas.retain(|replica| replica.store != way.from);
        range.replicas.extend(new.map(|new| Replica {
            role: Role::Voter,
            ..new
        }));
        steps.extend(next);
    }
    steps.extend(transfer_leader(state, &range, leader)?);
    Ok(steps)
}

fn change(from: Vec<ReplicaId>, promote: &[ReplicaId], remove: &[ReplicaId]) -> Action {
    let (promote, remove) = (promote.to_vec(), remove.to_vec());
    Action::ChangeVoters(VoterChange {
        from,
        promote,
        remove,
    })
}

fn conflict(reason: String) -> Refusal {
    Refusal::Conflict(reason)
}
