//! The Raft log on disk: votes, bounds and entries of every group of a process, and the process's own small records.
//!
//! # How a write goes
//! A group's operation changes its state in memory (`state`), where readers see it at once, and queues the rows that make
//! it last (`queue`). One thread (`committer`) turns whatever has queued up, of all groups, into one batch and one fsync,
//! and then tells everyone in order. Nothing else writes.
//!
//! # What can be relied on
//! - An append's callback, [`save_vote`](openraft::storage::RaftLogStorage::save_vote) and the calls here that say so
//!   report success only after an fsync.
//! - What survives a crash is a prefix of what was asked for: bounds and entries agree, no log has a hole, a vote never
//!   survives without the entries that were appended before it.
//! - What was acknowledged is there when the log opens, or it does not open ([`OpenError::Damaged`]).
//! - After a failed write, fsync or read every call fails and [`LogEngine::failure`] says so. The process must exit.
//!
//! The layout is in `keys` and `records`, and described in `docs/raft-log.md`.

mod cache;
mod committer;
mod database;
mod error;
mod format;
mod group;
mod health;
mod keys;
mod loading;
mod metrics;
mod news;
mod queue;
mod reader;
pub mod records;
mod state;
mod sweep;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use crate::ids::{RangeId, ReplicaId};
use crate::raft::tables::TableWatch;
use crate::raft::types::{Entry, LogId, Vote};

pub use self::error::Error;
pub use self::group::GroupLog;
pub use self::keys::GroupId;
pub use super::journal::OpenError;

use self::cache::Budget;
use self::database::{Database, Row};
use self::group::Group;
use self::health::Health;
use self::keys::GroupRow;
use self::metrics::Metrics;
use self::queue::{Done, Queue, Write};
use self::state::State;
use self::sweep::SweepOrder;
use self::worker::Worker;

/// Longest key of a local record, in bytes.
pub const MAX_LOCAL_KEY_BYTES: usize = 256;

/// Entries that one step of [`LogEngine::drop_group`] deletes.
const DROP_CHUNK: usize = 1024;

/// How much memory the log may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Fjall's cache of table blocks, bytes.
    pub block_cache_bytes: u64,
    /// A keyspace writes a table each time so much has come together, bytes; up to four such wait before commits stall.
    pub memtable_bytes: u64,
    /// Newest entries kept in memory for each group, bytes.
    pub group_cache_bytes: usize,
    /// The same for all groups together, bytes; beyond it a group that is written to keeps next to nothing.
    pub total_cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            block_cache_bytes: 16 * MIB as u64,
            memtable_bytes: 32 * MIB as u64,
            group_cache_bytes: 2 * MIB,
            total_cache_bytes: 64 * MIB,
        }
    }
}

/// Where a group's log begins and ends, and its vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogBounds {
    /// The last entry that was purged.
    pub purged: Option<LogId>,
    /// The last entry, or `purged` when there is none.
    pub last: Option<LogId>,
    /// The vote.
    pub vote: Option<Vote>,
}

/// A change to the local records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalWrite {
    /// Sets a record: key (at most [`MAX_LOCAL_KEY_BYTES`]) and value.
    Put(Bytes, Bytes),
    /// Removes a record.
    Delete(Bytes),
}

/// The Raft log of a process. Cheap to clone; closed when the last clone and the last [`GroupLog`] are gone, or by
/// [`LogEngine::close`].
#[derive(Clone)]
pub struct LogEngine {
    committing: Arc<Committing>,
    shared: Arc<Shared>,
}

/// The committer thread. Every handle that callers have holds on to it, and with the last of them it comes to an end, so
/// that the directory is free when that handle is gone. What the thread itself works with holds on to `Shared` alone.
struct Committing {
    queue: Arc<Queue>,
    worker: Mutex<Option<Worker>>,
}

/// What the engine and its groups share.
struct Shared {
    database: Arc<Database>,
    queue: Arc<Queue>,
    health: Arc<Health>,
    budget: Arc<Budget>,
    groups: Mutex<HashMap<GroupId, Weak<Group>>>,
    commits: Arc<AtomicU64>,
    metrics: Metrics,
    tables: Mutex<[TableWatch; 2]>,
}

/// Makes every series of the log exist, at zero.
pub(super) fn init_metrics() {
    drop(Metrics::new());
}

impl LogEngine {
    /// Checks the journal in `dir`, opens the log or creates it, and starts the committer. Callbacks fire with the
    /// runtime entered that this is called in, if there is one. Blocks for as long as it takes to read the journal.
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let loading::Opened { shared, committer } = loading::open(dir, options)?;
        let worker = Worker::start(committer).map_err(|error| OpenError::io(dir, error))?;
        let committing = Committing {
            queue: Arc::clone(&shared.queue),
            worker: Mutex::new(Some(worker)),
        };
        Ok(Self {
            committing: Arc::new(committing),
            shared: Arc::new(shared),
        })
    }

    /// The log of a replica. When nothing is stored for it, it begins behind `origin`; else `origin` is ignored. If it
    /// can't be loaded, its every operation says why.
    pub fn group(&self, range: RangeId, replica: ReplicaId, origin: Option<LogId>) -> GroupLog {
        let group = self.shared.group(GroupId { range, replica }, origin);
        GroupLog {
            group,
            _committing: Arc::clone(&self.committing),
        }
    }

    /// A replica's bounds and vote.
    pub fn log_bounds(&self, range: RangeId, replica: ReplicaId) -> Result<LogBounds, Error> {
        self.shared.health.check()?;
        let id = GroupId { range, replica };
        let groups = self.shared.groups.lock();
        if let Some(group) = groups.get(&id).and_then(Weak::upgrade) {
            drop(groups);
            let state = group.state.lock();
            group.check(&state)?;
            return Ok(state.bounds());
        }
        // Not kept: whoever makes the group known decides where it begins.
        let stored = self.shared.load(id)?;
        Ok(stored.map_or(
            LogBounds {
                purged: None,
                last: None,
                vote: None,
            },
            |state| state.bounds(),
        ))
    }

    /// Shows every stored entry of a replica's log, in order, to whoever looks for damage. To be called while nothing is written
    /// to it; blocks for as long as it takes to read the log.
    ///
    /// # Errors
    /// One can't be read, or is missing, and those behind it are not shown; or the log is half destroyed.
    pub fn read_entries(
        &self,
        range: RangeId,
        replica: ReplicaId,
        look: impl FnMut(&Entry),
    ) -> Result<(), Error> {
        self.shared.health.check()?;
        self.shared.read_entries(GroupId { range, replica }, look)
    }

    /// Destroys a replica's log, vote and bounds, durably when this returns. Its [`GroupLog`]s fail from now on. If it is
    /// interrupted, call it again: until it has returned, [`LogEngine::groups`] lists the replica.
    pub async fn drop_group(&self, range: RangeId, replica: ReplicaId) -> Result<(), Error> {
        let id = GroupId { range, replica };
        let group = self.shared.group(id, None);
        group.state.lock().is_dropped = true;
        let row = |row, value| Row::raft(&keys::group_row(id, row), value);
        let intent = row(GroupRow::Dropping, Some(records::DROPPING.to_vec()));
        self.shared
            .write(vec![intent], true, Some(SweepOrder::Cancel(id)))
            .await?;
        let mut next = 0;
        loop {
            let indices = self.shared.database.indices(id, next, u64::MAX);
            let chunk = indices.take(DROP_CHUNK).collect::<Result<Vec<_>, _>>()?;
            let Some(last) = chunk.last() else { break };
            next = last.saturating_add(1);
            let rows = chunk.iter().map(|&index| Row::no_entry(id, index)).collect();
            self.shared.write(rows, false, None).await?;
        }
        self.shared
            .write(GroupRow::ALL.map(|tag| row(tag, None)).to_vec(), true, None)
            .await?;
        self.shared.groups.lock().remove(&id);
        Ok(())
    }

    /// Every replica for which anything is stored, also if it is only half dropped, in order.
    pub fn groups(&self) -> Result<Vec<(RangeId, ReplicaId)>, Error> {
        self.shared.health.check()?;
        let groups = loading::groups(&self.shared.database)?;
        Ok(groups.into_iter().map(|id| (id.range, id.replica)).collect())
    }

    /// A local record.
    pub fn local_get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.shared.health.check()?;
        self.shared.database.get(&keys::local(key))
    }

    /// The local records whose keys begin with `prefix`, in order of key, as they stood at one moment.
    pub fn local_scan(&self, prefix: &[u8]) -> Result<Vec<(Bytes, Bytes)>, Error> {
        self.shared.health.check()?;
        let rows = self.shared.database.scan(&keys::local(prefix));
        rows.map(|row| {
            let (key, value) = row?;
            let own = keys::local_of(&key).map_or_else(Bytes::new, |own| key.slice_ref(own));
            Ok((own, value))
        })
        .collect()
    }

    /// Changes local records: all or none, durable when this returns. A later write to the same key wins.
    pub async fn local_commit(&self, writes: Vec<LocalWrite>) -> Result<(), Error> {
        let row = |write| {
            let (key, value) = match write {
                LocalWrite::Put(key, value) => (key, Some(value)),
                LocalWrite::Delete(key) => (key, None),
            };
            match key.len() {
                0..=MAX_LOCAL_KEY_BYTES => {
                    let key = Bytes::from(keys::local(&key));
                    Ok(Row {
                        space: database::Space::Raft,
                        key,
                        value,
                    })
                }
                bytes => Err(Error::LocalKeyTooLong(bytes)),
            }
        };
        let rows = writes.into_iter().map(row).collect::<Result<Vec<_>, _>>()?;
        if rows.is_empty() {
            return self.shared.health.check();
        }
        self.shared.write(rows, true, None).await
    }

    /// Becomes the first error when a write, an fsync or a read fails. The process must exit then.
    pub fn failure(&self) -> watch::Receiver<Option<Error>> {
        self.shared.health.subscribe()
    }

    /// Batches committed over the life of the directory.
    pub fn commits(&self) -> u64 {
        self.shared.commits.load(Ordering::Relaxed)
    }

    /// Measures what the log takes on disk, and what its tables had read and written since the last call. Looks at a few
    /// files' sizes; to be called every few seconds.
    pub fn observe(&self) {
        let Shared {
            database, metrics, ..
        } = &*self.shared;
        if let Ok(bytes) = database.disk_bytes() {
            metrics.observe_size(bytes);
        }
        let mut watches = self.shared.tables.lock();
        for (watch, keyspace) in watches.iter_mut().zip(database.keyspaces()) {
            watch.observe(keyspace).count();
        }
    }

    /// Commits what is queued, then stops the committer. Later calls that write fail with [`Error::Closed`]. The
    /// directory can be opened again once every [`GroupLog`] is gone too.
    pub async fn close(self) {
        self.shared.queue.close(Error::Closed);
        let worker = self.committing.worker.lock().take();
        if let Some(worker) = worker {
            worker.ended().await;
        }
    }
}

impl Shared {
    /// The one copy of a group in memory, loaded if need be.
    fn group(self: &Arc<Self>, id: GroupId, origin: Option<LogId>) -> Arc<Group> {
        let mut groups = self.groups.lock();
        if let Some(group) = groups.get(&id).and_then(Weak::upgrade) {
            return group;
        }
        let unborn = || State::unborn(id, origin, Arc::clone(&self.budget));
        let (state, unusable) = match self.load(id) {
            Ok(stored) => (stored.unwrap_or_else(unborn), None),
            Err(error) => (unborn(), Some(error)),
        };
        let group = Arc::new(Group {
            id,
            shared: Arc::clone(self),
            state: Mutex::new(state),
            unusable,
        });
        groups.insert(id, Arc::downgrade(&group));
        group
    }

    /// Queues rows and waits until they are in the database, or durable.
    async fn write(&self, rows: Vec<Row>, durable: bool, sweep: Option<SweepOrder>) -> Result<(), Error> {
        self.queue.admit().await?;
        self.health.check()?;
        let (waiter, done) = oneshot::channel();
        self.queue.push(Write {
            rows,
            entries: 0,
            durable,
            sweep,
            done: Done::Waiter(waiter),
        })?;
        done.await.map_err(|_| Error::Closed)?
    }

    /// Called when the last handle of a group is gone.
    fn forget(&self, id: GroupId) {
        let mut groups = self.groups.lock();
        if groups.get(&id).is_some_and(|group| group.strong_count() == 0) {
            groups.remove(&id);
        }
    }
}

impl Drop for Committing {
    fn drop(&mut self) {
        self.queue.close(Error::Closed);
        if let Some(worker) = self.worker.get_mut().take() {
            worker.join();
        }
    }
}
