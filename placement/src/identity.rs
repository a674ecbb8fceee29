//! Whose a data directory is.
//!
//! A member's directory carries `IDENTITY`: its name, a random number minted with it, the names of all members, and how far
//! it has come ([`Phase`]). It is refused when it holds data without an identity, when it is another member's, when the list
//! of members is another, when another process uses it, and when it is a copy: `IDENTITY` names its own inode, which a copy
//! does not have. Two processes with one identity would vote twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use holdfast_common::clock;
use holdfast_common::ids::{ClusterId, MemberId};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

/// The layout of `IDENTITY` that this build writes and reads.
const FORMAT: u32 = 1;

const IDENTITY_FILE: &str = "IDENTITY";
const LOCK_FILE: &str = "LOCK";
const TEMPORARY_FILE: &str = "IDENTITY.new";

/// Where the Raft log is.
const RAFT_DIR: &str = "raft";

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
    #[error("{path} is used by another process: stop that one, or choose another directory", path = .0.display())]
    InUse(PathBuf),
    /// There is data and nothing that says whose.
    #[error("{path} holds data but no IDENTITY: it is not a placement member's directory, or it was damaged", path = .0.display())]
    NoIdentity(PathBuf),
    /// `IDENTITY` can't be read.
    #[error("{path}: {reason}; restore the file", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The directory is another member's.
    #[error("{path} belongs to the placement member {theirs:?}, not {ours:?}: point it at its own directory", path = path.display())]
    OtherName {
        /// The directory.
        path: PathBuf,
        /// The name in it.
        theirs: String,
        /// The name given.
        ours: String,
    },
    /// The members were others, or in another order.
    #[error("--members names {ours:?}, {path} knows {theirs:?}: the same members must be named everywhere, in the same order", path = path.display())]
    OtherMembers {
        /// The directory.
        path: PathBuf,
        /// The names in it.
        theirs: Vec<String>,
        /// The names given.
        ours: Vec<String>,
    },
    /// The directory is a copy of another.
    #[error(
        "{path} is a copy of a placement member's directory, and two members must not share an identity: start with an empty directory. \
         If the original is gone for good, remove the \"inode\" line from IDENTITY", path = .0.display()
    )]
    Copied(PathBuf),
    /// The Raft log of a member is not there.
    #[error(
        "{path} has an IDENTITY but has lost its Raft log: restore it, or remove the member and start it again with an empty directory", path = .0.display()
    )]
    LostLog(PathBuf),
}

/// How far a member has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It belongs to nobody yet.
    New,
    /// It was told to found a cluster, and makes sure first that there is none.
    Bootstrapping,
    /// It founds this cluster: it may have begun the Raft group or not.
    Founding {
        /// The cluster.
        cluster: ClusterId,
        /// Its number.
        member: MemberId,
    },
    /// It is a member.
    Admitted {
        /// Of this cluster.
        cluster: ClusterId,
        /// Under this number.
        member: MemberId,
    },
}

impl Phase {
    /// The cluster and the number, once it has them.
    pub fn known(self) -> Option<(ClusterId, MemberId)> {
        match self {
            Self::New | Self::Bootstrapping => None,
            Self::Founding { cluster, member } | Self::Admitted { cluster, member } => {
                Some((cluster, member))
            }
        }
    }
}

/// The content of `IDENTITY`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    role: String,
    name: String,
    /// Random, minted with the directory.
    directory: u64,
    members: Vec<String>,
    phase: Phase,
    /// The inode of the file itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
}

const ROLE: &str = "placement";

/// A directory that this process, and no other, uses; the lock goes with the value.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    stored: Stored,
    /// Holds the lock.
    _lock: File,
}

impl DataDir {
    /// Takes the directory `path` for the member named `name` of these; an empty or missing one becomes its own.
    ///
    /// # Errors
    /// It is another's, or the disk fails.
    pub fn claim(path: &Path, name: &str, members: &[String]) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|source| io_error(path, source))?;
        let lock = lock(path)?;
        let fresh = || Stored {
            format: FORMAT,
            role: ROLE.to_owned(),
            name: name.to_owned(),
            directory: clock::random_id(),
            members: members.to_vec(),
            phase: Phase::New,
            inode: None,
        };
        let stored = match read(path)? {
            Some((stored, inode)) => check(path, fresh(), stored, inode)?,
            None if is_empty(path)? => write(path, fresh())?,
            None => return Err(Error::NoIdentity(path.to_owned())),
        };
        if stored.phase.known().is_some() && !path.join(RAFT_DIR).is_dir() {
            return Err(Error::LostLog(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            stored,
            _lock: lock,
        })
    }

    /// A directory within it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where the Raft log is.
    pub fn raft(&self) -> PathBuf {
        self.path.join(RAFT_DIR)
    }

    /// Random, minted with the directory.
    pub fn nonce(&self) -> u64 {
        self.stored.directory
    }

    /// How far the member has come.
    pub fn phase(&self) -> Phase {
        self.stored.phase
    }

    /// Records how far the member has come. Durable when it returns.
    ///
    /// # Errors
    /// The disk fails.
    pub fn enter(&mut self, phase: Phase) -> Result<(), Error> {
        self.stored = write(
            &self.path,
            Stored {
                phase,
                ..self.stored.clone()
            },
        )?;
        Ok(())
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

/// Whether there is nothing that a member would have put there; a cut first write of the identity is nothing.
fn is_empty(dir: &Path) -> Result<bool, Error> {
    for entry in fs::read_dir(dir).map_err(|source| io_error(dir, source))? {
        let name = entry.map_err(|source| io_error(dir, source))?.file_name();
        if name != LOCK_FILE && name != TEMPORARY_FILE && name != "lost+found" {
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
        Ok(stored) if stored.format == FORMAT && stored.role == ROLE => Ok(Some((stored, inode))),
        Ok(stored) => {
            let reason = format!(
                "{} of format {}, this build reads {ROLE} of format {FORMAT}",
                stored.role, stored.format
            );
            Err(Error::Unreadable { path, reason })
        }
        Err(error) => Err(Error::Unreadable {
            path,
            reason: error.to_string(),
        }),
    }
}

fn check(dir: &Path, ours: Stored, stored: Stored, inode: u64) -> Result<Stored, Error> {
    let path = dir.to_owned();
    if stored.name != ours.name {
        return Err(Error::OtherName {
            path,
            theirs: stored.name,
            ours: ours.name,
        });
    }
    if stored.members != ours.members {
        return Err(Error::OtherMembers {
            path,
            theirs: stored.members,
            ours: ours.members,
        });
    }
    match stored.inode {
        Some(written) if written != inode => Err(Error::Copied(path)),
        Some(_) => Ok(stored),
        // The operator vouched for the copy: it is the original from here on.
        None => write(dir, stored),
    }
}

/// Replaces `IDENTITY`, so that after a crash the old or the new one is there.
fn write(dir: &Path, mut stored: Stored) -> Result<Stored, Error> {
    let (path, temporary) = (dir.join(IDENTITY_FILE), dir.join(TEMPORARY_FILE));
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

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADMITTED: Phase = Phase::Admitted {
        cluster: ClusterId(7),
        member: MemberId(2),
    };

    fn members() -> Vec<String> {
        vec!["a".into(), "b".into(), "c".into()]
    }

    fn claim(dir: &Path) -> Result<DataDir, Error> {
        DataDir::claim(dir, "b", &members())
    }

    #[test]
    fn an_empty_directory_becomes_the_members_own_and_stays_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = claim(dir.path()).unwrap();
        assert_eq!(first.phase(), Phase::New);
        let nonce = first.nonce();
        assert!(matches!(claim(dir.path()), Err(Error::InUse(_))));
        fs::create_dir(first.raft()).unwrap();
        first.enter(ADMITTED).unwrap();
        drop(first);
        let again = claim(dir.path()).unwrap();
        assert_eq!((again.nonce(), again.phase()), (nonce, ADMITTED));
    }

    #[test]
    fn what_is_anothers_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(claim(dir.path()).unwrap());
        assert!(matches!(
            DataDir::claim(dir.path(), "a", &members()),
            Err(Error::OtherName { .. })
        ));
        assert!(matches!(
            DataDir::claim(dir.path(), "b", &members()[..1]),
            Err(Error::OtherMembers { .. })
        ));
        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join("something"), "else").unwrap();
        assert!(matches!(claim(foreign.path()), Err(Error::NoIdentity(_))));
        fs::write(foreign.path().join(IDENTITY_FILE), "{}").unwrap();
        assert!(matches!(claim(foreign.path()), Err(Error::Unreadable { .. })));
    }

    #[test]
    fn a_copy_is_refused_until_the_operator_vouches_for_it() {
        let (original, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        drop(claim(original.path()).unwrap());
        let identity = fs::read_to_string(original.path().join(IDENTITY_FILE)).unwrap();
        fs::write(copy.path().join(IDENTITY_FILE), &identity).unwrap();
        assert!(matches!(claim(copy.path()), Err(Error::Copied(_))));
        let mut vouched: serde_json::Value = serde_json::from_str(&identity).unwrap();
        vouched.as_object_mut().unwrap().remove("inode");
        fs::write(copy.path().join(IDENTITY_FILE), vouched.to_string()).unwrap();
        claim(copy.path()).unwrap();
        claim(copy.path()).unwrap();
    }

    #[test]
    fn a_member_without_its_log_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        claim(dir.path()).unwrap().enter(ADMITTED).unwrap();
        assert!(matches!(claim(dir.path()), Err(Error::LostLog(_))));
    }
}
