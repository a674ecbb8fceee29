//! What can go wrong with the data database.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use holdfast_common::raft::journal;

use crate::damage::Damage;

/// A failed operation. All but [`Error::Closed`] mean that the process has to exit: what was written may or may not be
/// on disk, and only a fresh start, from the disk and the log, tells.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error("data database: {0}")]
    Database(Arc<fjall::Error>),
    /// Stored bytes do not decode.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A file outside the database failed.
    #[error("{what}: {error}")]
    File {
        /// What was done with which file.
        what: String,
        /// The failure.
        error: Arc<io::Error>,
    },
    /// The engine was closed.
    #[error("the engine is closed")]
    Closed,
}

impl Error {
    /// Whether it says that what is on disk is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Database(error) => journal::is_damage(error),
            Self::Damaged(_) => true,
            Self::File { .. } | Self::Closed => false,
        }
    }
}

impl From<fjall::Error> for Error {
    fn from(error: fjall::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::Damaged(_) => io::ErrorKind::InvalidData,
            Error::File { error, .. } => error.kind(),
            Error::Closed => io::ErrorKind::NotConnected,
            Error::Database(_) => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

impl OpenError {
    /// Whether it says that what is on disk is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Journal(error) => matches!(error, journal::OpenError::Damaged { .. }),
            Self::Damaged(_) => true,
            Self::Refused { error, .. } => journal::is_damage(error),
            Self::Thread(_) => false,
        }
    }
}

/// Why the database does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its journal: somebody else has it open, or synced writes are lost.
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
    /// A stored row of the engine's own does not decode.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The database refuses.
    #[error(
        "the database at {} does not open ({error}): move the store's directory aside and start with an empty one; the \
         store rejoins as a new one",
        path.display()
    )]
    Refused {
        /// Where it lies.
        path: PathBuf,
        /// What the database says.
        error: fjall::Error,
    },
    /// The data thread could not be started.
    #[error("starting the data thread: {0}")]
    Thread(io::Error),
}
