//! Ranges: what the map says about one, and how old that is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{RangeId, ReplicaId, StoreId};
use crate::key::Span;

/// Log indices of one generation of a range: 2^40 entries, which take years at any rate that a disk can sync.
const GENERATION_BITS: u32 = 40;

/// Splits and merges in a row that lost replicas may have seen and the survivor has not: far more than there can be.
const UNSEEN_SPLITS: u64 = 1 << 20;

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

    /// How often the range was brought back from a single survivor after it had lost its majority. Replicas of an earlier
    /// generation belong to a group that was given up: they must neither vote nor serve.
    pub fn generation(self) -> u64 {
        self.membership >> GENERATION_BITS
    }

    /// The epoch of a range that is brought back from a survivor: newer in both parts than anything that the lost replicas
    /// can have reached, whatever they did that nobody saw.
    #[must_use]
    pub fn after_loss(self) -> Self {
        Self {
            bounds: self.bounds.saturating_add(UNSEEN_SPLITS),
            membership: (self.generation() + 1) << GENERATION_BITS,
        }
    }

    /// The larger of each part.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            bounds: self.bounds.max(other.bounds),
            membership: self.membership.max(other.membership),
        }
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
    /// What a replica says that waits for its first snapshot: no voters, and an epoch that any other supersedes.
    pub fn unknown(id: RangeId) -> Self {
        Self {
            id,
            span: Span::everything(),
            epoch: Epoch::default(),
            replicas: Vec::new(),
        }
    }

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

    #[test]
    fn a_range_that_was_brought_back_is_newer_than_what_was_lost() {
        let seen = Epoch {
            bounds: 3,
            membership: 900,
        };
        let unseen = Epoch {
            bounds: 700,
            membership: 4_000_000_000,
        };
        let back = seen.after_loss();
        assert!(back.is_newer_than(unseen) && back.is_at_least(unseen));
        assert_eq!((seen.generation(), back.generation()), (0, 1));
        let again = Epoch {
            membership: back.membership + 5,
            ..back
        };
        assert_eq!(again.after_loss().generation(), 2);
        assert!(again.after_loss().is_at_least(again));
    }
}
