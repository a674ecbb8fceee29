//! From the directory to memory: opening the log, and loading a group from it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use tokio::runtime::Handle;

use crate::raft::journal::{self, Acknowledged, SEAL_KEY, Seal};
use crate::raft::lsm::MemtableBound;
use crate::raft::tables::TableWatch;
use crate::raft::types::Entry;

use super::cache::Budget;
use super::committer::Committer;
use super::database::{Database, KEYSPACES};
use super::error::Error;
use super::health::Health;
use super::keys::{self, GroupId, GroupRow};
use super::metrics::Metrics;
use super::queue::Queue;
use super::records::{self, Malformed};
use super::state::State;
use super::sweep::{Sweep, Sweeps};
use super::{OpenError, Options, Shared, format};

/// An open log whose committer has not been started.
pub(super) struct Opened {
    pub(super) shared: Shared,
    pub(super) committer: Committer,
}

/// Opens the log in `dir`, or creates it.
pub(super) fn open(dir: &Path, options: Options) -> Result<Opened, OpenError> {
    format::claim(dir)?;
    journal::check(dir, KEYSPACES)?.require_intact()?;
    let database = Arc::new(Database::open(dir, &options)?);
    let (acknowledged, promised) = Acknowledged::open(dir)?;
    let damaged = |why: String| OpenError::Damaged {
        file: dir.to_owned(),
        offset: 0,
        why,
    };
    let last = last_commit(&database).map_err(|error| damaged(error.to_string()))?;
    journal::require_all(dir, last, promised)?;
    let sweeps = unfinished_sweeps(&database).map_err(|error| damaged(error.to_string()))?;
    let queue = Arc::new(Queue::default());
    let runtime = Handle::try_current().ok();
    if let Some(runtime) = &runtime {
        queue.wake_from(runtime);
    }
    let health = Arc::new(Health::new());
    let commits = Arc::new(AtomicU64::new(last));
    let metrics = Metrics::new();
    let tables = database.keyspaces().map(TableWatch::new);
    let memtables = database
        .keyspaces()
        .map(|keyspace| MemtableBound::new(keyspace, options.memtable_bytes));
    let committer = Committer {
        database: Arc::clone(&database),
        queue: Arc::clone(&queue),
        health: Arc::clone(&health),
        acknowledged,
        metrics: metrics.clone(),
        runtime,
        sweeps,
        memtables,
        commits: Arc::clone(&commits),
        durable: last,
    };
    let shared = Shared {
        database,
        queue,
        health,
        budget: Arc::new(Budget::new(options.total_cache_bytes, options.group_cache_bytes)),
        groups: Mutex::new(HashMap::new()),
        commits,
        metrics,
        tables: Mutex::new(tables),
    };
    Ok(Opened { shared, committer })
}

/// Every group that has a row, in order.
pub(super) fn groups(database: &Database) -> Result<Vec<GroupId>, Error> {
    let mut groups = Vec::new();
    for row in database.scan(keys::GROUP_PREFIX) {
        let group =
            keys::group_of(&row?.0).ok_or_else(|| Error::Failed("a row without a group".to_owned()))?;
        if groups.last() != Some(&group) {
            groups.push(group);
        }
    }
    Ok(groups)
}

impl Shared {
    /// A group as it is stored, or none if it never was. Nothing may be queued for it.
    pub(super) fn load(&self, group: GroupId) -> Result<Option<State>, Error> {
        let database = &self.database;
        if read(database, group, GroupRow::Dropping, |_| Ok(()))?.is_some() {
            return Err(Error::Dropped(group));
        }
        let Some(purged) = read(database, group, GroupRow::Purged, records::decode_purged)? else {
            return Ok(None);
        };
        let vote = read(database, group, GroupRow::Vote, records::decode_vote)?;
        let first = purged.map_or(0, |purged| purged.index.saturating_add(1));
        let mut entries = database.entries(group, first, u64::MAX);
        let Some(last) = entries.next_back().transpose()? else {
            return Ok(Some(State::stored(
                group,
                vote,
                purged,
                None,
                Arc::clone(&self.budget),
            )));
        };
        let oldest = entries.next().transpose()?.map_or(last.0, |(index, _)| index);
        if purged.is_some() && oldest != first {
            return Err(Error::Corrupt {
                group,
                what: format!("entry {first} is missing"),
            });
        }
        let last = records::decode_entry(last.0, &last.1)
            .map_err(|e| corrupt(group, e))?
            .log_id;
        Ok(Some(State::stored(
            group,
            vote,
            purged,
            Some((oldest, last)),
            Arc::clone(&self.budget),
        )))
    }
}

impl Shared {
    /// Shows every entry of a group, in order.
    pub(super) fn read_entries(&self, group: GroupId, mut look: impl FnMut(&Entry)) -> Result<(), Error> {
        let Some(bounds) = self.load(group)?.map(|state| state.bounds()) else {
            return Ok(());
        };
        let Some(last) = bounds.last else { return Ok(()) };
        let first = bounds.purged.map_or(0, |purged| purged.index.saturating_add(1));
        let mut expected = None;
        for row in self.database.entries(group, first, last.index) {
            let (index, row) = row?;
            if expected.is_some_and(|expected| expected != index) {
                return Err(Error::Corrupt {
                    group,
                    what: format!(
                        "entry {index} comes after entry {}",
                        expected.unwrap_or(index) - 1
                    ),
                });
            }
            expected = Some(index + 1);
            look(&records::decode_entry(index, &row).map_err(|error| corrupt(group, error))?);
        }
        Ok(())
    }
}

/// The number of the last batch, zero in a new database.
fn last_commit(database: &Database) -> Result<u64, Error> {
    match database.get(SEAL_KEY)? {
        None => Ok(0),
        Some(row) => Seal::decode(&row)
            .map(|seal| seal.commit)
            .ok_or_else(|| Error::Failed("the seal of the last batch makes no sense".to_owned())),
    }
}

/// Sweeps that a crash or a stop interrupted.
fn unfinished_sweeps(database: &Database) -> Result<Sweeps, Error> {
    let mut sweeps = Vec::new();
    for group in groups(database)? {
        let Some(Some(purged)) = read(database, group, GroupRow::Purged, records::decode_purged)? else {
            continue;
        };
        let swept = read(database, group, GroupRow::Swept, records::decode_swept)?;
        if swept.is_some_and(|swept| swept >= purged.index) {
            continue;
        }
        let mut left = database.indices(group, swept.map_or(0, |swept| swept + 1), purged.index);
        let first = left.next().transpose()?;
        let last = left.next_back().transpose()?.or(first);
        let (next, last) = first.zip(last).unwrap_or((1, 0));
        sweeps.push(Sweep {
            group,
            next,
            last,
            purged: purged.index,
        });
    }
    Ok(Sweeps::new(sweeps))
}

fn read<T>(
    database: &Database,
    group: GroupId,
    row: GroupRow,
    decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<Option<T>, Error> {
    let value = database.get(&keys::group_row(group, row))?;
    value
        .map(|value| decode(&value).map_err(|error| corrupt(group, error)))
        .transpose()
}

fn corrupt(group: GroupId, error: Malformed) -> Error {
    Error::Corrupt {
        group,
        what: error.to_string(),
    }
}
