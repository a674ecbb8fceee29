//! Ranges: what the map says about one, and how old that is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{RangeId, ReplicaId, StoreId};
use crate::key::Span;

/// How often a range has changed. Both parts only grow; a holder of a larger epoch knows better.
///
/// The parts grow independently, so epochs are only partially ordered: compare with [`Epoch::is_newer_than`], which the
/// derived order would get wrong.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// Raised by every split and merge.
    pub bounds: u64,
    /// Raised by every change of membership: the index of the Raft entry that made it.
    pub membership: u64,
}

impl Epoch {
    /// Whether something in `self` is newer than in `other`.
    pub fn is_newer_than(self, other: Epoch) -> bool {
        self.bounds > other.bounds || self.membership > other.membership
    }

    /// Whether nothing in `self` is older than in `other`.
    pub fn is_at_least(self, other: Epoch) -> bool {
        self.bounds >= other.bounds && self.membership >= other.membership
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.bounds, self.membership)
    }
}

/// What a replica may do in its group.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Counts in elections and commits.
    Voter,
    /// Receives the log, counts in nothing.
    Learner,
    /// A voter that a change under way is removing: it counts until the joint configuration ends.
    Outgoing,
}

/// One replica, as its group's membership has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Replica {
    /// The replica.
    pub id: ReplicaId,
    /// The store it lives on.
    pub store: StoreId,
    /// What it may do.
    pub role: Role,
}

/// A range at one epoch: where it lies and who holds it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Descriptor {
    /// The range.
    pub id: RangeId,
    /// Its part of the key space.
    pub span: Span,
    /// How new this description is.
    pub epoch: Epoch,
    /// Its replicas, ordered by id.
    pub replicas: Vec<Replica>,
}

impl Descriptor {
    /// The replica on `store`, if it has one.
    pub fn replica_on(&self, store: StoreId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.store == store)
    }

    /// The replica with this id, if it has it.
    pub fn replica(&self, id: ReplicaId) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.id == id)
    }

    /// The replicas that count in elections and commits.
    pub fn voters(&self) -> impl Iterator<Item = &Replica> {
        self.replicas
            .iter()
            .filter(|replica| replica.role != Role::Learner)
    }

    /// Whether a change of membership is half done.
    pub fn is_joint(&self) -> bool {
        self.replicas.iter().any(|replica| replica.role == Role::Outgoing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_partially_ordered() {
        let (a, b) = (
            Epoch {
                bounds: 2,
                membership: 1,
            },
            Epoch {
                bounds: 1,
                membership: 2,
            },
        );
        assert!(a.is_newer_than(b) && b.is_newer_than(a));
        assert!(!a.is_at_least(b) && !b.is_at_least(a));
        assert!(!a.is_newer_than(a) && a.is_at_least(a));
    }
}
