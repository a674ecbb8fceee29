//! Planning the way back of a range that has lost its majority for good. Pure.
//!
//! One survivor is chosen, once. Another choice while the first may have been carried out would make two groups of one
//! range; so the operator has no timeout and can't be cancelled, and only a recovery that names the chosen survivor's own
//! store as lost may take its place, in a later generation.

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::proto::recovery::{LogEnd, Recover};
use holdfast_common::range::{Epoch, Replica, Role};
use serde::{Deserialize, Serialize};

use super::plan::Mint;
use super::{Action, Kind, Operator, Refusal};
use crate::state::State;

/// What is to be gone on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The survivor that has the most. Without an id when none is left: the range begins anew on its store, empty.
    pub survivor: Replica,
    /// Where its log ends.
    pub last: LogEnd,
    /// The stores that are lost.
    pub lost: Vec<StoreId>,
    /// What of its span it keeps.
    pub span: Span,
    /// The largest epoch that any survivor or the map has.
    pub seen: Epoch,
}

/// Plans a recovery. Whatever else is under way for the range gives way to it, unless that is a recovery from another survivor
/// that is not lost.
pub(super) fn plan(
    state: &State,
    range: RangeId,
    recovery: &Recovery,
    ids: &mut dyn Mint,
) -> Result<Vec<Action>, Refusal> {
    let known = state.map.get(range).ok_or(Refusal::NoSuchRange(range))?;
    if recovery.survivor.id.is_some() && known.replica(recovery.survivor.id).is_none() {
        return Err(Refusal::Conflict(format!(
            "replica {} is not one of range {range} any more",
            recovery.survivor.id
        )));
    }
    let mut seen = known.epoch.max(recovery.seen);
    if let Some(before) = state.operators.on_range(range)
        && let Some((store, epoch)) = chosen(before)
    {
        if !recovery.lost.contains(&store) {
            return Err(Refusal::RangeBusy(range, before.id));
        }
        seen = seen.max(epoch);
    }
    let to = Replica {
        id: ReplicaId(ids.mint()),
        store: recovery.survivor.store,
        role: Role::Voter,
    };
    let order = Recover {
        from: recovery.survivor.id,
        to: to.id,
        last: recovery.last,
        epoch: seen.after_loss(),
        span: recovery.span.clone(),
    };
    Ok(vec![Action::Recover {
        store: to.store,
        order: Box::new(order),
    }])
}

/// The store and the epoch that a recovery under way has chosen.
fn chosen(operator: &Operator) -> Option<(StoreId, Epoch)> {
    operator.steps.iter().find_map(|step| match step {
        Action::Recover { store, order } => Some((*store, order.epoch)),
        _ => None,
    })
}

/// Whether an operator must run to its end: what it began may have been done unseen.
pub fn is_irrevocable(kind: &Kind) -> bool {
    matches!(kind, Kind::CreateFirst { .. } | Kind::Recover(_))
}
