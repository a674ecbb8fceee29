//! A replica ends because its range was taken over by its left neighbour (`docs/split-merge.md`).
//!
//! The order makes it safe to stop anywhere. The neighbour's replica waits until the source's group has ended here, its log
//! is applied up to the freeze and synced, and the intent is recorded; then one batch makes the source's rows its own. A
//! start that finds the intent and no row of the source knows that this batch is durable, and finishes the burial; one that
//! finds the row knows that it was lost, and the entry is applied again.

use std::io;
use std::sync::Arc;

use holdfast_common::failpoint::{self, Step};
use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::raft::log::LogEngine;

use crate::command::Absorb;
use crate::destroy;
use crate::engine::Engine;
use crate::keys;
use crate::ledger::Ledger;
use crate::machine::{RangeHost, RangeMachine};
use crate::row::RangeRow;
use crate::state::{Identity, RangeState};

/// Where the source's replica lies.
pub(crate) struct Site<'a> {
    pub engine: &'a Engine,
    pub log: &'a LogEngine,
    pub ledger: &'a Ledger,
    pub store: StoreId,
}

/// Brings the source's replica, whose group has been shut down, to where it froze, and records that its rows are about to
/// become its neighbour's.
///
/// # Errors
/// It has no data here, or its log ends too early: only a bug can bring either about.
pub(crate) async fn conclude(
    site: Site<'_>,
    host: Arc<dyn RangeHost>,
    absorb: &Absorb,
) -> io::Result<RangeState> {
    let range = absorb.source;
    let row = site.engine.get(&keys::range_row(range))?;
    let none = || {
        io::Error::other(format!(
            "range {range}, to be taken over, has no data on this store"
        ))
    };
    let replica = RangeRow::decode(row.ok_or_else(none)?)?.replica;
    let identity = Identity {
        range,
        replica,
        store: site.store,
    };
    // Opening syncs what was applied: from here on a missing row means that it was taken over.
    let machine = RangeMachine::open(identity, site.engine.clone(), host).await;
    let mut machine = machine.map_err(io::Error::other)?;
    let mut log = site.log.group(range, replica, None);
    machine.replay(&mut log, absorb.frozen).await?;
    let state = machine.into_state().ok_or_else(none)?;
    site.ledger.begin_takeover(range, replica).await?;
    failpoint::reached(Step::TakeoverBegun);
    Ok(state)
}

/// Buries a replica whose rows are its neighbour's.
///
/// # Errors
/// The process must exit: the intent is recorded, and the next start resumes.
pub(crate) async fn bury(
    engine: &Engine,
    log: &LogEngine,
    ledger: &Ledger,
    range: RangeId,
    replica: ReplicaId,
) -> Result<(), destroy::Error> {
    engine.persist().await?;
    failpoint::reached(Step::Burying);
    destroy::destroy(engine, log, ledger, range, replica).await?;
    Ok(ledger.end_takeover(range, replica).await?)
}

/// Finishes what a crash interrupted. To be called at start, before any replica runs. A range that was being taken over has
/// its row yet if the takeover was lost: then it runs, and is taken over again. Otherwise all that is left of it is its log.
pub(crate) async fn resume(engine: &Engine, log: &LogEngine, ledger: &Ledger) -> Result<(), destroy::Error> {
    for (range, replica) in ledger.takeovers() {
        let row = engine.get(&keys::range_row(range))?;
        let there = row.map(RangeRow::decode).transpose()?;
        if there.is_none_or(|row| row.replica != replica) {
            tracing::info!(%range, %replica, "burying a replica whose range was taken over");
            destroy::destroy(engine, log, ledger, range, replica).await?;
        }
        ledger.end_takeover(range, replica).await?;
    }
    Ok(())
}
