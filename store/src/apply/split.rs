//! Splitting a range in two.
//!
//! The left part keeps the range's id, group and log. The right part is a group born whole: the split decides its members
//! (the same stores, under new replica ids), and every store creates its replica when it applies the split. No data moves,
//! and no replica has to be told: a replica that has not applied the split yet simply has no child, and votes for nobody.
//!
//! A group born so begins behind a log position that no leader ever wrote, [`BIRTH_INDEX`] in term 0: that is where its
//! membership is stored and its first entry goes next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use holdfast_common::ids::{ReplicaId, StoreId};
use holdfast_common::range::{Descriptor, Epoch, Replica, Role};

use super::{Answer, Applied, Effect, SplitRefused};
use crate::command::Split;
use crate::engine::Batch;
use crate::keys;
use crate::state::{Identity, Merge, RangeState};

/// Index, in term 0, of the entry that a range born of a split pretends to have applied. The entries before it are those
/// that another group would have spent on its beginnings; any number above zero would do, and it can never change.
pub const BIRTH_INDEX: u64 = 5;

/// A range about to be born, on one store.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildSeed {
    /// Its descriptor, the same on every store.
    pub descriptor: Arc<Descriptor>,
    /// Its state on this store; none when the child has no replica here.
    pub state: Option<RangeState>,
}

impl ChildSeed {
    /// The replica that is to live on this store, if any.
    pub fn replica(&self) -> Option<ReplicaId> {
        self.state.as_ref().map(|state| state.identity.replica)
    }
}

/// Splits the range, or says why not.
pub(super) fn apply(state: &mut RangeState, split: &Split) -> Applied {
    let mut rows = Batch::default();
    let (answer, effects) = match cut(state, split, &mut rows) {
        Ok(child) => (Ok(()), vec![Effect::Split(Box::new(child))]),
        Err(refused) => (Err(refused), Vec::new()),
    };
    Applied {
        rows,
        answer: Answer::Split(answer),
        effects,
    }
}

fn cut(state: &mut RangeState, split: &Split, rows: &mut Batch) -> Result<ChildSeed, SplitRefused> {
    let parent = &state.descriptor;
    if split.bounds != parent.epoch.bounds {
        return Err(SplitRefused::OtherBounds {
            planned: split.bounds,
            current: parent.epoch.bounds,
        });
    }
    if state.merge != Merge::No {
        return Err(SplitRefused::Merging);
    }
    let (left, right) = parent.span.split_at(&split.at).ok_or(SplitRefused::Outside)?;
    let replicas = child_replicas(parent, split)?;
    let bounds = parent.epoch.bounds + 1;

    let child = Arc::new(Descriptor {
        id: split.right,
        span: right,
        epoch: Epoch {
            bounds,
            membership: BIRTH_INDEX,
        },
        replicas,
    });
    let (right_size, right_keys) = (
        split.right_size.min(state.size_bytes),
        split.right_keys.min(state.keys),
    );
    let tokens = state.tokens.split_off(left.start(), split.at.as_bytes(), rows);
    let here = child.replica_on(state.identity.store).map(|replica| replica.id);
    let seed = ChildSeed {
        state: here.map(|replica| RangeState {
            identity: Identity {
                range: child.id,
                replica,
                store: state.identity.store,
            },
            descriptor: child.clone(),
            last_revision: state.last_revision,
            size_bytes: right_size,
            keys: right_keys,
            sessions: state.sessions.reborn(BIRTH_INDEX),
            merge: Merge::No,
            tokens,
        }),
        descriptor: child,
    };

    let mut parent = Descriptor::clone(parent);
    parent.span = left;
    parent.epoch.bounds = bounds;
    state.descriptor = Arc::new(parent);
    state.size_bytes -= right_size;
    state.keys -= right_keys;
    Ok(seed)
}

/// The child's replicas: the parent's, under the ids given for their stores.
fn child_replicas(parent: &Descriptor, split: &Split) -> Result<Vec<Replica>, SplitRefused> {
    if parent.is_joint() {
        return Err(SplitRefused::Joint);
    }
    let refused = |why: &str| SplitRefused::Members(why.to_owned());
    if !split.right.is_some() || split.right == parent.id {
        return Err(refused("the right part needs an id of its own"));
    }
    let ids: BTreeMap<StoreId, ReplicaId> = split.replicas.iter().copied().collect();
    let distinct: BTreeSet<ReplicaId> = ids.values().copied().filter(|id| id.is_some()).collect();
    if ids.len() != split.replicas.len() || distinct.len() != ids.len() {
        return Err(refused("stores and replica ids must be distinct"));
    }
    if ids.len() != parent.replicas.len() {
        return Err(refused("one replica id is needed for each member"));
    }
    let child = parent.replicas.iter().map(|replica| {
        let id = *ids.get(&replica.store)?;
        Some(Replica {
            id,
            store: replica.store,
            role: replica.role,
        })
    });
    let mut child = child
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| refused("a member's store has no replica id"))?;
    if !child.iter().any(|replica| replica.role == Role::Voter) {
        return Err(refused("the range has no voters"));
    }
    child.sort_unstable_by_key(|replica| replica.id);
    if !child.is_sorted_by(|a, b| a.id < b.id) {
        return Err(refused("two members are on one store, and would be one"));
    }
    Ok(child)
}

/// The child's outcome row, which goes into the batch of its birth.
pub(crate) fn outcomes_row(child: &RangeState) -> Option<([u8; keys::OUTCOMES_KEY_BYTES], bytes::Bytes)> {
    let row = child.sessions.whole_row()?;
    Some((keys::outcomes(child.identity.range, BIRTH_INDEX), row))
}
