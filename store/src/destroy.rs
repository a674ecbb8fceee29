//! Destroying a replica: its rows, its log, and the possibility that it ever comes back.
//!
//! The order is what makes it safe to stop anywhere: first the tombstone and the intent, synced; then the rows, in chunks
//! that let other ranges' writes pass between them, synced; then the log; last the intent is dropped. A start finds the
//! intent and does it all again. The range's row goes with the first chunk, so no half-empty range is ever opened; until
//! the intent is gone nobody else may take over the span ([`Ledger::destroying_overlaps`]).

use std::io;

use bytes::Bytes;
use holdfast_common::failpoint::{self, Step};
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::key::Span;
use holdfast_common::raft::log::LogEngine;

use crate::damage::Damage;
use crate::engine::{self, Batch, Engine};
use crate::keys::{self, Interval};
use crate::ledger::{self, Ledger};
use crate::row::RangeRow;

/// Rows deleted between two looks at the database; bounds both the batch and the time that a view is held.
const CHUNK_ROWS: usize = 4096;

/// Why a replica could not be destroyed. The process must exit: the intent is recorded and the next start resumes.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data database failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// The log's database failed.
    #[error(transparent)]
    Log(#[from] holdfast_common::raft::log::Error),
    /// The store's records failed.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// The range's row does not decode.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

impl Error {
    /// Whether it says that what is on disk is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_damage(),
            Self::Log(error) => error.is_damage(),
            Self::Ledger(error) => error.is_damage(),
            Self::Damaged(_) => true,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}

/// Destroys a replica whose group has been shut down, or which never was here: then only its tombstone is written.
/// Repeating it does no harm.
pub async fn destroy(
    engine: &Engine,
    log: &LogEngine,
    ledger: &Ledger,
    range: RangeId,
    replica: ReplicaId,
) -> Result<(), Error> {
    let held = match engine.get(&keys::range_row(range))? {
        Some(stored) => Some(RangeRow::decode(stored)?)
            .filter(|row| row.replica == replica)
            .map(|row| row.span),
        None => None,
    };
    ledger.begin(range, replica, held.clone()).await?;
    failpoint::reached(Step::DestroyBegun);
    carry_out(engine, log, ledger, range, replica, held).await
}

/// Finishes what a crash interrupted. To be called at start, before any replica runs.
pub async fn resume(engine: &Engine, log: &LogEngine, ledger: &Ledger) -> Result<(), Error> {
    for (range, replica, held) in ledger.destroying() {
        tracing::info!(%range, %replica, "finishing the destruction of a replica");
        carry_out(engine, log, ledger, range, replica, held).await?;
    }
    Ok(())
}

async fn carry_out(
    engine: &Engine,
    log: &LogEngine,
    ledger: &Ledger,
    range: RangeId,
    replica: ReplicaId,
    held: Option<Span>,
) -> Result<(), Error> {
    if let Some(span) = held {
        delete(engine, keys::range_row_interval(range)).await?;
        delete(engine, keys::records(&span)).await?;
        delete(engine, keys::all_outcomes(range)).await?;
        delete(engine, keys::tokens(&span)).await?;
        // The log goes only when the rows can't come back: without its log a replica must have no rows.
        engine.persist().await?;
    }
    failpoint::reached(Step::RowsGone);
    log.drop_group(range, replica).await?;
    failpoint::reached(Step::LogGone);
    Ok(ledger.finish(range, replica).await?)
}

async fn delete(engine: &Engine, mut interval: Interval) -> Result<(), engine::Error> {
    loop {
        engine.admit().await;
        let view = engine.view().await?;
        let mut batch = Batch::with_capacity(CHUNK_ROWS);
        for row in view.rows(&interval).take(CHUNK_ROWS) {
            // A copy, because the key is part of a whole block.
            batch.delete(Bytes::copy_from_slice(&row?.0));
        }
        let Some(last) = batch.rows().last() else {
            return Ok(());
        };
        interval.start = keys::successor(&last.key);
        engine.write(batch);
    }
}
