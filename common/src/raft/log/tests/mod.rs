//! Tests of the whole log, over real directories.

mod damage;
mod durability;
mod failure;
mod groups;
mod reading;
mod suite;

use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;

use bytes::Bytes;
use openraft::RaftLogReader;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;

use super::{GroupLog, LogEngine, OpenError, Options, records};
use crate::ids::{RangeId, ReplicaId};
use crate::raft::types::{Command, Entry, LogId, Payload, TypeConfig};

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn open(dir: &Path) -> LogEngine {
    try_open(dir).expect("the log opens")
}

fn try_open(dir: &Path) -> Result<LogEngine, OpenError> {
    LogEngine::open(dir, Options::default())
}

/// The group of range `n`.
fn group(engine: &LogEngine, n: u64) -> GroupLog {
    engine.group(RangeId(n), ReplicaId(n + 1000), None)
}

fn id(term: u64, index: u64) -> LogId {
    records::log_id(term, index)
}

/// An entry whose command tells its term and index, filled up to `bytes`.
fn entry_of(term: u64, index: u64, bytes: usize) -> Entry {
    let mut command = format!("{term}/{index} ").into_bytes();
    command.resize(command.len().max(bytes), b'.');
    Entry {
        log_id: id(term, index),
        payload: Payload::Normal(Command(Bytes::from(command))),
    }
}

fn entry(term: u64, index: u64) -> Entry {
    entry_of(term, index, 0)
}

/// Queues entries; the future is done when they are durable.
async fn begin_append(
    log: &mut GroupLog,
    entries: Vec<Entry>,
) -> impl Future<Output = std::io::Result<()>> + use<> {
    let (sender, durable) = TypeConfig::oneshot();
    let queued = log.append(entries, IOFlushed::signal(sender)).await;
    async move {
        queued?;
        durable.await.expect("the callback is always called")
    }
}

async fn append(log: &mut GroupLog, entries: Vec<Entry>) {
    begin_append(log, entries).await.await.expect("appended");
}

async fn append_range(log: &mut GroupLog, term: u64, indices: RangeInclusive<u64>) {
    append(log, indices.map(|index| entry(term, index)).collect()).await;
}

/// Terms and indices of what the log has of a range, each entry's command verified.
async fn read(log: &GroupLog, range: std::ops::Range<u64>) -> Vec<(u64, u64)> {
    let entries = log.clone().try_get_log_entries(range).await.expect("readable");
    entries
        .into_iter()
        .map(|entry| {
            let (term, index) = (entry.log_id.leader_id.term, entry.log_id.index);
            let Payload::Normal(Command(command)) = entry.payload else {
                panic!("a command")
            };
            assert!(
                command.starts_with(format!("{term}/{index} ").as_bytes()),
                "{command:?} at {index}"
            );
            (term, index)
        })
        .collect()
}

async fn bounds(log: &GroupLog) -> (Option<LogId>, Option<LogId>) {
    let LogState {
        last_purged_log_id,
        last_log_id,
    } = log.clone().get_log_state().await.expect("a state");
    (last_purged_log_id, last_log_id)
}

fn span(term: u64, indices: RangeInclusive<u64>) -> Vec<(u64, u64)> {
    indices.map(|index| (term, index)).collect()
}

/// What the disk would hold if the process died now: a copy of its directory. The note of what was acknowledged goes
/// first, since a copy is no single moment and it must not promise more than the journal that is copied after it.
fn crash_copy(dir: &Path) -> TempDir {
    let copy = directory();
    for first in ["acknowledged", "FORMAT"] {
        fs::copy(dir.join(first), copy.path().join(first)).expect("copied");
    }
    copy_missing(dir, copy.path());
    copy
}

/// Copies what is not there yet. A file may vanish meanwhile: fjall deletes journals and tables that it no longer needs.
fn copy_missing(from: &Path, to: &Path) {
    for item in fs::read_dir(from).expect("a directory") {
        let item = item.expect("an entry");
        let target = to.join(item.file_name());
        if item.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::create_dir_all(&target).expect("created");
            copy_missing(&item.path(), &target);
        } else if !target.exists() {
            copy_sparse(&item.path(), &target);
        }
    }
}

/// Copies a file up to its last byte that is not zero, and the length: journals are 64 MiB, nearly all of it zeroes.
fn copy_sparse(from: &Path, to: &Path) {
    use std::os::unix::fs::FileExt;
    let Ok(source) = fs::File::open(from) else { return };
    let target = fs::File::create(to).expect("created");
    let len = source.metadata().expect("metadata").len();
    let mut part = vec![0; 1 << 16];
    let mut at = 0;
    loop {
        let count = source.read_at(&mut part, at).expect("read");
        if count == 0 || part[..count].iter().all(|&byte| byte == 0) {
            break;
        }
        target.write_all_at(&part[..count], at).expect("written");
        at += count as u64;
    }
    target.set_len(len).expect("sized");
}
