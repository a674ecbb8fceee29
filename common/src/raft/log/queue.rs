//! What waits for the committer.
//!
//! A mutex and a condition variable around a vector that is swapped as a whole: the committer is a plain thread, and while
//! it is in an fsync everything that arrives piles up here and goes into its next batch. An idle committer is not woken by
//! the first write but once the tasks that are ready have had their turn: on few processors it would otherwise sync that
//! one write, and make the others wait for a second fsync.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::storage::IOFlushed;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use crate::clock::Instant;
use crate::raft::types::{TypeConfig, Vote};

use super::database::Row;
use super::error::Error;
use super::group::Group;
use super::metrics::Metrics;
use super::news::Waiter;
use super::state::Stored;
use super::sweep::SweepOrder;

/// What goes into one batch, in bytes, a single larger write apart.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// What may wait, in bytes, before [`Queue::admit`] makes callers wait.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// What a write costs besides its rows.
const WRITE_OVERHEAD_BYTES: usize = 256;

/// Rows that belong into one batch, and who waits for them.
pub(super) struct Write {
    pub(super) rows: Vec<Row>,
    /// Entries among the rows.
    pub(super) entries: usize,
    /// Whether the batch must be fsynced.
    pub(super) durable: bool,
    pub(super) sweep: Option<SweepOrder>,
    pub(super) done: Done,
}

/// What to do once a write is in the database, or durable if it asked for that. Whoever writes for a group holds on to it
/// here, so that a group is never loaded anew while the database lacks some of its writes.
pub(super) enum Done {
    /// Nobody waits.
    Unwatched { _group: Arc<Group> },
    /// Entries were appended.
    Append {
        group: Arc<Group>,
        stored: Stored,
        callback: IOFlushed<TypeConfig>,
        since: Instant,
    },
    /// A vote was saved.
    Vote {
        group: Arc<Group>,
        vote: Vote,
        waiter: oneshot::Sender<Result<(), Error>>,
    },
    /// Somebody waits for anything else.
    Waiter(oneshot::Sender<Result<(), Error>>),
}

impl Write {
    /// What the write counts for in the bounds.
    pub(super) fn bytes(&self) -> usize {
        WRITE_OVERHEAD_BYTES + self.rows.iter().map(Row::bytes).sum::<usize>()
    }
}

impl Done {
    /// Notes the success in the group's state, and returns who is to be told of it.
    pub(super) fn succeed(self, now: Instant, metrics: &Metrics) -> Option<Waiter> {
        match self {
            Self::Unwatched { .. } => None,
            Self::Append {
                group,
                stored,
                callback,
                since,
            } => {
                group.entries_stored(stored);
                metrics.observe_append(now.saturating_duration_since(since));
                Some(Waiter::Append(callback))
            }
            Self::Vote { group, vote, waiter } => {
                group.vote_stored(vote);
                Some(Waiter::Caller(waiter))
            }
            Self::Waiter(waiter) => Some(Waiter::Caller(waiter)),
        }
    }

    pub(super) fn fail(self, error: Error) {
        let waiter = match self {
            Self::Unwatched { .. } => return,
            Self::Append { callback, .. } => Waiter::Append(callback),
            Self::Vote { waiter, .. } | Self::Waiter(waiter) => Waiter::Caller(waiter),
        };
        waiter.tell(Err(error));
    }
}

/// How a [`Queue::take`] ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// With writes.
    Writes,
    /// With none, and the caller did not want to wait.
    Nothing,
    /// With none, and there will be no more.
    Closed,
}

#[derive(Default)]
struct Pending {
    writes: Vec<Write>,
    bytes: usize,
    /// Why nothing more is taken.
    closed: Option<Error>,
}

/// The queue.
#[derive(Default)]
pub(super) struct Queue {
    pending: Mutex<Pending>,
    filled: Condvar,
    drained: Notify,
    /// Asks the runtime's task to wake the committer, while there is one.
    first: Notify,
    has_waker: AtomicBool,
}

/// Wakes the committer from a runtime's task, see [`Queue::wake_from`]. When the runtime ends, so does this.
struct Waker(Arc<Queue>);

impl Drop for Waker {
    fn drop(&mut self) {
        self.0.has_waker.store(false, Ordering::SeqCst);
        self.0.filled.notify_one();
    }
}

impl Queue {
    /// Has the committer woken by a task of this runtime, once the tasks that were ready have run: what several groups
    /// write in one go is then one batch with one fsync, not a first write and the rest.
    pub(super) fn wake_from(self: &Arc<Self>, runtime: &Handle) {
        self.has_waker.store(true, Ordering::SeqCst);
        #[cfg(feature = "simulation")]
        if crate::simulation::is_on() {
            return; // The committer is a task itself, and waits in `filled`.
        }
        let waker = Waker(Arc::clone(self));
        runtime.spawn(async move {
            while !waker.0.is_closed() {
                waker.0.first.notified().await;
                tokio::task::yield_now().await;
                waker.0.filled.notify_one();
            }
        });
    }

    /// Returns once the committer may find something to do. To be asked by a task, in the place of waiting in
    /// [`take`](Self::take).
    #[cfg(feature = "simulation")]
    pub(super) async fn filled(&self) {
        self.first.notified().await;
    }

    fn is_closed(&self) -> bool {
        self.pending.lock().closed.is_some()
    }

    /// Returns at once unless too much waits.
    pub(super) async fn admit(&self) -> Result<(), Error> {
        loop {
            let drained = self.drained.notified();
            {
                let pending = self.pending.lock();
                if let Some(error) = &pending.closed {
                    return Err(error.clone());
                }
                if pending.bytes < QUEUE_BYTES {
                    return Ok(());
                }
            }
            drained.await;
        }
    }

    /// Adds a write behind all others. When the queue is closed the write fails, and whoever waits for it is told.
    pub(super) fn push(&self, write: Write) -> Result<(), Error> {
        let mut pending = self.pending.lock();
        if let Some(error) = pending.closed.clone() {
            drop(pending);
            write.done.fail(error.clone());
            return Err(error);
        }
        pending.bytes += write.bytes();
        let was_empty = pending.writes.is_empty();
        pending.writes.push(write);
        drop(pending);
        if was_empty {
            if self.has_waker.load(Ordering::SeqCst) {
                self.first.notify_one();
            } else {
                self.filled.notify_one();
            }
        }
        Ok(())
    }

    /// Moves the oldest writes, one batch of them, into `writes`, which is empty. Waits for some if `wait`.
    pub(super) fn take(&self, writes: &mut Vec<Write>, wait: bool) -> Taken {
        let mut pending = self.pending.lock();
        while pending.writes.is_empty() {
            if pending.closed.is_some() {
                return Taken::Closed;
            }
            if !wait {
                return Taken::Nothing;
            }
            self.filled.wait(&mut pending);
        }
        if pending.bytes <= BATCH_BYTES {
            mem::swap(&mut pending.writes, writes);
            pending.bytes = 0;
        } else {
            let (count, bytes) = first_batch(&pending.writes);
            writes.extend(pending.writes.drain(..count));
            pending.bytes -= bytes;
        }
        drop(pending);
        self.drained.notify_waiters();
        Taken::Writes
    }

    /// Refuses every later write with `error`; what waits already is still handed out.
    pub(super) fn close(&self, error: Error) {
        self.pending.lock().closed.get_or_insert(error);
        self.filled.notify_one();
        self.first.notify_one();
        self.drained.notify_waiters();
    }

    /// Refuses every later write with `error` and fails what waits already.
    pub(super) fn abort(&self, error: &Error) {
        let stranded = {
            let mut pending = self.pending.lock();
            pending.closed = Some(error.clone());
            pending.bytes = 0;
            mem::take(&mut pending.writes)
        };
        self.first.notify_one();
        self.drained.notify_waiters();
        stranded
            .into_iter()
            .for_each(|write| write.done.fail(error.clone()));
    }
}

/// How many of the writes make a batch, at least one, and their bytes.
fn first_batch(writes: &[Write]) -> (usize, usize) {
    let mut bytes = 0;
    for (count, write) in writes.iter().enumerate() {
        let more = write.bytes();
        if count > 0 && bytes + more > BATCH_BYTES {
            return (count, bytes);
        }
        bytes += more;
    }
    (writes.len(), bytes)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::FutureExt;

    use super::*;
    use crate::raft::log::database::Space;

    const MIB: usize = 1024 * 1024;

    /// A write of so many bytes, and what it is told.
    fn write(bytes: usize) -> (Write, oneshot::Receiver<Result<(), Error>>) {
        let row = Row {
            space: Space::Log,
            key: Bytes::from(vec![0; bytes]),
            value: None,
        };
        let (waiter, told) = oneshot::channel();
        let done = Done::Waiter(waiter);
        (
            Write {
                rows: vec![row],
                entries: 1,
                durable: true,
                sweep: None,
                done,
            },
            told,
        )
    }

    fn filled(sizes: &[usize]) -> (Queue, Vec<oneshot::Receiver<Result<(), Error>>>) {
        let queue = Queue::default();
        let told = sizes.iter().map(|&bytes| {
            let (write, told) = write(bytes);
            queue.push(write).expect("open");
            told
        });
        let told = told.collect();
        (queue, told)
    }

    /// Sizes of the writes that make the next batch.
    fn batch(queue: &Queue) -> Vec<usize> {
        let mut writes = Vec::new();
        queue.take(&mut writes, false);
        writes
            .iter()
            .map(|write| write.bytes() - WRITE_OVERHEAD_BYTES)
            .collect()
    }

    #[test]
    fn what_fits_goes_into_one_batch_in_order() {
        let (queue, _told) = filled(&[1, 2, 3]);
        assert_eq!(batch(&queue), [1, 2, 3]);
        assert_eq!(queue.take(&mut Vec::new(), false), Taken::Nothing);
    }

    #[test]
    fn a_batch_is_bounded_and_a_larger_write_goes_alone() {
        let (queue, _told) = filled(&[MIB, MIB, 3 * MIB, 9 * MIB, 1]);
        assert_eq!(batch(&queue), [MIB, MIB]);
        assert_eq!(batch(&queue), [3 * MIB]);
        assert_eq!(batch(&queue), [9 * MIB]);
        assert_eq!(batch(&queue), [1]);
    }

    #[test]
    fn the_committer_is_woken_by_the_runtime_and_without_it_once_that_is_gone() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let queue = Arc::new(Queue::default());
        queue.wake_from(runtime.handle());
        let (batches, taken) = std::sync::mpsc::channel();
        let taker = Arc::clone(&queue);
        let committer = std::thread::spawn(move || {
            let mut writes = Vec::new();
            while taker.take(&mut writes, true) == Taken::Writes {
                batches.send(writes.drain(..).count()).expect("heard");
            }
        });
        queue.push(write(1).0).expect("open");
        // The task gets its turns while the runtime runs.
        while taken.try_recv().is_err() {
            runtime.block_on(tokio::task::yield_now());
        }
        drop(runtime);
        queue.push(write(2).0).expect("open");
        assert_eq!(taken.recv(), Ok(1));
        queue.close(Error::Closed);
        committer.join().expect("ended");
    }

    #[tokio::test]
    async fn the_task_that_wakes_ends_with_the_queue() {
        let queue = Arc::new(Queue::default());
        queue.wake_from(&Handle::current());
        tokio::task::yield_now().await;
        assert_eq!(Arc::strong_count(&queue), 2);
        queue.close(Error::Closed);
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(Arc::strong_count(&queue), 1);
    }

    #[tokio::test]
    async fn a_full_queue_admits_nobody_until_it_is_drained() {
        let (queue, _told) = filled(&[QUEUE_BYTES]);
        let mut admission = Box::pin(queue.admit());
        assert_eq!((&mut admission).now_or_never(), None);
        batch(&queue);
        assert_eq!(admission.await, Ok(()));
    }

    #[tokio::test]
    async fn a_closed_queue_still_hands_out_what_it_has() {
        let (queue, _told) = filled(&[1]);
        queue.close(Error::Closed);
        let (late, told) = write(2);
        assert_eq!(queue.push(late), Err(Error::Closed));
        assert_eq!(told.await.expect("told"), Err(Error::Closed));
        assert_eq!(queue.admit().await, Err(Error::Closed));
        assert_eq!(batch(&queue), [1]);
        assert_eq!(queue.take(&mut Vec::new(), true), Taken::Closed);
    }

    #[tokio::test]
    async fn an_aborted_queue_fails_what_it_has() {
        let (queue, told) = filled(&[1, 2]);
        let error = Error::Failed("disk".to_owned());
        queue.abort(&error);
        for told in told {
            assert_eq!(told.await.expect("told"), Err(error.clone()));
        }
        assert_eq!(queue.take(&mut Vec::new(), true), Taken::Closed);
    }
}
