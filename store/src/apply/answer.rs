//! What the proposer of a command is told.

use bytes::Bytes;
use holdfast_common::proto::{self, kv};
use serde::{Deserialize, Serialize};

/// The answer to [`Command::Writes`](crate::command::Command::Writes): one for each write, in order.
pub type WriteAnswers = Vec<Result<kv::WriteOutcome, kv::Error>>;

/// The answer to [`Command::Split`](crate::command::Command::Split).
pub type SplitAnswer = Result<(), SplitRefused>;

/// Why a range did not split. It is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum SplitRefused {
    /// The bounds have changed since the split was planned.
    #[error("the bounds are at version {current}, the split was meant for {planned}")]
    OtherBounds {
        /// The bounds version it was planned for.
        planned: u64,
        /// The present one.
        current: u64,
    },
    /// The key is not strictly inside the range.
    #[error("the split key is not strictly inside the range")]
    Outside,
    /// A change of membership is half done.
    #[error("a change of membership is under way")]
    Joint,
    /// The replica ids do not fit the members of the range.
    #[error("the replica ids given do not match the members of the range: {0}")]
    Members(String),
    /// The range is about to go into its left neighbour.
    #[error("the range is being merged")]
    Merging,
}

/// The answer to the commands of a merge.
pub type MergeAnswer = Result<(), MergeRefused>;

/// Why a step of a merge was not taken. The range is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum MergeRefused {
    /// The bounds have changed meanwhile.
    #[error("the bounds are at version {current}, the merge was meant for {planned}")]
    OtherBounds {
        /// The bounds version it was planned for.
        planned: u64,
        /// The present one.
        current: u64,
    },
    /// The members have changed meanwhile.
    #[error("the membership is at version {current}, the merge was meant for {planned}")]
    OtherMembers {
        /// The membership version it was planned for.
        planned: u64,
        /// The present one.
        current: u64,
    },
    /// It is in a merge already.
    #[error("the range is being merged")]
    Merging,
    /// It was not frozen, or has thawed.
    #[error("the range is not frozen")]
    NotFrozen,
    /// It is the first range.
    #[error("the range has no left neighbour")]
    NoNeighbour,
    /// Not all members are voters.
    #[error("the range has learners, or a change of membership is under way")]
    Members,
}

/// An answer, before it is encoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To writes; the bytes are those of [`WriteAnswers`].
    Writes(WriteAnswers),
    /// To a split; the bytes are those of [`SplitAnswer`].
    Split(SplitAnswer),
    /// To a step of a merge; the bytes are those of [`MergeAnswer`].
    Merge(MergeAnswer),
    /// To a check, which changes nothing; the bytes are those of `()`.
    Check,
}

impl Answer {
    /// Encodes it with [`proto::encode`].
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Writes(answers) => proto::encode(answers),
            Self::Split(answer) => proto::encode(answer),
            Self::Merge(answer) => proto::encode(answer),
            Self::Check => proto::encode(&()),
        }
    }
}
