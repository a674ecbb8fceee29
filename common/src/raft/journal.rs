//! The check that a fjall database must pass before it is opened.
//!
//! Fjall replays its journal up to the first batch that does not read back and takes that for the torn end of a crash.
//! When a *bit* has gone bad in the middle, that silently drops every later batch, fsynced or not: a vote could be taken
//! back, an acknowledged write lost. So [`check`] reads the framing of every journal file itself, before fjall does:
//!
//! ```text
//! journal file   <id>.jnl, ids consecutive, the highest is the active one; allocated ahead with zeroes
//! batch          start, items, end
//! start          u8 = 1, u32 item count, u64 sequence number
//! item           u8 = 2, u8 value type, u8 compression, u64 keyspace, u16 key length, u32 value length,
//!                u32 stored length, key, stored value
//! clear          u8 = 4, u64 keyspace
//! end            u8 = 3, u64 xxh3 of the items, "FJL" 3
//! ```
//!
//! (integers little endian). The start of a batch is outside the checksum, and framing alone can't tell a batch that was
//! never fsynced from one that was. Both gaps are closed by a row that whoever writes the database puts into each batch,
//! its [`Seal`].
//!
//! What is found is one of three things ([`Outcome`]): nothing wrong; a torn tail, which is cut back to the last whole
//! batch, because it was never acknowledged; or damage, after which the directory must not be used again.

mod acknowledged;
mod batch;
mod cursor;
mod error;
mod manifest;
mod scan;
mod seal;

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

pub use self::acknowledged::{Acknowledged, require_all};
pub use self::error::{OpenError, is_damage};
pub use self::manifest::{Defect, Table, tables, verify};
pub use self::seal::{SEAL_KEY, Seal};

use self::scan::{Chain, Tail};

/// Fjall's own names in a database directory.
const VERSION_MARKER: &str = "version";
const LOCK_FILE: &str = "lock";
/// What fjall writes into its version marker: "FJL" and one byte.
const VERSION_MARKER_BYTES: u64 = 4;

/// What [`check`] found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every batch reads back.
    Clean,
    /// The active journal ended in a batch that was never made durable. It has been cut off, and the cut is on disk.
    TornTail {
        /// The journal file.
        file: PathBuf,
        /// Its length now, in bytes.
        offset: u64,
    },
    /// A batch that had been made durable does not read back. Nothing has been changed.
    Damaged {
        /// The file with the damage, or the directory when a file is missing.
        file: PathBuf,
        /// Where it begins, in bytes.
        offset: u64,
        /// What was found there.
        why: String,
    },
}

impl Outcome {
    /// Turns damage into the error that refuses to open the database.
    pub fn require_intact(self) -> Result<(), OpenError> {
        match self {
            Self::Clean => Ok(()),
            Self::TornTail { file, offset } => {
                tracing::info!(file = %file.display(), offset, "cut off a batch that was never acknowledged");
                Ok(())
            }
            Self::Damaged { file, offset, why } => Err(OpenError::Damaged { file, offset, why }),
        }
    }
}

/// Checks the fjall database in `dir`, which must not be open and has `keyspaces` keyspaces: its manifests ([`tables`]), then its
/// journals. A directory without a database is clean. Reads every journal file once, in constant memory.
pub fn check(dir: &Path, keyspaces: usize) -> Result<Outcome, OpenError> {
    let _lock = lock(dir)?;
    if !is_created(dir)? {
        return forget_unfinished_creation(dir);
    }
    let journals = journals(dir)?;
    if let Some(outcome) = missing_journal(dir, &journals) {
        return Ok(outcome);
    }
    let is_written = first_written(&journals)?.is_some();
    if let Some(Defect { file, why }) = manifest::check(dir, keyspaces, is_written)? {
        return Ok(Outcome::Damaged { file, offset: 0, why });
    }
    scan_all(&journals)
}

/// The part of [`check`] that reads the journals of a database, without its manifests.
pub fn check_journals(dir: &Path) -> Result<Outcome, OpenError> {
    scan_all(&journals(dir)?)
}

fn scan_all(journals: &[(u64, PathBuf)]) -> Result<Outcome, OpenError> {
    let mut chain = Chain::default();
    let mut outcome = Outcome::Clean;
    for (position, (_, path)) in journals.iter().enumerate() {
        let is_active = position + 1 == journals.len();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .map_err(|e| OpenError::io(path, e))?;
        match scan::scan(&file, &mut chain, is_active).map_err(|e| OpenError::io(path, e))? {
            Tail::Whole => {}
            Tail::Torn { at } => {
                file.set_len(at)
                    .and_then(|()| file.sync_all())
                    .map_err(|e| OpenError::io(path, e))?;
                outcome = Outcome::TornTail {
                    file: path.clone(),
                    offset: at,
                };
            }
            Tail::Damaged { at, why } => {
                return Ok(Outcome::Damaged {
                    file: path.clone(),
                    offset: at,
                    why,
                });
            }
        }
    }
    Ok(outcome)
}

/// Whether fjall finished creating a database here: its version marker is the last thing it writes.
fn is_created(dir: &Path) -> Result<bool, OpenError> {
    let marker = dir.join(VERSION_MARKER);
    match marker.metadata() {
        Ok(metadata) => Ok(metadata.len() >= VERSION_MARKER_BYTES),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(OpenError::io(&marker, error)),
    }
}

/// Removes what a creation that was cut short left behind, which fjall itself would stumble over. Nothing was ever
/// written to such a database, so a journal with content is damage instead: its marker got lost.
fn forget_unfinished_creation(dir: &Path) -> Result<Outcome, OpenError> {
    if !dir.try_exists().map_err(|e| OpenError::io(dir, e))? {
        return Ok(Outcome::Clean);
    }
    let journals = journals(dir)?;
    let written = match first_written(&journals)? {
        None => manifest::first_keyspace(dir)?,
        written => written,
    };
    if let Some(file) = written {
        return Ok(Outcome::Damaged {
            file,
            offset: 0,
            why: "the version marker of its database is missing".to_owned(),
        });
    }
    let leftovers = journals
        .into_iter()
        .map(|(_, path)| path)
        .chain([dir.join(VERSION_MARKER)]);
    for path in leftovers {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(OpenError::io(&path, error)),
            _ => {}
        }
    }
    Ok(Outcome::Clean)
}

/// The first journal that has any content.
fn first_written(journals: &[(u64, PathBuf)]) -> Result<Option<PathBuf>, OpenError> {
    for (_, path) in journals {
        let file = File::open(path).map_err(|e| OpenError::io(path, e))?;
        if !scan::is_blank(&file).map_err(|e| OpenError::io(path, e))? {
            return Ok(Some(path.clone()));
        }
    }
    Ok(None)
}

/// Takes the lock that fjall takes while a database is open, so that a journal in use is never cut.
fn lock(dir: &Path) -> Result<Option<File>, OpenError> {
    let path = dir.join(LOCK_FILE);
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(OpenError::io(&path, error)),
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(OpenError::io(&path, error)),
    }
}

/// The journal files in the order in which they were written.
fn journals(dir: &Path) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let mut journals = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| OpenError::io(dir, e))? {
        let path = entry.map_err(|e| OpenError::io(dir, e))?.path();
        let id = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_suffix(".jnl"))
            .and_then(|id| id.parse().ok());
        if let Some(id) = id {
            journals.push((id, path));
        }
    }
    journals.sort();
    Ok(journals)
}

/// Fjall deletes journals oldest first and always keeps the active one, so there is never a gap.
fn missing_journal(dir: &Path, journals: &[(u64, PathBuf)]) -> Option<Outcome> {
    let gap = journals
        .windows(2)
        .map(|pair| (pair[0].0.saturating_add(1), pair[1].0))
        .find(|(expected, found)| expected != found)
        .map(|(expected, _)| expected);
    let why = match gap {
        Some(id) => format!("its journal {id}.jnl is missing"),
        None if journals.is_empty() => "its journal is missing".to_owned(),
        None => return None,
    };
    Some(Outcome::Damaged {
        file: dir.to_owned(),
        offset: 0,
        why,
    })
}

#[cfg(test)]
#[path = "journal/check_test.rs"]
mod check_test;
