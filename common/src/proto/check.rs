//! The comparison of a range's replicas (`docs/reliability.md`): from the driver that asks for one, between the stores that
//! make it, and to the driver about what it found.

use serde::{Deserialize, Serialize};

use crate::ids::{RangeId, ReplicaId, StoreId};
use crate::proto::raft::LogId;
use crate::range::Epoch;

/// Most ranges in [`Findings`].
pub const MAX_FINDINGS: usize = 64;

/// To the store that leads a range: compare its replicas. The answer comes when that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The range.
    pub range: RangeId,
}

/// To a store: what do the contents of its replica come to at the entry of this check?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The range.
    pub range: RangeId,
    /// The replica that is meant.
    pub replica: ReplicaId,
    /// The check; 0 asks only whether the store knows checks at all.
    pub check: u64,
    /// The entry of the log that carries it.
    pub index: u64,
}

/// The answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// What it comes to.
    pub told: Told,
    /// Whether the store still believes that replicas of the range differ.
    pub is_noted: bool,
}

/// What a replica's contents come to, as far as its store can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// This.
    Sum(Sum),
    /// Not yet: the entry is not applied there, or the rows are being read.
    Underway,
    /// Not at all, and why. That proves nothing.
    Nothing(String),
}

/// What a replica holds, all of it, when it has applied one entry and nothing behind it. The same on every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// The entry.
    pub applied: LogId,
    /// The range's epoch.
    pub epoch: Epoch,
    /// Rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// XXH3-128 of them.
    pub checksum: u128,
}

/// One replica in a [`Report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The replica.
    pub replica: ReplicaId,
    /// Its store.
    pub store: StoreId,
    /// What it holds, or why that is not known.
    pub found: Result<Sum, String>,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The range.
    pub range: RangeId,
    /// The check.
    pub check: u64,
    /// The entry at which the replicas were compared.
    pub index: u64,
    /// Every replica of the range.
    pub replicas: Vec<Member>,
    /// What that says.
    pub verdict: Verdict,
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// All replicas hold the same.
    Agree,
    /// Those whose contents are known hold the same; of the others nothing is known.
    Open,
    /// They differ. Named are those that are not of the majority; none, when there is no majority.
    Differ {
        /// Who holds something else than the majority.
        suspects: Vec<ReplicaId>,
    },
}

/// To the leading placement member: the ranges whose replicas differ, by all that this store knows. Replaces what it said
/// before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// The store.
    pub store: StoreId,
    /// At most [`MAX_FINDINGS`].
    pub differ: Vec<Report>,
}
