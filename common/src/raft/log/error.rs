//! What can go wrong once the log is open.

use std::io;

use super::keys::GroupId;
use crate::raft::journal;

/// Why an operation on the log failed. After [`Error::Failed`] nothing will ever succeed again: the process must exit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A write, an fsync or a read failed. What is on disk is unknown until the log is opened anew.
    #[error("the raft log failed: {0}")]
    Failed(String),

    /// What was read is not what was written. As final as [`Error::Failed`], and beyond that the directory must not be used again.
    #[error("the raft log is damaged: {0}")]
    Damaged(String),

    /// The log was closed.
    #[error("the raft log is closed")]
    Closed,

    /// Stored bytes make no sense.
    #[error("the raft log of {group} is corrupt: {what}")]
    Corrupt {
        /// Whose log.
        group: GroupId,
        /// What was found.
        what: String,
    },

    /// The replica's log is being destroyed or has been.
    #[error("the raft log of {0} is dropped")]
    Dropped(GroupId),

    /// An append that would leave a hole.
    #[error("the raft log of {group} ends at {last:?} and can't take an entry at {index}")]
    OutOfOrder {
        /// Whose log.
        group: GroupId,
        /// Its last index.
        last: Option<u64>,
        /// The index that was to be appended.
        index: u64,
    },

    /// The key of a local record is longer than [`MAX_LOCAL_KEY_BYTES`](super::MAX_LOCAL_KEY_BYTES).
    #[error("a local record's key of {0} bytes is too long")]
    LocalKeyTooLong(usize),
}

impl Error {
    /// Whether it says that what is on disk is not what was written.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Corrupt { .. })
    }
}

impl From<fjall::Error> for Error {
    fn from(error: fjall::Error) -> Self {
        match journal::is_damage(&error) {
            true => Self::Damaged(error.to_string()),
            false => Self::Failed(error.to_string()),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
