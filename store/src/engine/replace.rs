//! Replacing whole intervals: how a snapshot becomes a range's data.
//!
//! The rows are written straight into new tables, with tombstones for existing rows that are not among them. The tables
//! then enter the database's manifest in one synced step: before it nothing has changed, after it everything has. So a
//! crash leaves either the old rows or the new ones, whole, and no record of intent is needed to tell which.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::sync::mpsc;

use bytes::Bytes;
use fjall::PersistMode;
use holdfast_common::blocking;
use holdfast_common::failpoint::{self, Step};
use tokio::sync::oneshot;

use super::Engine;
use super::committer::Request;
use super::error::Error;
use super::view::View;
use crate::damage::Damage;
use crate::keys::Interval;

/// Rows to put in place of whatever some intervals hold.
///
/// Nobody may write to the intervals from the call of [`Engine::replace`] until it returns; views opened meanwhile see
/// them as they were or as they will be, whole.
pub struct Replacement {
    /// What is replaced: ascending and disjoint.
    pub intervals: Vec<Interval>,
    /// The new rows: ascending, each in one of the intervals. Any error among them leaves everything as it was.
    pub rows: Box<dyn Iterator<Item = Result<(Bytes, Bytes), Error>> + Send>,
}

/// Writes the tables on a thread of its own, beside the data thread, which stands still only for the last step.
pub(super) async fn run(engine: &Engine, replacement: Replacement) -> Result<(), Error> {
    let view = engine.view().await?;
    let engine = engine.clone();
    let (reply, outcome) = oneshot::channel();
    blocking::start(move || drop(reply.send(write(&engine, view, replacement))));
    outcome.await.unwrap_or(Err(Error::Closed))
}

fn write(engine: &Engine, view: View, replacement: Replacement) -> Result<(), Error> {
    let shared = &engine.0.shared;
    let intervals = replacement.intervals.clone();
    let mut ingestion = shared.data.start_ingestion()?;
    for row in merge(&view, replacement)? {
        // A table's writer keeps keys for the table's index until the table is full. They are copied, since a slice of
        // what was read would keep all of it: a table's worth of values.
        match row? {
            (key, Some(value)) => ingestion.write(&key[..], value)?,
            (key, None) => ingestion.write_tombstone(&key[..])?,
        }
    }
    drop(view);
    failpoint::reached(Step::SnapshotStaged);

    let _paused = pause(engine)?;
    // Finishing writes the memtable out, ahead of the journal that backs it.
    shared.db.persist(PersistMode::SyncData)?;
    // Everything in the intervals has been committed and nothing is being written, so this leaves none of their rows.
    shared.pending.write().forget(&intervals);
    ingestion.finish()?;
    Ok(())
}

/// Holds the data thread still until the sender that is returned is dropped.
fn pause(engine: &Engine) -> Result<mpsc::Sender<()>, Error> {
    let (resume, resumed) = mpsc::channel();
    #[cfg(feature = "simulation")]
    if holdfast_common::simulation::is_on() {
        return Ok(resume); // It has the one thread that there is, so nobody else is at work.
    }
    let (reply, paused) = oneshot::channel();
    engine
        .0
        .committer
        .request(&engine.0.shared, Request::Pause(reply, resumed));
    paused
        .blocking_recv()
        .unwrap_or_else(|_| Err(engine.0.shared.failed()))?;
    Ok(resume)
}

/// The new rows, and removals of existing rows that are not among them, in ascending order.
fn merge(view: &View, replacement: Replacement) -> Result<Merge, Error> {
    let ordered = replacement
        .intervals
        .windows(2)
        .all(|pair| pair[0].end <= pair[1].start);
    if !ordered {
        return Err(Damage::new("replacement", "its intervals are not ascending and disjoint").into());
    }
    let view = view.clone();
    let intervals = replacement.intervals.clone();
    let existing = intervals
        .into_iter()
        .flat_map(move |interval| view.rows(&interval));
    let existing: Box<dyn Iterator<Item = _> + Send> = Box::new(existing.map(|row| row.map(|(key, _)| key)));
    let rows = replacement.rows.peekable();
    Ok(Merge {
        intervals: replacement.intervals,
        existing: existing.peekable(),
        rows,
        last: None,
    })
}

type Fallible<T> = Box<dyn Iterator<Item = Result<T, Error>> + Send>;

struct Merge {
    intervals: Vec<Interval>,
    existing: Peekable<Fallible<Bytes>>,
    rows: Peekable<Fallible<(Bytes, Bytes)>>,
    last: Option<Bytes>,
}

impl Iterator for Merge {
    type Item = Result<(Bytes, Option<Bytes>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let order = match (self.existing.peek(), self.rows.peek()) {
            (None, None) => return None,
            (Some(Ok(existing)), Some(Ok((key, _)))) => existing.cmp(key),
            (_, None) | (Some(Err(_)), _) => Ordering::Less,
            (_, Some(_)) => Ordering::Greater,
        };
        if order == Ordering::Less {
            return self
                .existing
                .next()
                .map(|existing| existing.map(|key| (key, None)));
        }
        if order == Ordering::Equal {
            self.existing.next();
        }
        self.rows.next().map(|row| row.and_then(|row| self.checked(row)))
    }
}

impl Merge {
    /// What comes from a file is checked before it reaches the database, which takes unordered rows badly.
    fn checked(&mut self, (key, value): (Bytes, Bytes)) -> Result<(Bytes, Option<Bytes>), Error> {
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(Damage::new("replacement", "its rows are not ascending").into());
        }
        if !self.intervals.iter().any(|interval| interval.contains(&key)) {
            return Err(Damage::new("replacement", "a row lies outside its intervals").into());
        }
        self.last = Some(key.clone());
        Ok((key, Some(value)))
    }
}
