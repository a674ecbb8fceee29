//! The data thread: the only caller of commit, snapshot and sync.
//!
//! It sleeps until something is written, lets more gather, and commits it all as one batch. Requests (views, syncs) and
//! many bytes end the gathering at once. Under a steady load nobody has to wake it: it finds new writes after each
//! commit and goes straight on to gathering.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use std::{io, mem};

use bytes::Bytes;
use fjall::PersistMode;
use holdfast_common::clock;
use holdfast_common::failpoint::{self, Step};
use holdfast_common::raft::journal::{Acknowledged, SEAL_KEY, Seal};
use holdfast_common::raft::lsm::{Database, Keyspace, MemtableBound, OwnedWriteBatch};
use holdfast_common::raft::tables::TableWatch;
use holdfast_common::telemetry::disk;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::batch::{Batch, Row};
use super::error::Error;
use super::fetch::{Fetches, Pace};
use super::pending::{Drained, Pending, Sequence};
use super::thread::DataThread;
use super::view::View;
use super::{Options, Reply};
use crate::keys;
use crate::metrics::{self, Stall};

/// Bytes that one commit carries at most, but for a larger single batch.
const MAX_COMMIT_BYTES: usize = 8 << 20;
/// Pending bytes that end the gathering, unless a quarter of their bound is less.
const ENOUGH_BYTES: usize = 2 << 20;
/// Rows retired under one hold of the lock, so that readers never wait long.
const RETIRE_ROWS: usize = 64;

/// What the data thread and its clients share.
pub(super) struct Shared {
    pub(super) db: Database,
    pub(super) data: Keyspace,
    pub(super) pending: RwLock<Pending>,
    pub(super) tables: Mutex<TableWatch>,
    pub(super) pace: Pace,
    pub(super) fetches: Fetches,
    pub(super) failure: watch::Sender<Option<Error>>,
    requests: Mutex<Requests>,
    /// Bytes in `pending`.
    bytes: AtomicUsize,
    /// Bytes that end the gathering.
    enough: usize,
    /// The thread waits for the first write.
    idle: AtomicBool,
    /// The thread should not go on gathering.
    urgent: AtomicBool,
    room: Notify,
}

/// Requests that wait, each behind the batch that was the newest when it was made.
#[derive(Default)]
struct Requests {
    waiting: Vec<(Sequence, Request)>,
    /// The last handle is gone: commit what is left and end.
    abandoned: bool,
    /// The thread has ended: nobody will answer.
    ended: bool,
}

/// What is done between commits, once everything written before has been committed.
pub(super) enum Request {
    View(Reply<View>),
    Persist(Reply<()>),
    /// Tells the asker that the thread stands still, and holds it until the second channel says (or is dropped).
    Pause(Reply<()>, std::sync::mpsc::Receiver<()>),
    Close(Reply<()>),
}

/// The handle of the data thread.
pub(super) struct Committer(DataThread);

impl Shared {
    pub(super) fn new(db: Database, data: Keyspace, options: &Options) -> Self {
        Self {
            tables: Mutex::new(TableWatch::new(&data)),
            pace: Pace::default(),
            fetches: Fetches::default(),
            db,
            data,
            pending: RwLock::new(Pending::new(options.row_cache_bytes)),
            failure: watch::Sender::new(None),
            requests: Mutex::default(),
            bytes: AtomicUsize::new(0),
            enough: ENOUGH_BYTES.min(options.overlay_bytes / 4),
            idle: AtomicBool::new(false),
            urgent: AtomicBool::new(false),
            room: Notify::new(),
        }
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Why requests are not answered any more.
    pub(super) fn failed(&self) -> Error {
        self.failure.borrow().clone().unwrap_or(Error::Closed)
    }

    pub(super) async fn room(&self, bound: usize) {
        if self.pending_bytes() > bound {
            metrics::stalled(Stall::Overlay);
        }
        while self.pending_bytes() > bound {
            let notified = self.room.notified();
            // Checked again once registered: the last bytes, or the thread, may have gone in between.
            if self.pending_bytes() <= bound || self.requests.lock().ended {
                return;
            }
            notified.await;
        }
    }
}

impl Committer {
    /// Starts the thread on a database that holds `commits` batches, all of them on disk.
    pub(super) fn start(
        shared: Arc<Shared>,
        options: &Options,
        commits: u64,
        acknowledged: Acknowledged,
    ) -> io::Result<Self> {
        let worker = Worker {
            memtable: MemtableBound::new(&shared.data, options.memtable_bytes.max(1 << 20)),
            shared,
            gather: options.gather,
            commits,
            durable: commits,
            acknowledged,
        };
        DataThread::start(worker).map(Self)
    }

    pub(super) fn write(&self, shared: &Shared, batch: Batch) {
        // Counted before it is queued: the thread may commit it, and count it off, at once.
        let added = batch.bytes();
        let bytes = shared.bytes.fetch_add(added, Ordering::Relaxed) + added;
        shared.pending.write().write(batch);
        let enough = bytes > shared.enough && !shared.urgent.swap(true, Ordering::SeqCst);
        let idle = shared.idle.load(Ordering::SeqCst) && shared.idle.swap(false, Ordering::SeqCst);
        if enough || idle {
            self.0.wake();
        }
    }

    pub(super) fn request(&self, shared: &Shared, request: Request) {
        let after = shared.pending.read().last();
        let mut requests = shared.requests.lock();
        if requests.ended {
            return; // Dropping the request answers it.
        }
        requests.waiting.push((after, request));
        drop(requests);
        shared.urgent.store(true, Ordering::SeqCst);
        self.0.wake();
    }

    /// Waits for the thread, which has answered [`Request::Close`].
    pub(super) fn join(&self) {
        self.0.join();
    }
}

impl Committer {
    /// Tells the thread that the last handle is gone.
    pub(super) fn abandon(&self, shared: &Shared) {
        shared.requests.lock().abandoned = true;
        self.0.wake();
    }
}

/// The data thread's own state.
pub(super) struct Worker {
    shared: Arc<Shared>,
    memtable: MemtableBound,
    gather: Duration,
    /// Batches committed over the life of the directory.
    commits: u64,
    /// How many of them are known to be on disk.
    durable: u64,
    /// Where that is noted.
    acknowledged: Acknowledged,
}

impl Worker {
    pub(super) fn run(mut self) {
        let outcome = self.serve();
        self.end(outcome);
    }

    fn end(&self, outcome: Result<(), Error>) {
        if let Err(error) = outcome {
            super::note(&self.shared.failure, error);
        }
        let mut requests = self.shared.requests.lock();
        requests.ended = true;
        requests.waiting.clear();
        drop(requests);
        self.shared.room.notify_waiters();
    }

    fn serve(&mut self) -> Result<(), Error> {
        while self.wait() {
            if self.round()? {
                break;
            }
        }
        Ok(())
    }

    /// Commits what there is and answers who waited for that. True when the thread is to end.
    fn round(&mut self) -> Result<bool, Error> {
        let drained = self.shared.pending.write().drain(MAX_COMMIT_BYTES);
        self.commit(&drained)?;
        self.answer(drained.upto)
    }

    /// Waits for the first write or request, then for more writes. False when nothing will ever come.
    fn wait(&self) -> bool {
        let shared = &*self.shared;
        while !self.has_work() {
            if shared.requests.lock().abandoned {
                return false;
            }
            shared.idle.store(true, Ordering::SeqCst);
            // Checked again: a write that came before the flag did not wake us. (Being abandoned always does.)
            if !self.has_work() {
                thread::park();
            }
            shared.idle.store(false, Ordering::SeqCst);
        }
        let deadline = clock::now() + self.gather;
        while !shared.urgent.load(Ordering::SeqCst) && shared.pending_bytes() <= shared.enough {
            let left = deadline.saturating_duration_since(clock::now());
            if left.is_zero() {
                break;
            }
            thread::park_timeout(left);
        }
        // Whoever set it has queued its request or batch before, so this round takes care of it.
        shared.urgent.store(false, Ordering::SeqCst);
        true
    }

    fn has_work(&self) -> bool {
        let written = !self.shared.pending.read().is_drained();
        written || !self.shared.requests.lock().waiting.is_empty()
    }

    fn commit(&mut self, drained: &Drained) -> Result<(), Error> {
        if drained.bytes == 0 {
            return Ok(());
        }
        let shared = &*self.shared;
        let coalesced = drained.coalesce();
        let batch = OwnedWriteBatch::with_capacity(shared.db.clone(), coalesced.len() + 1);
        let mut batch = batch.durability(Some(PersistMode::Buffer));
        batch.insert(&shared.data, SEAL_KEY, self.seal().encode());
        let mut bytes = 0;
        let apart = crate::failpoint::applied_is_written_apart();
        for row in coalesced.rows() {
            if apart && keys::range_of_row(&row.key).is_none() {
                continue;
            }
            bytes += row.key.len() + row.value.as_ref().map_or(0, Bytes::len);
            put(&mut batch, &shared.data, row);
        }
        batch.commit()?;
        if apart {
            let mut rest = OwnedWriteBatch::with_capacity(shared.db.clone(), coalesced.len());
            let behind = coalesced
                .rows()
                .filter(|row| keys::range_of_row(&row.key).is_none());
            behind.for_each(|row| put(&mut rest, &shared.data, row));
            rest.durability(Some(PersistMode::Buffer)).commit()?;
        }
        self.memtable.keep()?;
        failpoint::reached(Step::DataWritten);
        self.commits += 1;
        disk::written(disk::Kind::Wal, bytes as u64);

        // Once even if no row passes: it is also where the overlay learns how far the database is.
        let mut passing = coalesced.passing().peekable();
        loop {
            let rows = passing.by_ref().take(RETIRE_ROWS);
            shared.pending.write().retire(rows, drained.upto);
            if passing.peek().is_none() {
                break;
            }
        }
        while shared.pending.write().tidy() {}
        shared.bytes.fetch_sub(drained.bytes, Ordering::Relaxed);
        shared.room.notify_waiters();
        Ok(())
    }

    /// Ties the next batch to its place in the journal.
    fn seal(&self) -> Seal {
        Seal {
            commit: self.commits + 1,
            durable: self.durable,
            floor: self.shared.db.seqno(),
        }
    }

    /// Answers the requests that everything up to `upto` satisfies. True when the thread is to end.
    fn answer(&mut self, upto: Sequence) -> Result<bool, Error> {
        let due = {
            let waiting = &mut self.shared.requests.lock().waiting;
            let (due, later) = mem::take(waiting)
                .into_iter()
                .partition(|(after, _)| *after <= upto);
            *waiting = later;
            if !waiting.is_empty() {
                self.shared.urgent.store(true, Ordering::SeqCst);
            }
            due
        };
        self.perform(due)
    }

    /// One sync and one snapshot serve all who ask together. A receiver that is gone needs no answer.
    fn perform(&mut self, due: Vec<(Sequence, Request)>) -> Result<bool, Error> {
        let Shared {
            db, data, failure, ..
        } = &*self.shared;
        if due
            .iter()
            .any(|(_, request)| matches!(request, Request::Persist(_) | Request::Close(_)))
        {
            db.persist(PersistMode::SyncData)?;
            failpoint::reached(Step::DataSynced);
            self.durable = self.commits;
            self.acknowledged
                .record(self.durable)
                .map_err(|error| Error::File {
                    what: "noting what is on disk".to_owned(),
                    error: error.into(),
                })?;
        }
        let mut view = None;
        let mut closing = Vec::new();
        for (_, request) in due {
            match request {
                Request::Persist(reply) => drop(reply.send(Ok(()))),
                Request::View(reply) => {
                    let view =
                        view.get_or_insert_with(|| View::new(db.snapshot(), data.clone(), failure.clone()));
                    drop(reply.send(Ok(view.clone())));
                }
                Request::Pause(reply, resume) => {
                    // Views opened before and after a pause differ.
                    view = None;
                    if reply.send(Ok(())).is_ok() {
                        let _ = resume.recv();
                    }
                }
                Request::Close(reply) => closing.push(reply),
            }
        }
        let close = !closing.is_empty();
        for reply in closing {
            drop(reply.send(Ok(())));
        }
        Ok(close)
    }
}

fn put(batch: &mut OwnedWriteBatch, data: &Keyspace, row: &Row) {
    match &row.value {
        Some(value) => batch.insert(data, row.key.clone(), value.clone()),
        None => batch.remove(data, row.key.clone()),
    }
}

#[cfg(feature = "simulation")]
impl Worker {
    /// As [`run`](Self::run), in a task.
    pub(super) async fn run_simulated(mut self, woken: Arc<Notify>) {
        let outcome = self.serve_simulated(&woken).await;
        self.end(outcome);
    }

    async fn serve_simulated(&mut self, woken: &Notify) -> Result<(), Error> {
        loop {
            while !self.has_work() {
                if self.shared.requests.lock().abandoned {
                    return Ok(());
                }
                self.shared.idle.store(true, Ordering::SeqCst);
                woken.notified().await;
            }
            let shared = self.shared.clone();
            let gathering = async {
                while !shared.urgent.load(Ordering::SeqCst) && shared.pending_bytes() <= shared.enough {
                    woken.notified().await;
                }
            };
            // When it takes too long, that is enough.
            let _ = clock::timeout(self.gather, gathering).await;
            shared.urgent.store(false, Ordering::SeqCst);
            if self.round()? {
                return Ok(());
            }
        }
    }
}
