//! One group's log as openraft uses it.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use futures::Stream;
use openraft::storage::LeaderBoundedStreamError;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::clock;
use crate::raft::types::{Entry, LeaderId, LogId, TypeConfig, Vote};

use super::error::Error;
use super::keys::GroupId;
use super::queue::{Done, Write};
use super::reader::EntryStream;
use super::state::{State, Stored};
use super::sweep::SweepOrder;
use super::{Committing, Shared};

/// Most bytes of entries that one read for replication returns, unless a single entry is larger.
pub(super) const MAX_READ_BYTES: usize = 1024 * 1024;

/// A replica's log, vote and bounds: openraft's log storage and log reader. Clones share them.
#[derive(Clone)]
pub struct GroupLog {
    pub(super) group: Arc<Group>,
    pub(super) _committing: Arc<Committing>,
}

/// What the clones share.
pub(super) struct Group {
    pub(super) id: GroupId,
    pub(super) shared: Arc<Shared>,
    pub(super) state: Mutex<State>,
    /// Why the group could not be loaded.
    pub(super) unusable: Option<Error>,
}

impl Group {
    /// An error if the group or the whole log can no longer be used.
    pub(super) fn check(&self, state: &State) -> Result<(), Error> {
        if let Some(error) = &self.unusable {
            return Err(error.clone());
        }
        if state.is_dropped {
            return Err(Error::Dropped(self.id));
        }
        self.shared.health.check()
    }

    /// An append is in the database.
    pub(super) fn entries_stored(&self, stored: Stored) {
        self.state.lock().entries_stored(stored);
    }

    /// A vote is durable.
    pub(super) fn vote_stored(&self, vote: Vote) {
        self.state.lock().vote = Some(vote);
    }

    /// Changes the state and queues the write that makes the change last, so that writes queue up in the order of changes.
    fn write(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State) -> Result<Option<Write>, Error>,
    ) -> Result<(), Error> {
        let mut state = self.state.lock();
        self.check(&state)?;
        match change(&mut state)? {
            Some(write) => self.shared.queue.push(write),
            None => Ok(()),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.shared.forget(self.id);
    }
}

impl RaftLogReader<TypeConfig> for GroupLog {
    async fn leader_bounded_stream<RB>(
        &mut self,
        leader: LeaderId,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, LeaderBoundedStreamError<TypeConfig>>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        EntryStream::bounded_by(self.clone(), indices(&range), leader)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        EntryStream::new(self.clone(), indices(&range))
    }

    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        Ok(self.group.read(indices(&range), usize::MAX)?)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        Ok(self.group.read(start..end, MAX_READ_BYTES)?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        let state = self.group.state.lock();
        self.group.check(&state)?;
        Ok(state.vote)
    }
}

impl RaftLogStorage<TypeConfig> for GroupLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let state = self.group.state.lock();
        self.group.check(&state)?;
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.group.shared.queue.admit().await?;
        let (waiter, saved) = oneshot::channel();
        self.group.write(|state| {
            let done = Done::Vote {
                group: Arc::clone(&self.group),
                vote: *vote,
                waiter,
            };
            Ok(Some(Write {
                rows: state.save_vote(vote),
                entries: 0,
                durable: true,
                sweep: None,
                done,
            }))
        })?;
        Ok(saved.await.map_err(|_| Error::Closed)??)
    }

    /// The entries can be read when this returns; `callback` fires when they are durable.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let since = clock::now();
        let mut callback = Some(callback);
        let queued = match self.group.shared.queue.admit().await {
            Err(error) => Err(error),
            Ok(()) => self.group.write(|state| {
                let appended = state.append(entries.into_iter().collect())?;
                let group = Arc::clone(&self.group);
                let callback = callback.take().unwrap_or_else(IOFlushed::noop);
                let done = Done::Append {
                    group,
                    stored: appended.stored,
                    callback,
                    since,
                };
                Ok(Some(Write {
                    rows: appended.rows,
                    entries: appended.entries,
                    durable: true,
                    sweep: None,
                    done,
                }))
            }),
        };
        // What was refused before it was queued is refused through the callback too.
        if let (Err(error), Some(callback)) = (&queued, callback) {
            callback.io_completed(Err(error.clone().into()));
        }
        Ok(queued?)
    }

    /// Does not wait for the disk: whatever is appended next is behind it in the queue.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.group.shared.queue.admit().await?;
        Ok(self.group.write(|state| {
            let rows = state.truncate_after(last_log_id);
            let done = Done::Unwatched {
                _group: Arc::clone(&self.group),
            };
            Ok((!rows.is_empty()).then_some(Write {
                rows,
                entries: 0,
                durable: true,
                sweep: None,
                done,
            }))
        })?)
    }

    /// Does not wait for the disk, nor for the entries to be deleted.
    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.group.shared.queue.admit().await?;
        Ok(self.group.write(|state| {
            Ok(state.purge(log_id).map(|purged| Write {
                rows: purged.rows,
                entries: 0,
                durable: false,
                sweep: Some(SweepOrder::Begin(purged.sweep)),
                done: Done::Unwatched {
                    _group: Arc::clone(&self.group),
                },
            }))
        })?)
    }
}

/// The indices in any kind of range.
fn indices(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}
