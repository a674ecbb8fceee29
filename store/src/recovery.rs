//! Going on with one replica alone, after its group has lost its majority for good (`docs/unsafe-recovery.md`).
//!
//! The survivor is not made to vote for itself: it ends, and another replica takes its place, born as the child of a split
//! is. First, durably, its tombstone and the intent: from here on nothing can bring the old group back on this store. Then
//! everything that its log holds is applied, committed or not, for any of it may have been acknowledged. Then, in one synced
//! step, the range's row becomes that of its successor: the only voter, behind a log position in a generation of its own. Last
//! the old log goes, and the intent. A start that finds the intent does what is left of it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, stream};
use holdfast_common::ids::{RangeId, ReplicaId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::raft::log::LogEngine;
use holdfast_common::raft::types::{LogId, StoredMembership};
use holdfast_common::range::{Replica, Role};
use openraft::RaftLogReader;
use openraft::storage::RaftStateMachine;

use crate::apply::ChildSeed;
use crate::command::Absorb;
use crate::damage::Damage;
use crate::engine::{self, Batch, Engine, Replacement};
use crate::host::Births;
use crate::keys;
use crate::ledger::{self, Ledger, Succession};
use crate::machine::{OpenError, RangeHost, RangeMachine};
use crate::row::{self, RangeRow};
use crate::state::{Identity, RangeState};
use crate::takeover::{self, Site};

/// Why a succession could not be carried out. The process must exit: the intent is recorded and the next start resumes.
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
    /// The range's row does not decode, or is another's.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The survivor's state machine does not open.
    #[error(transparent)]
    Machine(#[from] OpenError),
    /// An entry of the survivor's log could not be read or applied.
    #[error("applying the survivor's log: {0}")]
    Apply(#[from] io::Error),
}

impl Error {
    /// Whether it says that what is on disk is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Engine(error) => error.is_damage(),
            Self::Log(error) => error.is_damage(),
            Self::Ledger(error) => error.is_damage(),
            Self::Machine(error) => error.is_damage(),
            Self::Damaged(_) => true,
            Self::Apply(_) => false,
        }
    }
}

/// Where a range begins that is brought back: no leader ever wrote there.
fn rebirth(succession: &Succession) -> LogId {
    LogId::new_term_index(0, succession.epoch.membership)
}

/// Finishes what a crash interrupted. To be called at start, before any replica runs.
pub async fn resume(engine: &Engine, log: &LogEngine, ledger: &Ledger, store: StoreId) -> Result<(), Error> {
    for (range, succession) in ledger.recovering() {
        tracing::warn!(%range, from = %succession.from, to = %succession.to, "finishing an unsafe recovery");
        let host = Arc::new(Unstarted {
            engine: engine.clone(),
            log: log.clone(),
            ledger: ledger.clone(),
            store,
        });
        carry_out(engine, log, ledger, store, host, range, &succession).await?;
    }
    Ok(())
}

/// Puts the successor in its predecessor's place, whose group has been shut down. The intent must have been recorded.
pub(crate) async fn carry_out(
    engine: &Engine,
    log: &LogEngine,
    ledger: &Ledger,
    store: StoreId,
    host: Arc<dyn RangeHost>,
    range: RangeId,
    succession: &Succession,
) -> Result<(), Error> {
    if row(engine, range)?.replica != succession.to {
        let survivor = Identity {
            range,
            replica: succession.from,
            store,
        };
        apply_all(engine, log, host, survivor).await?;
        succeed(engine, store, range, succession).await?;
    }
    log.drop_group(range, succession.from).await?;
    Ok(ledger.finish_recovery(range).await?)
}

/// Applies what a replica's log holds beyond what was applied.
async fn apply_all(
    engine: &Engine,
    log: &LogEngine,
    host: Arc<dyn RangeHost>,
    survivor: Identity,
) -> Result<(), Error> {
    let mut machine = RangeMachine::open(survivor, engine.clone(), host).await?;
    let end = log.log_bounds(survivor.range, survivor.replica)?.last;
    let mut reader = log.group(survivor.range, survivor.replica, None);
    loop {
        let (applied, _) = machine.applied_state().await?;
        let next = applied.map_or(0, |applied| applied.index + 1);
        let Some(end) = end.filter(|end| end.index >= next) else {
            return Ok(());
        };
        let entries = reader.try_get_log_entries(next..=end.index).await?;
        if entries.first().map(|entry| entry.log_id.index) != Some(next) {
            return Err(Damage::new("survivor's log", format!("entry {next} is missing")).into());
        }
        machine
            .apply(stream::iter(entries.into_iter().map(|entry| Ok((entry, None)))))
            .await?;
    }
}

/// Makes the range's row that of the successor.
async fn succeed(
    engine: &Engine,
    store: StoreId,
    range: RangeId,
    succession: &Succession,
) -> Result<(), Error> {
    let survivor = row(engine, range)?;
    let outside = || Damage::new("range row", "nothing of its span is to be kept");
    let span = survivor.span.intersection(&succession.span).ok_or_else(outside)?;
    let alone = Replica {
        id: succession.to,
        store,
        role: Role::Voter,
    };
    let born = rebirth(succession);
    let successor = RangeRow {
        replica: succession.to,
        applied: Some(born),
        membership: StoredMembership::new(Some(born), row::membership_of(&[alone])),
        bounds: succession.epoch.bounds,
        span: span.clone(),
        ..survivor.clone()
    };
    let key = Bytes::copy_from_slice(&keys::range_row(range));
    let cut = beyond(&survivor.span, &span);
    if cut.is_empty() {
        let mut batch = Batch::with_capacity(1);
        batch.put(key, successor.encode());
        engine.write(batch);
        return Ok(engine.persist().await?);
    }
    let mut intervals = vec![keys::range_row_interval(range)];
    intervals.extend(cut.iter().map(keys::records));
    intervals.extend(cut.iter().map(keys::tokens));
    let rows = Box::new(std::iter::once(Ok((key, successor.encode()))));
    Ok(engine.replace(Replacement { intervals, rows }).await?)
}

/// What of `whole` lies outside of `kept`, in order.
fn beyond(whole: &Span, kept: &Span) -> Vec<Span> {
    let before = Span::new(whole.start().clone(), kept.start().clone()).ok();
    let before = before.filter(|_| whole.start() < kept.start());
    let ends_early = !kept.end().is_empty() && kept.end() != whole.end();
    let after = Span::new(kept.end().clone(), whole.end().clone()).ok();
    before.into_iter().chain(after.filter(|_| ends_early)).collect()
}

fn row(engine: &Engine, range: RangeId) -> Result<RangeRow, Error> {
    let stored = engine.get(&keys::range_row(range))?;
    let none = || Damage::new("range row", format!("there is none of range {range}"));
    Ok(RangeRow::decode(stored.ok_or_else(none)?)?)
}

/// The store before its replicas run: what a survivor's log gives birth to is started with all others, what it took over
/// is buried after this.
#[derive(Clone)]
struct Unstarted {
    engine: Engine,
    log: LogEngine,
    ledger: Ledger,
    store: StoreId,
}

impl RangeHost for Unstarted {
    fn before_split<'a>(&'a self, child: &'a ChildSeed) -> BoxFuture<'a, io::Result<bool>> {
        let births = Births::new(self.log.clone());
        let has_later = child
            .replica()
            .map(|replica| births.has_later(child.descriptor.id, replica));
        async move {
            let has_later = has_later.transpose().map_err(io::Error::other)?;
            Ok(has_later != Some(true))
        }
        .boxed()
    }

    fn after_split(&self, _: ChildSeed) {}

    fn take_over<'a>(&'a self, absorb: &'a Absorb) -> BoxFuture<'a, io::Result<RangeState>> {
        let host = Arc::new(self.clone());
        async move {
            let site = Site {
                engine: &self.engine,
                log: &self.log,
                ledger: &self.ledger,
                store: self.store,
            };
            takeover::conclude(site, host, absorb).await
        }
        .boxed()
    }

    fn taken_over(&self, _: RangeId) {}

    fn buried(&self, replica: ReplicaId) -> bool {
        self.ledger.buried(replica)
    }

    fn overlaps(&self, _: ReplicaId, span: &Span) -> Option<RangeId> {
        self.ledger.destroying_overlaps(span)
    }

    fn changed(&self, _: RangeId) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: &'static str, end: &'static str) -> Span {
        Span::new(start, end).unwrap()
    }

    #[test]
    fn what_is_not_kept_is_cut_off_at_either_end() {
        for (whole, kept, cut) in [
            (span("", ""), span("", ""), vec![]),
            (span("b", "f"), span("b", "f"), vec![]),
            (span("b", "f"), span("b", "d"), vec![span("d", "f")]),
            (span("b", ""), span("c", ""), vec![span("b", "c")]),
            (span("", ""), span("c", "d"), vec![span("", "c"), span("d", "")]),
        ] {
            assert_eq!(beyond(&whole, &kept), cut, "{whole} and {kept}");
        }
    }
}
