//! A range's replicated state: what applying an entry reads and changes beside the rows themselves. The same on every
//! replica that has applied the same entries, but for `replica` and `store`.

use std::sync::Arc;

use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::range::Descriptor;
use holdfast_common::revision::Revision;

use crate::sessions::Sessions;
use crate::tokens::Tokens;

/// Which replica of which range, on which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The range.
    pub range: RangeId,
    /// The replica.
    pub replica: ReplicaId,
    /// The store that it lives on.
    pub store: StoreId,
}

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeState {
    /// The replica whose state this is.
    pub identity: Identity,
    /// Bounds, epoch and members.
    pub descriptor: Arc<Descriptor>,
    /// The largest revision given.
    pub last_revision: Revision,
    /// Bytes of keys and records, about.
    pub size_bytes: u64,
    /// Rows, about.
    pub keys: u64,
    /// Outcomes of recent writes.
    pub sessions: Sessions,
    /// Whether it is about to go into its left neighbour.
    pub merge: Merge,
    /// Clients' names for recent writes.
    pub tokens: Tokens,
}

/// How far a range has come in going into its left neighbour (`docs/split-merge.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Merge {
    /// It is a range like any other.
    #[default]
    No,
    /// It serves nothing, and may yet thaw.
    Frozen {
        /// The entry that froze it.
        at: u64,
    },
    /// It has given itself up, and will be absorbed.
    Yielded {
        /// The entry that froze it.
        frozen: u64,
    },
}

impl RangeState {
    /// What holds of every state; a violation is a bug or damage.
    pub fn validate(&self) -> Result<(), String> {
        let descriptor = &self.descriptor;
        if descriptor.id != self.identity.range {
            return Err(format!(
                "descriptor of range {} in range {}",
                descriptor.id, self.identity.range
            ));
        }
        if !descriptor.replicas.is_sorted_by(|a, b| a.id < b.id) {
            return Err("replicas are not ordered by id".into());
        }
        self.tokens.validate(&descriptor.span)?;
        self.sessions.validate()
    }
}
