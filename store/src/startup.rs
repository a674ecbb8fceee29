//! What a start finds on disk: the replicas to run, after unfinished work is finished and the two databases are found to
//! fit together.
//!
//! The data is not synced as it is written, so after a power cut it may be older than the log; the log is replayed. Two
//! things can't be: data older than what the log still holds ([`Error::Rewound`]), and two ranges over one key.

use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::key::Span;
use holdfast_common::raft::log::{LogBounds, LogEngine};
use holdfast_common::raft::types::LogId;

use crate::damage::Damage;
use crate::destroy;
use crate::engine::{self, Engine};
use crate::keys;
use crate::ledger::{self, Ledger};
use crate::machine::birth_log_id;
use crate::row::RangeRow;
use crate::takeover;

/// Why a store must not start on what it found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data misses entries that the log has dropped.
    #[error(
        "the data of range {range} (replica {replica}) ends at entry {applied}, but its log begins behind entry {purged}: \
         the data database has lost synced writes. Move the store's directory aside and start with an empty one; the \
         store rejoins as a new one and its replicas are rebuilt from their peers"
    )]
    Rewound {
        /// The range.
        range: RangeId,
        /// The replica.
        replica: ReplicaId,
        /// The last entry that the data holds; 0 for none.
        applied: u64,
        /// The last entry that the log has dropped.
        purged: u64,
    },
    /// Two ranges claim the same keys.
    #[error(
        "ranges {0} and {1} overlap in the data database: move the store's directory aside and start with an empty one"
    )]
    Overlap(RangeId, RangeId),
    /// A row does not decode.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The data database failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The log's database failed.
    #[error(transparent)]
    Log(#[from] holdfast_common::raft::log::Error),
    /// The store's records failed.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// An unfinished destruction could not be finished.
    #[error(transparent)]
    Destroy(#[from] destroy::Error),
}

impl Error {
    /// Whether it says that what is on disk is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Rewound { .. } | Self::Overlap(..) | Self::Damaged(_) => true,
            Self::Engine(error) => error.is_damage(),
            Self::Log(error) => error.is_damage(),
            Self::Ledger(error) => error.is_damage(),
            Self::Destroy(error) => error.is_damage(),
        }
    }
}

/// A replica with data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The range.
    pub range: RangeId,
    /// The replica.
    pub replica: ReplicaId,
    /// The last entry that the data holds; none when nothing was applied.
    pub applied: Option<LogId>,
    /// What it holds.
    pub span: Span,
}

/// What a start finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Replicas to run, in the order of their ranges.
    pub stored: Vec<Stored>,
    /// Replicas to run that have a vote or a log, and wait for their first snapshot.
    pub empty: Vec<(RangeId, ReplicaId)>,
    /// Replicas born of a split that the data has lost with a power cut. They must not run: the parent will apply the
    /// split again and bring them back, with the log and the vote that they have.
    pub unborn: Vec<(RangeId, ReplicaId)>,
}

/// Finishes what a crash interrupted, and finds the replicas.
pub async fn recover(engine: &Engine, log: &LogEngine, ledger: &Ledger) -> Result<Found, Error> {
    destroy::resume(engine, log, ledger).await?;
    takeover::resume(engine, log, ledger).await?;
    let mut found = Found {
        stored: stored(engine).await?,
        ..Found::default()
    };
    for index in (0..found.stored.len()).rev() {
        let Stored { range, replica, .. } = found.stored[index];
        if ledger.buried(replica) {
            // Its rows were gone, and a damaged journal brought them back.
            destroy::destroy(engine, log, ledger, range, replica).await?;
            found.stored.remove(index);
        }
    }
    no_overlap(&found.stored)?;
    for Stored {
        range,
        replica,
        applied,
        ..
    } in &found.stored
    {
        fits(*range, *replica, *applied, log.log_bounds(*range, *replica)?)?;
    }
    for (range, replica) in log.groups()? {
        if ledger.buried(replica) || found.stored.iter().any(|stored| stored.replica == replica) {
            continue;
        }
        match log.log_bounds(range, replica)?.purged {
            None => found.empty.push((range, replica)),
            Some(purged) if purged == birth_log_id() => found.unborn.push((range, replica)),
            Some(purged) => {
                return Err(Error::Rewound {
                    range,
                    replica,
                    applied: 0,
                    purged: purged.index,
                });
            }
        }
    }
    Ok(found)
}

async fn stored(engine: &Engine) -> Result<Vec<Stored>, Error> {
    let view = engine.view().await?;
    let rows = view.rows(&keys::all_range_rows()).map(|row| {
        let (key, value) = row?;
        let range = keys::range_of_row(&key).ok_or_else(|| Damage::new("range row", "its key is none"))?;
        let RangeRow {
            replica,
            applied,
            span,
            ..
        } = RangeRow::decode(value)?;
        Ok(Stored {
            range,
            replica,
            applied,
            span,
        })
    });
    rows.collect()
}

/// Whether a replica's log still holds what its data lacks.
pub(crate) fn fits(
    range: RangeId,
    replica: ReplicaId,
    applied: Option<LogId>,
    log: LogBounds,
) -> Result<(), Error> {
    let (applied, purged) = (
        applied.map_or(0, |id| id.index),
        log.purged.map_or(0, |id| id.index),
    );
    if applied < purged {
        Err(Error::Rewound {
            range,
            replica,
            applied,
            purged,
        })
    } else {
        Ok(())
    }
}

fn no_overlap(stored: &[Stored]) -> Result<(), Error> {
    let mut by_start: Vec<&Stored> = stored.iter().collect();
    by_start.sort_unstable_by(|a, b| a.span.start().cmp(b.span.start()));
    match by_start
        .windows(2)
        .find(|pair| pair[0].span.overlaps(&pair[1].span))
    {
        Some(pair) => Err(Error::Overlap(pair[0].range, pair[1].range)),
        None => Ok(()),
    }
}

#[cfg(test)]
#[path = "startup_test.rs"]
mod tests;
