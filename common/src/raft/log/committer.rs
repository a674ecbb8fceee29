//! The one thread that writes: many groups, one batch, one fsync.
//!
//! Fjall has no group commit: callers that each sync for themselves queue up behind one another's fsyncs. So everything
//! that the process wants to be durable (appends, truncations, votes, purges of all groups, local records) goes through
//! one queue and is committed here, in the order of arrival, as many writes at once as have come in during the fsync
//! before. Order is what Raft demands of votes and appends, and since the journal is replayed in order too, what survives
//! a crash is always a prefix of what was asked for.
//!
//! An error ends it all: after a failed write or fsync nobody knows what is on disk, and a second fsync would report
//! success for pages that the kernel has already dropped. Everyone who waits is told, and every later call fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::runtime::Handle;

use crate::clock;
use crate::failpoint::{self, Step};
use crate::raft::journal::{Acknowledged, SEAL_KEY, Seal};
use crate::raft::lsm::MemtableBound;

use super::database::{Database, KEYSPACES, Row, Space};
use super::error::Error;
use super::health::Health;
use super::keys;
use super::metrics::Metrics;
use super::news::News;
use super::queue::{Queue, Taken, Write};
use super::sweep::Sweeps;

/// Deletions that ride along with a batch that somebody waits for.
const SWEEP_ROWS_BUSY: u64 = 256;
/// Deletions in a batch that nobody waits for.
const SWEEP_ROWS_IDLE: u64 = 4096;
/// A keyspace that is never written keeps old journals from being deleted. `raft` gets a seal with every batch, `log` a
/// row each time so many batches have passed.
const PULSE_INTERVAL: u64 = 1024;

/// How long a simulated disk takes to sync, at least; at most twice as long.
#[cfg(feature = "simulation")]
const SIMULATED_SYNC: std::time::Duration = std::time::Duration::from_millis(1);

/// A batch that was written and is not on disk yet.
struct Batch {
    /// Its number.
    commit: u64,
    /// Entries in it.
    entries: usize,
    bytes: usize,
    /// Whether somebody waits for it to be on disk.
    durable: bool,
}

/// What the committer thread owns.
pub(super) struct Committer {
    pub(super) database: Arc<Database>,
    pub(super) queue: Arc<Queue>,
    pub(super) health: Arc<Health>,
    pub(super) acknowledged: Acknowledged,
    pub(super) metrics: Metrics,
    /// Who waits on this runtime is told there; without one, here.
    pub(super) runtime: Option<Handle>,
    pub(super) sweeps: Sweeps,
    pub(super) memtables: [MemtableBound; KEYSPACES],
    /// The number of the last batch, for others to see.
    pub(super) commits: Arc<AtomicU64>,
    /// The last batch that is on disk.
    pub(super) durable: u64,
}

impl Committer {
    /// Works until the queue is closed and empty, or something fails.
    pub(super) fn run(mut self) {
        let _fail_if_unwound = FailIfUnwound {
            queue: Arc::clone(&self.queue),
            health: Arc::clone(&self.health),
        };
        let news = News::on(self.runtime.as_ref());
        // What fails is told from here.
        let runtime = self.runtime.clone();
        let _entered = runtime.as_ref().map(Handle::enter);
        let mut writes = Vec::new();
        let mut rows = Vec::new();
        while self.queue.take(&mut writes, self.sweeps.is_empty()) != Taken::Closed {
            let committed = self
                .commit(&mut writes, &mut rows)
                .and_then(|batch| self.make_last(&batch));
            if let Err(error) = committed {
                return self.give_up(error, writes);
            }
            let now = clock::now();
            let done = writes.drain(..).map(|write| write.done);
            news.tell(done.filter_map(|done| done.succeed(now, &self.metrics)).collect());
        }
        if let Err(error) = self.database.sync() {
            self.give_up(error, writes);
        }
    }

    /// As [`run`](Self::run), in a task of a simulated machine, whose disk takes its time to sync.
    #[cfg(feature = "simulation")]
    pub(super) async fn run_simulated(mut self) {
        let news = News::on(self.runtime.as_ref());
        let mut writes = Vec::new();
        let mut rows = Vec::new();
        loop {
            match self.queue.take(&mut writes, false) {
                Taken::Closed => break,
                Taken::Nothing if self.sweeps.is_empty() => {
                    self.queue.filled().await;
                    continue;
                }
                Taken::Nothing | Taken::Writes => {}
            }
            let committed = match self.commit(&mut writes, &mut rows) {
                Ok(batch) => {
                    clock::sleep(clock::jittered(SIMULATED_SYNC)).await;
                    self.make_last(&batch)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = committed {
                return self.give_up(error, writes);
            }
            let now = clock::now();
            let done = writes.drain(..).map(|write| write.done);
            news.tell(done.filter_map(|done| done.succeed(now, &self.metrics)).collect());
        }
        if let Err(error) = self.database.sync() {
            self.give_up(error, writes);
        }
    }

    /// Makes one batch of the writes and of what is to be swept.
    fn commit(&mut self, writes: &mut [Write], rows: &mut Vec<Row>) -> Result<Batch, Error> {
        let entries = writes.iter().map(|write| write.entries).sum();
        let durable = writes.iter().any(|write| write.durable);
        for write in &mut *writes {
            rows.append(&mut write.rows);
            if let Some(order) = write.sweep.take() {
                self.sweeps.obey(order);
            }
        }
        self.sweeps.advance(
            if writes.is_empty() {
                SWEEP_ROWS_IDLE
            } else {
                SWEEP_ROWS_BUSY
            },
            rows,
        );
        let commit = self.commits.load(Ordering::Relaxed) + 1;
        rows.extend(self.seal(commit));
        keep_last_of_each_key(rows);
        let bytes = rows.iter().map(Row::bytes).sum();
        self.database.commit(rows.drain(..))?;
        for memtable in &mut self.memtables {
            memtable.keep()?;
        }
        failpoint::reached(Step::LogWritten);
        self.metrics.observe_batch(bytes);
        self.commits.store(commit, Ordering::Relaxed);
        Ok(Batch {
            commit,
            entries,
            bytes,
            durable,
        })
    }

    /// Syncs a batch if anybody asked for that, and flushes it if not.
    fn make_last(&mut self, batch: &Batch) -> Result<(), Error> {
        if !batch.durable {
            return self.database.flush();
        }
        let started = clock::now();
        if !failpoint::fires("syncs-skipped") {
            self.database.sync()?;
        }
        failpoint::reached(Step::LogSynced);
        let took = clock::now().saturating_duration_since(started);
        self.metrics.observe_commit(batch.entries, batch.bytes, took);
        self.durable = batch.commit;
        self.acknowledged
            .record(batch.commit)
            .map_err(|error| Error::Failed(error.to_string()))
    }

    /// The rows that every batch carries for its own sake.
    fn seal(&self, commit: u64) -> impl Iterator<Item = Row> + use<> {
        let seal = Seal {
            commit,
            durable: self.durable,
            floor: self.database.next_seqno(),
        };
        let seal = Row::raft(SEAL_KEY, Some(seal.encode().to_vec()));
        let pulse = commit.is_multiple_of(PULSE_INTERVAL).then(|| Row {
            space: Space::Log,
            key: Bytes::from_static(keys::PULSE),
            value: Some(Bytes::copy_from_slice(&commit.to_be_bytes())),
        });
        [Some(seal), pulse].into_iter().flatten()
    }

    fn give_up(&self, error: Error, writes: Vec<Write>) {
        self.health.fail(error.clone());
        writes
            .into_iter()
            .for_each(|write| write.done.fail(error.clone()));
        self.queue.abort(&error);
    }
}

/// Within a batch a later row replaces an earlier one of the same key: fjall gives all rows of a batch the same sequence
/// number and could not tell them apart.
fn keep_last_of_each_key(rows: &mut Vec<Row>) {
    rows.reverse();
    rows.sort_by(|a, b| (a.space, &a.key).cmp(&(b.space, &b.key)));
    rows.dedup_by(|later, first| (later.space, &later.key) == (first.space, &first.key));
}

/// Tells everybody when the thread dies of a panic, who would otherwise wait for ever.
struct FailIfUnwound {
    queue: Arc<Queue>,
    health: Arc<Health>,
}

impl Drop for FailIfUnwound {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = Error::Failed("the committer panicked".to_owned());
            self.health.fail(error.clone());
            self.queue.abort(&error);
        }
    }
}
