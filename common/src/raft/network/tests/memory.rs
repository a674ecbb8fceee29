//! A log and a state machine in memory, as small as openraft allows.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine};
use openraft::{OptionalSend, RaftLogReader, RaftSnapshotBuilder};
use parking_lot::Mutex;

use crate::raft::types::{
    Answer, Entry, LogId, Payload, Snapshot, SnapshotData, SnapshotMeta, Spool, StoredMembership, TypeConfig,
    Vote,
};

/// A log. Clones share it.
#[derive(Clone, Default)]
pub(super) struct MemoryLog(Arc<Mutex<LogInner>>);

#[derive(Default)]
struct LogInner {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, Entry>,
}

impl RaftLogReader<TypeConfig> for MemoryLog {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self
            .0
            .lock()
            .entries
            .range(range)
            .map(|(_, entry)| entry.clone())
            .collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for MemoryLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let log = self.0.lock();
        let last = log.entries.values().next_back().map(|entry| entry.log_id);
        Ok(LogState {
            last_purged_log_id: log.purged,
            last_log_id: last.or(log.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.0.lock().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.0
            .lock()
            .entries
            .extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.0
            .lock()
            .entries
            .split_off(&last.map_or(0, |last| last.index + 1));
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let mut log = self.0.lock();
        log.entries = log.entries.split_off(&(upto.index + 1));
        log.purged = Some(upto);
        Ok(())
    }
}

/// A state machine that remembers every command. Clones share it.
#[derive(Clone, Default)]
pub(super) struct MemoryMachine(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    applied: Option<LogId>,
    membership: StoredMembership,
    commands: Vec<Bytes>,
    /// Snapshots installed.
    installed: u64,
}

impl MemoryMachine {
    /// All commands applied, in order.
    pub(super) fn commands(&self) -> Vec<Bytes> {
        self.0.lock().commands.clone()
    }

    /// Snapshots installed so far.
    pub(super) fn installed(&self) -> u64 {
        self.0.lock().installed
    }

    fn snapshot(&self) -> Option<Snapshot> {
        let state = self.0.lock().clone();
        state.applied?;
        let meta = SnapshotMeta {
            last_log_id: state.applied,
            last_membership: state.membership,
        };
        Some(Snapshot {
            meta,
            snapshot: SnapshotData::Local(Arc::new(CommandFile(state.commands))),
        })
    }
}

/// Commands as a file: each with its length before it.
struct CommandFile(Vec<Bytes>);

impl Spool for CommandFile {
    fn spool(&self, path: &Path) -> io::Result<u64> {
        let mut content = Vec::new();
        for command in &self.0 {
            content.put_u32(command.len() as u32);
            content.put_slice(command);
        }
        let mut file = File::create_new(path)?;
        file.write_all(&content)?;
        file.sync_all()?;
        Ok(content.len() as u64)
    }
}

fn read_commands(mut content: Bytes) -> Vec<Bytes> {
    let mut commands = Vec::new();
    while content.has_remaining() {
        let len = content.get_u32() as usize;
        commands.push(content.split_to(len));
    }
    commands
}

impl RaftStateMachine<TypeConfig> for MemoryMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.0.lock();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            {
                let mut state = self.0.lock();
                state.applied = Some(entry.log_id);
                match entry.payload {
                    Payload::Blank => {}
                    Payload::Normal(command) => state.commands.push(command.0),
                    Payload::Membership(members) => {
                        state.membership = StoredMembership::new(Some(entry.log_id), members);
                    }
                }
            }
            if let Some(responder) = responder {
                responder.send(Answer::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let SnapshotData::Staged(path) = snapshot else {
            return Err(io::Error::other("not staged"));
        };
        let commands = read_commands(std::fs::read(&path)?.into());
        std::fs::remove_file(path)?;
        let mut state = self.0.lock();
        state.applied = meta.last_log_id;
        state.membership = meta.last_membership.clone();
        state.commands = commands;
        state.installed += 1;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshot())
    }
}

impl RaftSnapshotBuilder<TypeConfig> for MemoryMachine {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.snapshot().ok_or_else(|| io::Error::other("nothing applied"))
    }
}
