//! Whose a data directory is.
//!
//! A store's directory carries `IDENTITY`: which cluster and store it belongs to, and a random number minted with it. The
//! number is written before the first registration, so that a registration whose answer was lost can be told from a
//! second directory under the same name. A directory is refused when it holds data without an identity, when it was made
//! under another name, when another process uses it, and when it is a copy: `IDENTITY` names its own inode, which a copy
//! does not have. Two processes with one identity would vote twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use holdfast_common::clock;
use holdfast_common::ids::{ClusterId, StoreId};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

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
        if name != LOCK_FILE && name != temporary_name().as_str() && name != "lost+found" {
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
        Ok(stored) if stored.format == FORMAT => Ok(Some((stored, inode))),
        Ok(stored) => {
            let reason = format!("format {}, this build reads {FORMAT}", stored.format);
            Err(Error::Unreadable { path, reason })
        }
        Err(error) => Err(Error::Unreadable {
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
mod tests {
    use super::*;

    const CLUSTER: ClusterId = ClusterId(7);
    const STORE: StoreId = StoreId(3);

    #[test]
    fn an_empty_directory_becomes_the_stores_own_and_stays_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = DataDir::claim(dir.path(), "store-1").unwrap();
        assert_eq!(first.known(), None);
        let nonce = first.nonce();
        first.registered(CLUSTER, STORE).unwrap();
        drop(first);

        let mut again = DataDir::claim(dir.path(), "store-1").unwrap();
        assert_eq!((again.nonce(), again.known()), (nonce, Some((CLUSTER, STORE))));
        again.registered(CLUSTER, STORE).unwrap();
        assert!(matches!(
            again.registered(CLUSTER, StoreId(4)),
            Err(Error::Contradiction { .. })
        ));
    }

    #[test]
    fn the_nonce_outlives_a_crash_before_the_registration() {
        let dir = tempfile::tempdir().unwrap();
        let nonce = DataDir::claim(dir.path(), "store-1").unwrap().nonce();
        assert_eq!(DataDir::claim(dir.path(), "store-1").unwrap().nonce(), nonce);
    }

    #[test]
    fn two_processes_never_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let _first = DataDir::claim(dir.path(), "store-1").unwrap();
        assert!(matches!(
            DataDir::claim(dir.path(), "store-1"),
            Err(Error::InUse(_))
        ));
    }

    #[test]
    fn data_without_an_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        assert!(matches!(
            DataDir::claim(dir.path(), "store-1"),
            Err(Error::NoIdentity(_))
        ));
    }

    #[test]
    fn a_directory_made_under_another_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::claim(dir.path(), "store-1").unwrap());
        assert!(matches!(
            DataDir::claim(dir.path(), "store-2"),
            Err(Error::OtherName { .. })
        ));
    }

    #[test]
    fn a_damaged_identity_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::claim(dir.path(), "store-1").unwrap());
        fs::write(dir.path().join(IDENTITY_FILE), "{\"format\": 1").unwrap();
        assert!(matches!(
            DataDir::claim(dir.path(), "store-1"),
            Err(Error::Unreadable { .. })
        ));
        fs::write(
            dir.path().join(IDENTITY_FILE),
            r#"{"format": 2, "name": "store-1", "directory": 1}"#,
        )
        .unwrap();
        assert!(matches!(
            DataDir::claim(dir.path(), "store-1"),
            Err(Error::Unreadable { .. })
        ));
    }

    #[test]
    fn a_copy_is_refused_until_the_operator_vouches_for_it() {
        let (original, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        drop(DataDir::claim(original.path(), "store-1").unwrap());
        fs::copy(
            original.path().join(IDENTITY_FILE),
            copy.path().join(IDENTITY_FILE),
        )
        .unwrap();
        assert!(matches!(
            DataDir::claim(copy.path(), "store-1"),
            Err(Error::Copied(_))
        ));

        let text = fs::read_to_string(copy.path().join(IDENTITY_FILE)).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value.as_object_mut().unwrap().remove("inode");
        fs::write(copy.path().join(IDENTITY_FILE), value.to_string()).unwrap();
        drop(DataDir::claim(copy.path(), "store-1").unwrap());
        assert!(DataDir::claim(copy.path(), "store-1").is_ok());
    }
}
