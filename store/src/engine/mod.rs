//! The engine: all ranges' data in one ordered database. The only module that touches fjall's data.
//!
//! Writes are visible at once and committed a moment later. [`Engine::write`] puts a batch into an overlay in memory and
//! returns; the *data thread* ([`committer`]) gathers what has come within half a second, keeps the newest version of
//! each row, and commits that as one batch, unsynced. Losing it in a crash costs nothing: each range's applied position
//! lies in the same batch as the rows it describes, and the Raft log, which *is* synced, is replayed from there. The
//! log may forget an entry only once the data behind it is durable: see [`Engine::persist`].
//!
//! Point reads see the newest write; those of rows written lately are answered from the overlay, which keeps them for a
//! while, and those that only tables have are [fetched](fetch) first while tables are slow to answer. Everything else
//! reads through a [`View`], which the data thread opens between commits, because a snapshot opened during one can be
//! torn.

mod batch;
mod committer;
mod error;
mod fetch;
mod hash;
mod opening;
mod overlay;
mod pending;
mod replace;
mod thread;
mod view;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::clock;
use tokio::sync::{oneshot, watch};

pub use batch::{Batch, Row};
pub use error::{Error, OpenError};
pub use replace::Replacement;
pub use view::{Rows, View};

use committer::{Committer, Request, Shared};
pub(crate) use hash::KeyHash;

use crate::metrics::{self, Cache, Stall};

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Memory for blocks of tables, bytes.
    pub cache_bytes: u64,
    /// Bytes of writes that may be visible and not committed before [`Engine::admit`] makes writers wait.
    pub overlay_bytes: usize,
    /// Memory for rows written lately, which answer point reads without a search, bytes; those not yet committed count, and stay
    /// whatever they take.
    pub row_cache_bytes: usize,
    /// Size at which a memtable is written out, bytes; at least 1 MiB.
    pub memtable_bytes: u64,
    /// Journal size at which the oldest memtables are written out, bytes.
    pub journal_bytes: u64,
    /// Threads that write out memtables and merge tables. With more than one, fjall's first only writes memtables out, and
    /// spins while the others merge: worth it on a machine with cores to spare.
    pub worker_threads: usize,
    /// How long the data thread lets writes gather before it commits. Nobody waits for it: answers go out before, and
    /// views and syncs cut it short. The longer, the less is written: the newest version of a row is enough, and what a
    /// range remembers of an entry's outcomes is mostly forgotten again before it got here.
    pub gather: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cache_bytes: 256 << 20,
            overlay_bytes: 64 << 20,
            row_cache_bytes: 64 << 20,
            memtable_bytes: 64 << 20,
            journal_bytes: 256 << 20,
            worker_threads: 1,
            gather: Duration::from_millis(500),
        }
    }
}

/// All ranges' data. Cheap to clone.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    overlay_bytes: usize,
    committer: Committer,
}

/// Disk and memory that the engine takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes on disk, journal included.
    pub disk_bytes: u64,
    /// Bytes of the journal.
    pub journal_bytes: u64,
    /// Tables on disk.
    pub tables: usize,
}

/// How far behind the engine's background work is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Bytes of visible, uncommitted writes.
    pub overlay_bytes: usize,
    /// Their bound.
    pub overlay_limit: usize,
    /// Tables that wait to be merged; commits slow down at 20 runs and stop at 30.
    pub l0_tables: usize,
    /// Memtables that wait to be written out; commits stop at 4.
    pub sealed_memtables: usize,
    /// Journals that wait for their memtables.
    pub journals: usize,
}

impl Pressure {
    /// Whether new work should be refused: the bounds are not reached yet, and will be if it goes on.
    pub fn is_high(&self) -> bool {
        !self.causes().is_empty()
    }

    /// What is close to its bound.
    pub(crate) fn causes(&self) -> Vec<Stall> {
        let causes = [
            (Stall::Overlay, self.overlay_bytes > self.overlay_limit / 2),
            (Stall::Memtables, self.sealed_memtables >= 3),
            (Stall::Tables, self.l0_tables >= 18),
        ];
        let high = causes.into_iter().filter(|(_, is_high)| *is_high);
        high.map(|(cause, _)| cause).collect()
    }
}

impl Drop for Inner {
    /// Nobody can write or ask any more: the data thread commits what is left and ends.
    fn drop(&mut self) {
        self.committer.abandon(&self.shared);
    }
}

impl Engine {
    /// Opens or creates the database in `dir`. What a crash left unfinished at the end of its journal is dropped; the log
    /// makes up for it. Reads the journal: blocks for as long as that takes.
    pub fn open(dir: &Path, options: Options) -> Result<Engine, OpenError> {
        let opened = opening::open(dir, &options)?;
        let shared = Arc::new(Shared::new(opened.db, opened.data, &options));
        let committer = Committer::start(shared.clone(), &options, opened.commits, opened.acknowledged);
        let committer = committer.map_err(OpenError::Thread)?;
        Ok(Engine(Arc::new(Inner {
            shared,
            overlay_bytes: options.overlay_bytes,
            committer,
        })))
    }

    /// The newest value under `key`.
    pub fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let shared = &self.0.shared;
        // The order matters: see `pending`.
        if let Some(pending) = shared.pending.read().get(key) {
            metrics::cache(Cache::Rows, 1, 0);
            return Ok(pending);
        }
        metrics::cache(Cache::Rows, 0, 1);
        let begun = clock::now();
        let stored = shared
            .data
            .get(key)
            .map_err(|error| self.distrust(error.into()))?;
        if !shared.pace.is_slow() {
            // Else those that fetch see how long it takes: what is read here lies in the cache then.
            shared.pace.note(begun.elapsed());
        }
        Ok(stored.map(Bytes::from))
    }

    /// Notes an error that says that the database can't be relied upon any more: see [`Engine::failure`].
    pub fn distrust(&self, error: Error) -> Error {
        note(&self.0.shared.failure, error)
    }

    /// Makes a batch visible, all of it to views and each of its rows to [`Engine::get`], and has it committed.
    ///
    /// Never blocks; bound what is pending with [`Engine::admit`]. After a failure (see [`Engine::failure`]) writes stay
    /// in memory.
    pub fn write(&self, batch: Batch) {
        if !batch.is_empty() {
            self.0.committer.write(&self.0.shared, batch);
        }
    }

    /// Waits until the writes that are visible and not committed are within their bound; returns at once when they are.
    pub async fn admit(&self) {
        self.0.shared.room(self.0.overlay_bytes).await;
    }

    /// A view of everything written before the call.
    pub async fn view(&self) -> Result<View, Error> {
        self.request(Request::View).await
    }

    /// Syncs everything written before the call to disk. What is durable then may be dropped from the log.
    pub async fn persist(&self) -> Result<(), Error> {
        self.request(Request::Persist).await
    }

    /// Replaces the rows of some intervals, atomically and durably; see [`Replacement`].
    pub async fn replace(&self, replacement: Replacement) -> Result<(), Error> {
        replace::run(self, replacement).await
    }

    /// Resolves to the first failure of the data thread or of a read, if there is one: the process must exit.
    pub fn failure(&self) -> watch::Receiver<Option<Error>> {
        self.0.shared.failure.subscribe()
    }

    /// What the engine takes.
    pub fn usage(&self) -> Usage {
        let Shared { db, data, .. } = &*self.0.shared;
        Usage {
            disk_bytes: db.disk_space().unwrap_or(0),
            journal_bytes: db.journal_disk_space().unwrap_or(0),
            tables: data.table_count(),
        }
    }

    /// Counts what the tables and their cache did since the last call.
    pub(crate) fn observe(&self) {
        let Shared { data, tables, .. } = &*self.0.shared;
        let work = tables.lock().observe(data);
        work.count();
        metrics::cache(Cache::Blocks, work.blocks_cached, work.blocks_loaded);
        metrics::pending_compaction(work.pending_bytes);
    }

    /// How far behind it is.
    pub fn pressure(&self) -> Pressure {
        let Shared { db, data, .. } = &*self.0.shared;
        Pressure {
            overlay_bytes: self.0.shared.pending_bytes(),
            overlay_limit: self.0.overlay_bytes,
            l0_tables: data.l0_table_count(),
            sealed_memtables: data.sealed_memtable_count(),
            journals: db.journal_count(),
        }
    }

    /// Commits and syncs what is pending and ends the data thread. Other handles answer [`Error::Closed`] from then on;
    /// the directory is free for another process once all of them are dropped.
    pub async fn close(self) {
        // A failure was reported through `failure`, and closing has nobody else to tell.
        let _ = self.request(Request::Close).await;
        self.0.committer.join();
    }

    async fn request<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.0.committer.request(&self.0.shared, request(reply));
        answer.await.unwrap_or_else(|_| Err(self.0.shared.failed()))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// The first failure stands.
fn note(failure: &watch::Sender<Option<Error>>, error: Error) -> Error {
    failure.send_if_modified(|first| {
        let is_first = first.is_none();
        first.get_or_insert_with(|| error.clone());
        is_first
    });
    error
}

/// Where a request's outcome goes.
type Reply<T> = oneshot::Sender<Result<T, Error>>;

#[cfg(test)]
#[path = "engine_test.rs"]
mod tests;
