//! Opening the database.

use std::path::Path;

use holdfast_common::raft::journal::{self, Acknowledged, SEAL_KEY, Seal};
use holdfast_common::raft::lsm::{self, Database, Keyspace};

use super::Options;
use super::error::OpenError;
use crate::damage::Damage;

/// Name of the keyspace.
const KEYSPACE: &str = "data";

/// An open database.
pub(super) struct Opened {
    pub(super) db: Database,
    pub(super) data: Keyspace,
    /// Batches committed over the life of the directory; all that are left are on disk.
    pub(super) commits: u64,
    /// Where it is noted which of them were known to be.
    pub(super) acknowledged: Acknowledged,
}

/// Checks the journal, cuts off what a crash left unfinished, and opens or creates the database.
///
/// Losing the unsynced end of the journal is nothing bad here. Losing what had been synced is: the check sees it by the
/// seal that every batch carries, and that nothing is missing at the end tells the note of what was synced last.
pub(super) fn open(dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    journal::check(dir, 1)?.require_intact()?;
    let refused = |error| OpenError::Refused {
        path: dir.to_owned(),
        error,
    };
    let configured = |builder: lsm::Builder| {
        builder
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.journal_bytes.max(64 << 20))
            .worker_threads(options.worker_threads.max(1))
            .manual_journal_persist(true)
    };
    let db = lsm::open(dir, configured).map_err(refused)?;
    let data = db.keyspace(KEYSPACE, lsm::bounded_elsewhere).map_err(refused)?;
    let commits = match data.get(SEAL_KEY).map_err(refused)? {
        None => 0,
        Some(row) => {
            Seal::decode(&row)
                .ok_or_else(|| Damage::new("seal", "it makes no sense"))?
                .commit
        }
    };
    let (acknowledged, promised) = Acknowledged::open(dir)?;
    journal::require_all(dir, commits, promised)?;
    Ok(Opened {
        db,
        data,
        commits,
        acknowledged,
    })
}
