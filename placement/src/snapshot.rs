//! The state on disk and on its way to a follower: one file, the same for both.
//!
//! ```text
//! "HFPLACE" version(1) length(8, LE) xxh3-64(8, LE) body
//! ```
//!
//! The body is a postcard [`Image`]. The state lives in memory; the file holds it as of some entry, and the Raft log what
//! came after. A file is replaced by renaming a complete, synced one over it, so there is always a whole one; whatever
//! fails its checksum is refused, never half believed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use holdfast_common::proto;
use holdfast_common::proto::raft as wire;
use holdfast_common::raft::types::{LogId, Membership, Node, SnapshotMeta, Spool, StoredMembership};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::access::Access;
use crate::state::State;

const MAGIC: &[u8; 7] = b"HFPLACE";
/// Without, and with, who may do what. The first is written for as long as nobody has said anything about that, so that
/// members of the release before can read it.
const FORMATS: [u8; 2] = [1, 2];
const HEADER_BYTES: usize = 24;

/// Largest body that is read: far more than a map of a million ranges takes.
const MAX_BODY_BYTES: u64 = 4 << 30;

/// What is written and read at a time.
const CHUNK_BYTES: usize = 256 * 1024;

const FILE: &str = "SNAPSHOT";

/// Why a snapshot can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing failed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("{path} is damaged: {reason}; remove the member and start it again with an empty directory", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The state as of one entry of the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Image {
    applied: Option<wire::LogId>,
    membership_log_id: Option<wire::LogId>,
    membership: wire::Membership,
    /// The state.
    pub state: State,
}

impl Image {
    /// The state after the entry that `meta` names.
    pub fn new(meta: &SnapshotMeta, state: State) -> Self {
        let membership = meta.last_membership.membership();
        let configs = membership
            .get_joint_config()
            .iter()
            .map(|config| config.iter().copied().collect())
            .collect();
        let members = membership
            .nodes()
            .map(|(replica, node)| (*replica, node.store))
            .collect();
        Self {
            applied: meta.last_log_id.map(to_wire),
            membership_log_id: meta.last_membership.log_id().map(to_wire),
            membership: wire::Membership { configs, members },
            state,
        }
    }

    /// Where in the log it belongs.
    ///
    /// # Errors
    /// The membership is none that a group can have.
    pub fn meta(&self) -> Result<SnapshotMeta, String> {
        let configs: Vec<BTreeSet<_>> = self
            .membership
            .configs
            .iter()
            .map(|config| config.iter().copied().collect())
            .collect();
        let nodes: BTreeMap<_, _> = self
            .membership
            .members
            .iter()
            .map(|(id, store)| (*id, Node { store: *store }))
            .collect();
        let membership = if configs.is_empty() {
            Membership::default()
        } else {
            Membership::new(configs, nodes).map_err(|error| error.to_string())?
        };
        Ok(SnapshotMeta {
            last_log_id: self.applied.map(from_wire),
            last_membership: StoredMembership::new(self.membership_log_id.map(from_wire), membership),
        })
    }

    /// The whole file.
    pub fn encode(&self) -> Bytes {
        let access = &self.state.access;
        let (format, body) = if access.is_untouched() {
            (FORMATS[0], proto::encode(self))
        } else {
            (FORMATS[1], proto::encode(&(self, access)))
        };
        let mut file = Vec::with_capacity(HEADER_BYTES + body.len());
        file.extend_from_slice(MAGIC);
        file.push(format);
        file.extend_from_slice(&(body.len() as u64).to_le_bytes());
        file.extend_from_slice(&xxh3_64(&body).to_le_bytes());
        file.extend_from_slice(&body);
        file.into()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It can't be read, or is not whole.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let damaged = |reason: &str| Error::Damaged {
            path: path.to_owned(),
            reason: reason.to_owned(),
        };
        let mut file = File::open(path).map_err(|source| io_error(path, source))?;
        let mut header = [0; HEADER_BYTES];
        file.read_exact(&mut header)
            .map_err(|_| damaged("it ends within its header"))?;
        let (magic, rest) = header.split_at(MAGIC.len());
        let (format, rest) = rest.split_at(1);
        if magic != MAGIC || !FORMATS.contains(&format[0]) {
            return Err(damaged(&format!("it is no snapshot of a format in {FORMATS:?}")));
        }
        let (length, checksum) = rest.split_at(8);
        let number = |bytes: &[u8]| {
            bytes
                .try_into()
                .map(u64::from_le_bytes)
                .map_err(|_| damaged("its header"))
        };
        let (length, checksum) = (number(length)?, number(checksum)?);
        if length > MAX_BODY_BYTES {
            return Err(damaged("it claims an implausible length"));
        }
        let mut body = Vec::new();
        file.take(length + 1)
            .read_to_end(&mut body)
            .map_err(|source| io_error(path, source))?;
        if body.len() as u64 != length || xxh3_64(&body) != checksum {
            return Err(damaged("its length or checksum is wrong"));
        }
        let malformed = |error: proto::DecodeError| damaged(&error.to_string());
        if format == [FORMATS[0]] {
            return proto::decode(&body).map_err(malformed);
        }
        let (mut image, access): (Self, Access) = proto::decode(&body).map_err(malformed)?;
        image.state.access = access;
        Ok(image)
    }
}

/// On its way to a follower.
impl Spool for Image {
    fn spool(&self, path: &Path) -> io::Result<u64> {
        let encoded = self.encode();
        write_synced(path, &encoded)?;
        Ok(encoded.len() as u64)
    }
}

/// The directory that holds the last snapshot.
#[derive(Clone, Debug)]
pub struct Snapshots {
    dir: PathBuf,
}

impl Snapshots {
    /// Makes the directory if it is not there.
    ///
    /// # Errors
    /// The disk.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Where the last snapshot is.
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// The last snapshot, if there is one.
    ///
    /// # Errors
    /// It can't be read, or is damaged.
    pub fn load(&self) -> Result<Option<Image>, Error> {
        let path = self.path();
        match path.try_exists() {
            Ok(true) => Image::read(&path).map(Some),
            Ok(false) => Ok(None),
            Err(source) => Err(io_error(&path, source)),
        }
    }

    /// Replaces the last snapshot. Durable when it returns. Blocks.
    ///
    /// # Errors
    /// The disk.
    pub fn save(&self, encoded: &Bytes) -> Result<(), Error> {
        let (path, new) = (self.path(), self.dir.join(format!("{FILE}.new")));
        let replace = || {
            write_synced(&new, encoded)?;
            fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        replace().map_err(|source| io_error(&path, source))
    }
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    for chunk in content.chunks(CHUNK_BYTES) {
        file.write_all(chunk)?;
    }
    file.sync_all()
}

fn to_wire(id: LogId) -> wire::LogId {
    wire::LogId {
        term: id.leader_id.term,
        index: id.index,
    }
}

fn from_wire(id: wire::LogId) -> LogId {
    LogId::new_term_index(id.term, id.index)
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use holdfast_common::ids::{ReplicaId, StoreId};
    use holdfast_common::proto::access::{Credential, Limits, Proof, Right};

    use super::*;
    use crate::world::World;

    fn image() -> Image {
        let mut world = World::new(&["a", "b", "c"]);
        world.replicate(&[2, 3]);
        let nodes = [1, 2].map(|id| (ReplicaId(id), Node { store: StoreId(id) }));
        let configs = vec![
            BTreeSet::from([ReplicaId(1)]),
            BTreeSet::from([ReplicaId(1), ReplicaId(2)]),
        ];
        let membership = Membership::new(configs, BTreeMap::from(nodes)).unwrap();
        let last_log_id = Some(LogId::new_term_index(3, 9));
        let last_membership = StoredMembership::new(Some(LogId::new_term_index(2, 5)), membership);
        Image::new(
            &SnapshotMeta {
                last_log_id,
                last_membership,
            },
            world.state,
        )
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        assert!(snapshots.load().unwrap().is_none());
        let image = image();
        snapshots.save(&image.encode()).unwrap();
        let loaded = snapshots.load().unwrap().unwrap();
        assert_eq!(loaded, image);
        let meta = loaded.meta().unwrap();
        assert_eq!(Image::new(&meta, image.state.clone()), image);
        assert!(meta.last_membership.membership().get_joint_config().len() == 2);
    }

    #[test]
    fn who_may_do_what_is_saved_with_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::open(dir.path()).unwrap();
        let mut image = image();
        assert_eq!(image.encode()[MAGIC.len()], FORMATS[0]);
        let admin = Credential {
            id: 0,
            name: "admin".into(),
            proof: Proof::Token([7; 32]),
            right: Right::Admin,
            prefixes: Vec::new(),
            expires_ms: None,
            created_ms: 1,
            limits: Limits::default(),
        };
        image.state.access.grant(&admin).unwrap();
        assert_eq!(image.encode()[MAGIC.len()], FORMATS[1]);
        snapshots.save(&image.encode()).unwrap();
        assert_eq!(snapshots.load().unwrap().unwrap(), image);
    }

    #[test]
    fn a_snapshot_of_nothing_has_no_membership() {
        let image = Image::new(&SnapshotMeta::default(), State::default());
        assert_eq!(image.meta().unwrap(), SnapshotMeta::default());
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("damaged");
        let whole = image().encode();
        for at in (0..whole.len()).step_by(whole.len() / 60) {
            let mut flipped = whole.to_vec();
            flipped[at] ^= 0x40;
            for content in [&flipped[..], &whole[..at]] {
                fs::write(&path, content).unwrap();
                assert!(
                    matches!(Image::read(&path), Err(Error::Damaged { .. })),
                    "byte {at}"
                );
            }
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        fs::write(&path, longer).unwrap();
        assert!(matches!(Image::read(&path), Err(Error::Damaged { .. })));
    }
}
