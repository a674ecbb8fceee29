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
}

/// An answer, before it is encoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// To writes; the bytes are those of [`WriteAnswers`].
    Writes(WriteAnswers),
    /// To a split; the bytes are those of [`SplitAnswer`].
    Split(SplitAnswer),
}

impl Answer {
    /// Encodes it with [`proto::encode`].
    pub fn encode(&self) -> Bytes {
        match self {
            Self::Writes(answers) => proto::encode(answers),
            Self::Split(answer) => proto::encode(answer),
        }
    }
}
