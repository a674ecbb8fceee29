//! The fjall database under the log: two keyspaces, rows in and out. Only the committer writes.

use std::path::Path;

use bytes::Bytes;
use fjall::config::{CompressionPolicy, FilterPolicy};
use fjall::{CompressionType, KeyspaceCreateOptions, PersistMode};
use parking_lot::Mutex;

use crate::raft::journal::OpenError;
use crate::raft::lsm::{self, Guard, Keyspace, OwnedWriteBatch, Readable as _};

use super::Options;
use super::error::Error;
use super::keys::{self, GroupId};

/// Fjall moves on to the next journal file every 64 MB and, past this total, flushes what keeps the oldest from going, which is the
/// `raft` keyspace: it fills slowly. Two files at a time, because what is removed at once keeps the disk busy at once.
const MAX_JOURNAL_BYTES: u64 = 128 * 1024 * 1024;
/// Threads that flush and compact. With more than one, fjall's first only flushes, and hands compactions it meets back to
/// the queue as fast as it can: it burns a core for as long as another one compacts.
const WORKERS: usize = 1;

/// How many keyspaces there are.
pub(super) const KEYSPACES: usize = 2;

/// A keyspace of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    /// Votes, bounds, local records.
    Raft,
    /// Entries.
    Log,
}

/// One row to write.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) space: Space,
    pub(super) key: Bytes,
    /// None removes the row: with a strong tombstone, because a weak one can bring back an index that was rewritten.
    pub(super) value: Option<Bytes>,
}

impl Row {
    /// A row of the `raft` keyspace.
    pub(super) fn raft(key: &[u8], value: Option<Vec<u8>>) -> Self {
        Self {
            space: Space::Raft,
            key: Bytes::copy_from_slice(key),
            value: value.map(Bytes::from),
        }
    }

    /// The removal of an entry.
    pub(super) fn no_entry(group: GroupId, index: u64) -> Self {
        Self {
            space: Space::Log,
            key: Bytes::copy_from_slice(&keys::entry(group, index)),
            value: None,
        }
    }

    /// What the row adds to a batch, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// The open database.
pub(super) struct Database {
    fjall: lsm::Database,
    raft: Keyspace,
    log: Keyspace,
    /// Held while a batch commits and while a snapshot is opened: one opened in the middle of a commit can show half of it.
    commit: Mutex<()>,
    #[cfg(test)]
    pub(super) fail_next_sync: std::sync::atomic::AtomicBool,
}

impl Database {
    /// Opens the database in `dir`, whose journal has been checked, or creates it.
    pub(super) fn open(dir: &Path, options: &Options) -> Result<Self, OpenError> {
        let open = || -> fjall::Result<Self> {
            let fjall = lsm::open(dir, |builder| {
                builder
                    .manual_journal_persist(true)
                    .journal_compression(CompressionType::None)
                    .max_journaling_size(MAX_JOURNAL_BYTES)
                    .cache_size(options.block_cache_bytes)
                    .worker_threads(WORKERS)
            })?;
            let raft = fjall.keyspace(keys::RAFT_KEYSPACE, keyspace_options)?;
            let log = fjall.keyspace(keys::LOG_KEYSPACE, || {
                keyspace_options().filter_policy(FilterPolicy::disabled())
            })?;
            Ok(Self {
                fjall,
                raft,
                log,
                commit: Mutex::new(()),
                #[cfg(test)]
                fail_next_sync: false.into(),
            })
        };
        open().map_err(|error| OpenError::from_fjall(dir, error))
    }

    /// The newest value of a row of the `raft` keyspace.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.raft.get(key)?.map(Bytes::from))
    }

    /// The rows of the `raft` keyspace whose keys begin with `prefix`, as they stood between two batches.
    pub(super) fn scan(&self, prefix: &[u8]) -> impl Iterator<Item = Result<(Bytes, Bytes), Error>> + use<> {
        let snapshot = {
            let _between_commits = self.commit.lock();
            self.fjall.snapshot()
        };
        snapshot.prefix(&self.raft, prefix).map(row)
    }

    /// A group's entries with indices from `first` to `last`, both inclusive, in either direction. Each is the newest
    /// version; the caller knows from its own state which of them may change meanwhile.
    pub(super) fn entries(
        &self,
        group: GroupId,
        first: u64,
        last: u64,
    ) -> impl DoubleEndedIterator<Item = Result<(u64, Bytes), Error>> + use<> {
        self.log
            .range(keys::entries(group, first, last))
            .map(move |guard| {
                let (key, value) = row(guard)?;
                Ok((index_of(group, &key)?, value))
            })
    }

    /// The indices of a group's entries, as [`Database::entries`] would give them.
    pub(super) fn indices(
        &self,
        group: GroupId,
        first: u64,
        last: u64,
    ) -> impl DoubleEndedIterator<Item = Result<u64, Error>> + use<> {
        self.log
            .range(keys::entries(group, first, last))
            .map(move |guard| index_of(group, &guard.key()?))
    }

    /// The sequence number that fjall will give out next.
    pub(super) fn next_seqno(&self) -> u64 {
        self.fjall.seqno()
    }

    /// Commits the rows as one batch, which is not durable yet. No key may occur twice.
    pub(super) fn commit(&self, rows: impl ExactSizeIterator<Item = Row>) -> Result<(), Error> {
        let mut batch = OwnedWriteBatch::with_capacity(self.fjall.clone(), rows.len());
        for Row { space, key, value } in rows {
            let keyspace = match space {
                Space::Raft => &self.raft,
                Space::Log => &self.log,
            };
            match value {
                Some(value) => batch.insert(keyspace, key, value),
                None => batch.remove(keyspace, key),
            }
        }
        let _no_snapshot = self.commit.lock();
        Ok(batch.commit()?)
    }

    /// Makes every batch so far survive a crash of the machine.
    pub(super) fn sync(&self) -> Result<(), Error> {
        #[cfg(test)]
        if self.fail_next_sync.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Error::Failed("made to fail".to_owned()));
        }
        Ok(self.fjall.persist(PersistMode::SyncData)?)
    }

    /// Makes every batch so far survive a crash of the process.
    pub(super) fn flush(&self) -> Result<(), Error> {
        Ok(self.fjall.persist(PersistMode::Buffer)?)
    }

    /// Bytes on disk, journals included.
    pub(super) fn disk_bytes(&self) -> Result<u64, Error> {
        Ok(self.fjall.disk_space()?)
    }

    /// The keyspaces, for what their tables tell.
    pub(super) fn keyspaces(&self) -> [&Keyspace; 2] {
        [&self.raft, &self.log]
    }

    /// Writes a keyspace's rows into a table now.
    #[cfg(test)]
    pub(super) fn rotate(&self) -> fjall::Result<()> {
        self.raft.rotate_memtable_and_wait()?;
        self.log.rotate_memtable_and_wait()
    }
}

fn keyspace_options() -> KeyspaceCreateOptions {
    // Leveled compaction, the default, is the only one that is safe here: FIFO loses logs.
    lsm::bounded_elsewhere()
        .manual_journal_persist(true)
        .data_block_compression_policy(CompressionPolicy::disabled())
}

fn index_of(group: GroupId, key: &[u8]) -> Result<u64, Error> {
    keys::index_of(key).ok_or_else(|| Error::Corrupt {
        group,
        what: "a key has no index".to_owned(),
    })
}

fn row(guard: Guard) -> Result<(Bytes, Bytes), Error> {
    let (key, value) = guard.into_inner()?;
    Ok((key.into(), value.into()))
}
