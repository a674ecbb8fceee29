//! Why a database was not opened.

use std::io;
use std::path::{Path, PathBuf};

/// Why a database was not opened. None of them changes with another try, except [`OpenError::Locked`].
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has the directory open.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
    },

    /// The directory is not of this kind, or of a version that this build does not read.
    #[error("{} holds {found}, and this build reads {expected}", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What it says it is.
        found: String,
        /// What this build reads.
        expected: String,
    },

    /// Something that had been acknowledged is lost.
    #[error(
        "{} is damaged at byte {offset}: {why}. What this process acknowledged may be lost, so it must not vote again \
         under its old identity: move the directory away, keep it for inspection, and rejoin the cluster as a new store",
        file.display()
    )]
    Damaged {
        /// The file with the damage, or the directory when it can't be pinned to one.
        file: PathBuf,
        /// Where the damage begins, in bytes.
        offset: u64,
        /// What was found.
        why: String,
    },

    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// The refusal.
        source: io::Error,
    },
}

impl OpenError {
    /// The file system refused something about `path`.
    pub fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// Says what fjall's refusal to open `dir` means.
    pub fn from_fjall(dir: &Path, error: fjall::Error) -> Self {
        let dir = dir.to_owned();
        match error {
            fjall::Error::Locked => Self::Locked { dir },
            fjall::Error::InvalidVersion(Some(version)) => Self::Foreign {
                dir,
                found: format!("fjall format {version}"),
                expected: "fjall format 3".to_owned(),
            },
            error if is_damage(&error) => Self::Damaged {
                file: dir,
                offset: 0,
                why: error.to_string(),
            },
            fjall::Error::Io(source) | fjall::Error::Storage(fjall::LsmError::Io(source)) => {
                Self::Io { path: dir, source }
            }
            error => Self::Io {
                path: dir,
                source: io::Error::other(error),
            },
        }
    }
}

/// Whether an error of fjall's says that what is on disk is not what was written, rather than that the disk refuses.
pub fn is_damage(error: &fjall::Error) -> bool {
    use fjall::{Error, LsmError};
    match error {
        Error::Io(error) | Error::Storage(LsmError::Io(error)) => is_cut(error),
        Error::Storage(LsmError::InvalidVersion(_)) => false,
        Error::Storage(_)
        | Error::JournalRecovery(_)
        | Error::Decompress(_)
        | Error::InvalidTrailer
        | Error::InvalidTag(_)
        | Error::Unrecoverable
        | Error::InvalidVersion(None) => true,
        _ => false,
    }
}

/// A file that ends too early was cut: that is damage, not a refusal of the file system.
fn is_cut(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound | io::ErrorKind::InvalidData
    )
}
