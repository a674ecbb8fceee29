//! Bringing a range back that has lost its majority for good: what survivors say of themselves, and the order to go on
//! with one of them. See `docs/unsafe-recovery.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{ClusterId, RangeId, ReplicaId, StoreId};
use crate::key::Span;
use crate::range::{Descriptor, Epoch};

/// Most ranges in one [`Survey`].
pub const MAX_SURVEYED: usize = 1_000;

/// Where a log ends. Ordered as Raft orders logs: of the survivors of a group, the one with the largest holds every
/// committed entry that any of them holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogEnd {
    /// Term of the last entry.
    pub term: u64,
    /// Its index.
    pub index: u64,
}

impl fmt::Display for LogEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} of term {}", self.index, self.term)
    }
}

/// Asks a store what its replicas of these ranges hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survey {
    /// The ranges, at most [`MAX_SURVEYED`].
    pub ranges: Vec<RangeId>,
}

/// The answer to [`Survey`]: those of the ranges that the store has a replica of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surveyed {
    /// One for each range.
    pub replicas: Vec<Survivor>,
}

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// The replica.
    pub replica: ReplicaId,
    /// Its range, as applied; without voters when it has never had a snapshot.
    pub descriptor: Descriptor,
    /// Where its log ends.
    pub last: LogEnd,
    /// The voters by the newest configuration in its log: one set, or two while a change is half done.
    pub configs: Vec<Vec<ReplicaId>>,
    /// Where each member of that configuration lives.
    pub members: Vec<(ReplicaId, StoreId)>,
    /// Whether it leads and has heard of a majority within the last election timeout.
    pub has_majority: bool,
}

/// The order to go on with one survivor alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recover {
    /// The survivor's replica, which is buried. [`ReplicaId::NONE`] when none is left: then the range begins anew, empty.
    pub from: ReplicaId,
    /// The replica that takes its place, the only voter of the range.
    pub to: ReplicaId,
    /// Where the survivor's log ended when it was chosen. On another the order is refused: the group was not dead.
    pub last: LogEnd,
    /// The epoch of the range from then on.
    pub epoch: Epoch,
    /// What of its span it keeps: the rest belongs to other ranges by now.
    pub span: Span,
}

/// A store has found that what it has on disk is damaged. It will never come back; whoever starts in its place is another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lose {
    /// The cluster.
    pub cluster: ClusterId,
    /// The store.
    pub store: StoreId,
    /// As it registered with: proves that it is this store that gives up.
    pub directory: u64,
    /// What was found, for people.
    pub reason: String,
}
