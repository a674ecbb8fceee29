//! Whose a data directory is.
//!
//! A store's directory carries `IDENTITY`: which cluster and store it belongs to, and a random number minted with it. The
//! number is written before the first registration, so that a registration whose answer was lost can be told from a
//! second directory under the same name. A directory is refused when it holds data without an identity, when it was made
//! under another name, when another process uses it, and when it is a copy: `IDENTITY` names its own inode, which a copy
//! does not have. Two processes with one identity would vote twice. `IDENTITY` carries a checksum, without which a flipped bit could
//! make it another's; a directory whose content was found damaged bears a [mark](crate::quarantine), and is refused, too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use holdfast_common::clock;
use holdfast_common::ids::{ClusterId, StoreId};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::quarantine::{self, Found, Mark};

/// The layout of `IDENTITY` that this build writes and reads.
const FORMAT: u32 = 1;

const IDENTITY_FILE: &str = "IDENTITY";
const LOCK_FILE: &str = "LOCK";

/// Why a directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has it.
    #[error("{} is used by another process: stop that one, or choose another directory", .0.display())]
    InUse(PathBuf),
    /// There is data and nothing that says whose.
    #[error(
        "{} holds data but no IDENTITY: it is not a store's directory, or it was damaged; start with an empty directory to join as a new store",
        .0.display()
    )]
    NoIdentity(PathBuf),
    /// `IDENTITY` can't be read.
    #[error("{path}: {reason}; restore the file, or start with an empty directory to join as a new store", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// `IDENTITY` is not what was written.
    #[error(
        "{path} is damaged ({reason}): restore the file, or give the store up: decommission it, and start with an empty directory to join as \
         a new store",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What the directory holds was found damaged.
    #[error(
        "{} is quarantined: {}{}. What this store acknowledged may be lost, so it must not take part again with this data: start it with \
         --rebuild-damaged, which sets the content aside and joins as a new store, to which the others bring what it had",
        path.display(),
        mark.file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default(),
        mark.reason
    )]
    Quarantined {
        /// The directory.
        path: PathBuf,
        /// What it says.
        mark: Box<Mark>,
    },
    /// The directory was made under another name.
    #[error("{path} belongs to the store named {theirs:?}, not {ours:?}: point it at its own directory", path = path.display())]
    OtherName {
        /// The directory.
        path: PathBuf,
        /// The name in it.
        theirs: String,
        /// The name given.
        ours: String,
    },
    /// The directory is a copy of another.
    #[error(
        "{} is a copy of a store's directory, and two stores must not share an identity: start with an empty directory to join as a new store. \
         If the original is gone for good, remove the \"inode\" line from IDENTITY",
        .0.display()
    )]
    Copied(PathBuf),
    /// The driver's answer contradicts the directory.
    #[error("the directory belongs to store {ours:?}, the placement driver says {theirs:?}")]
    Contradiction {
        /// Cluster and store of the directory.
        ours: (ClusterId, StoreId),
        /// Cluster and store of the answer.
        theirs: (ClusterId, StoreId),
    },
}

impl Error {
    /// The mark of a directory whose content must not be used.
    pub fn mark(&self) -> Option<&Mark> {
        match self {
            Self::Quarantined { mark, .. } => Some(mark),
            _ => None,
        }
    }

    /// Whether what is on disk is not what was written.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Quarantined { .. } | Self::Damaged { .. })
    }
}

/// The content of `IDENTITY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    name: String,
    /// Random, minted with the directory.
    directory: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cluster: Option<ClusterId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<StoreId>,
    /// The inode of the file itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
    /// Of all but the inode, which a person may remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<u64>,
}

impl Stored {
    fn sum(&self) -> u64 {
        let Self {
            format,
            name,
            directory,
            cluster,
            store,
            inode: _,
            checksum: _,
        } = self;
        let (cluster, store) = (cluster.map(|id| id.0), store.map(|id| id.0));
        xxh3_64(format!("{format} {name:?} {directory} {cluster:?} {store:?}").as_bytes())
    }
}

/// A directory that this process, and no other, uses; the lock goes with the value.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    stored: Stored,
    /// Holds the lock.
    _lock: File,
}

impl DataDir {
    /// Takes the directory `path` for the store named `name`; an empty or missing one becomes its own.
    ///
    /// # Errors
    /// It is another's, or the disk fails.
    pub fn claim(path: &Path, name: &str) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|source| io_error(path, source))?;
        let lock = lock(path)?;
        if let Some(mut mark) = quarantine::read_mark(path) {
            if let (None, Ok(Some((stored, _)))) = (mark.store, read(path)) {
                mark.store = stored.cluster.zip(stored.store);
                mark.directory = stored.directory;
            }
            return Err(Error::Quarantined {
                path: path.to_owned(),
                mark: Box::new(mark),
            });
        }
        let stored = match read(path)? {
            Some(stored) => check(path, name, stored)?,
            None if is_empty(path)? => {
                let stored = Stored {
                    format: FORMAT,
                    name: name.to_owned(),
                    directory: clock::random_id(),
                    cluster: None,
                    store: None,
                    inode: None,
                    checksum: None,
                };
                write(path, stored)?
            }
            None => return Err(Error::NoIdentity(path.to_owned())),
        };
        Ok(Self {
            path: path.to_owned(),
            stored,
            _lock: lock,
        })
    }

    /// Takes a directory that is a store's already, whatever the store's name, to look into it. A copy will do.
    ///
    /// # Errors
    /// It is no store's, or a process uses it.
    pub fn reopen(path: &Path) -> Result<Self, Error> {
        let missing = || Error::NoIdentity(path.to_owned());
        // Nothing is made in a directory that is none.
        read(path)?.ok_or_else(missing)?;
        let lock = lock(path)?;
        let (stored, _) = read(path)?.ok_or_else(missing)?;
        Ok(Self {
            path: path.to_owned(),
            stored,
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Random, minted with the directory.
    pub fn nonce(&self) -> u64 {
        self.stored.directory
    }

    /// The cluster and the store id, once registered.
    pub fn known(&self) -> Option<(ClusterId, StoreId)> {
        self.stored.cluster.zip(self.stored.store)
    }

    /// Marks the directory: what is in it is never used again.
    ///
    /// # Errors
    /// The disk fails.
    pub fn quarantine(&self, found: Found) -> Result<Mark, Error> {
        let mark = Mark::new(found, self.known(), self.nonce());
        quarantine::set_mark(&self.path, &mark).map_err(|source| io_error(&self.path, source))?;
        Ok(mark)
    }

    /// Has the next start read everything before it uses any of it.
    ///
    /// # Errors
    /// The disk fails.
    pub fn doubt(&self, reason: &str) -> Result<(), Error> {
        quarantine::set_doubt(&self.path, reason).map_err(|source| io_error(&self.path, source))
    }

    /// Moves everything in a directory whose content must not be used out of the way; returns where to.
    ///
    /// # Errors
    /// A process uses it, or the disk fails.
    pub fn set_aside(path: &Path, mark: &Mark) -> Result<PathBuf, Error> {
        let _lock = lock(path)?;
        let failed = |source| io_error(path, source);
        quarantine::set_mark(path, mark).map_err(failed)?;
        quarantine::set_aside(path, mark, &[LOCK_FILE, "lost+found"]).map_err(failed)
    }

    /// Records what the placement driver answered to a registration. Durable when it returns.
    ///
    /// # Errors
    /// The directory is registered otherwise already, or the disk fails.
    pub fn registered(&mut self, cluster: ClusterId, store: StoreId) -> Result<(), Error> {
        match self.known() {
            Some(known) if known == (cluster, store) => Ok(()),
            Some(ours) => Err(Error::Contradiction {
                ours,
                theirs: (cluster, store),
            }),
            None => {
                let stored = Stored {
                    cluster: Some(cluster),
                    store: Some(store),
                    ..self.stored.clone()
                };
                self.stored = write(&self.path, stored)?;
                Ok(())
            }
        }
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|source| io_error(&path, source))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse(dir.to_owned())),
        Err(errno) => Err(io_error(&path, errno.into())),
    }
}

/// Whether this is the text of an `IDENTITY`.
pub fn is_identity(text: &[u8]) -> bool {
    serde_json::from_slice::<Stored>(text).is_ok_and(|stored| stored.format == FORMAT)
}

/// Whether there is nothing that a store would have put there; a cut first write of the identity is nothing.
fn is_empty(dir: &Path) -> Result<bool, Error> {
    for entry in fs::read_dir(dir).map_err(|source| io_error(dir, source))? {
        let name = entry.map_err(|source| io_error(dir, source))?.file_name();
        let is_aside = name.to_string_lossy().starts_with(quarantine::ASIDE_PREFIX);
        if name != LOCK_FILE && name != temporary_name().as_str() && name != "lost+found" && !is_aside {
            return Ok(false);
        }
    }
    Ok(true)
}

fn read(dir: &Path) -> Result<Option<(Stored, u64)>, Error> {
    let path = dir.join(IDENTITY_FILE);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(io_error(&path, source)),
    };
    let inode = fs::metadata(&path)
        .map_err(|source| io_error(&path, source))?
        .ino();
    match serde_json::from_slice::<Stored>(&text) {
        Ok(stored) if stored.checksum.is_some_and(|checksum| checksum != stored.sum()) => {
            Err(Error::Damaged {
                path,
                reason: "its checksum does not match".to_owned(),
            })
        }
        Ok(stored) if stored.format == FORMAT => Ok(Some((stored, inode))),
        Ok(stored) => {
            let reason = format!("format {}, this build reads {FORMAT}", stored.format);
            Err(Error::Unreadable { path, reason })
        }
        Err(error) => Err(Error::Damaged {
            path,
            reason: error.to_string(),
        }),
    }
}

fn check(dir: &Path, name: &str, (stored, inode): (Stored, u64)) -> Result<Stored, Error> {
    if stored.name != name {
        return Err(Error::OtherName {
            path: dir.to_owned(),
            theirs: stored.name,
            ours: name.to_owned(),
        });
    }
    match stored.inode {
        Some(written) if written != inode => Err(Error::Copied(dir.to_owned())),
        Some(_) => Ok(stored),
        // The operator vouched for the copy: it is the original from here on.
        None => write(dir, stored),
    }
}

/// Replaces `IDENTITY`, so that after a crash the old or the new one is there.
fn write(dir: &Path, mut stored: Stored) -> Result<Stored, Error> {
    let (path, temporary) = (dir.join(IDENTITY_FILE), dir.join(temporary_name()));
    let replace = || -> io::Result<Stored> {
        let mut file = File::create(&temporary)?;
        stored.inode = Some(file.metadata()?.ino());
        stored.checksum = Some(stored.sum());
        let mut text = serde_json::to_vec_pretty(&stored)?;
        text.push(b'\n');
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()?;
        Ok(stored)
    };
    replace().map_err(|source| io_error(&dir.join(IDENTITY_FILE), source))
}

fn temporary_name() -> String {
    format!("{IDENTITY_FILE}.new")
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
#[path = "identity_test.rs"]
mod tests;
