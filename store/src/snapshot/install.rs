//! Putting a received snapshot in place of a replica's data.
//!
//! The rows of the old and of the new span, tokens among them, the range's row and its outcome rows change in one atomic, synced step
//! ([`Engine::replace`]). A crash before it leaves the replica as it was, and the leader sends again; a crash after it
//! leaves a replica that has applied the snapshot, and openraft brings the log in line when it starts, by purging it up to
//! there. So no intent is recorded: there is no state in between to recover from.

use std::io;
use std::path::Path;

use bytes::Bytes;
use holdfast_common::failpoint::{self, Step};
use holdfast_common::key::Span;
use holdfast_common::raft::types::SnapshotMeta;

use super::format::{self, Header, Reader};
use crate::damage::Damage;
use crate::engine::{Engine, Error, Replacement};
use crate::keys::{self, Interval};
use crate::machine::RangeHost;
use crate::row::RangeRow;
use crate::state::Identity;

/// Installs the snapshot in the file at `path`, and removes the file.
///
/// Refused with [`io::ErrorKind::ResourceBusy`] when another replica on this store holds part of its span: the receiver
/// checks that before it hands a snapshot to openraft, for which any error here is the end of the group.
pub(crate) async fn install(
    engine: &Engine,
    host: &dyn RangeHost,
    me: Identity,
    meta: &SnapshotMeta,
    path: &Path,
    old: Option<Span>,
) -> io::Result<()> {
    let opened = path.to_owned();
    let (header, rows) = blocking(move || Reader::open(&opened)).await??;
    check(&header, me, meta)?;
    if let Some(other) = host.overlaps(me.replica, &header.row.span) {
        let why = format!(
            "range {other} still holds part of {} on this store",
            header.row.span
        );
        return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
    }
    failpoint::reached(Step::SnapshotReceived);
    let replacement = replacement(me, header, rows, old);
    engine.replace(replacement).await?;
    failpoint::reached(Step::SnapshotInstalled);
    // It has served its purpose. What stays behind here, or after a crash, is for the next start to remove.
    let staged = path.to_owned();
    if let Err(error) = blocking(move || std::fs::remove_file(staged)).await? {
        tracing::warn!(%error, path = %path.display(), "an installed snapshot could not be removed");
    }
    Ok(())
}

/// The snapshot must be of this range and be what its meta says.
fn check(header: &Header, me: Identity, meta: &SnapshotMeta) -> Result<(), Damage> {
    if header.range != me.range {
        let why = format!("it is of range {}, expected {}", header.range, me.range);
        return Err(Damage::new("snapshot", why));
    }
    if header.row.applied != meta.last_log_id || header.row.membership != meta.last_membership {
        return Err(Damage::new(
            "snapshot",
            "its position or membership is not what was announced",
        ));
    }
    Ok(())
}

fn replacement(me: Identity, header: Header, rows: Reader, old: Option<Span>) -> Replacement {
    let mut intervals = vec![keys::range_row_interval(me.range)];
    intervals.extend(union(&header.row.span, old.as_ref(), keys::records));
    intervals.push(keys::all_outcomes(me.range));
    intervals.extend(union(&header.row.span, old.as_ref(), keys::tokens));

    let row = RangeRow {
        replica: me.replica,
        ..header.row
    };
    let first = (Bytes::copy_from_slice(&keys::range_row(me.range)), row.encode());
    let rows = rows.map(|row| {
        row.map_err(|error| match error {
            format::Error::Damaged(damage) => Error::Damaged(damage),
            format::Error::Io(error) => Error::File {
                what: "reading a snapshot".into(),
                error: error.into(),
            },
        })
    });
    Replacement {
        intervals,
        rows: Box::new(std::iter::once(Ok(first)).chain(rows)),
    }
}

/// Where such rows of both spans lie: one interval if they touch, else two in order.
fn union(new: &Span, old: Option<&Span>, lie: fn(&Span) -> Interval) -> Vec<Interval> {
    let mut intervals = vec![lie(new)];
    intervals.extend(old.map(lie));
    intervals.sort_unstable_by(|a, b| a.start.cmp(&b.start));
    intervals.dedup_by(|next, before| {
        let touches = next.start <= before.end;
        if touches && next.end > before.end {
            before.end = next.end.clone();
        }
        touches
    });
    intervals
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    Ok(holdfast_common::blocking::run(work).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: &'static str, end: &'static str) -> Span {
        Span::new(start, end).unwrap()
    }

    #[test]
    fn the_union_is_ascending_and_disjoint() {
        let records = |start, end| keys::records(&span(start, end));
        for (new, old, expected) in [
            (span("b", "d"), None, vec![records("b", "d")]),
            (span("b", "d"), Some(span("b", "")), vec![records("b", "")]),
            (span("b", "d"), Some(span("d", "e")), vec![records("b", "e")]),
            (
                span("x", ""),
                Some(span("a", "c")),
                vec![records("a", "c"), records("x", "")],
            ),
            (span("", ""), Some(span("a", "c")), vec![records("", "")]),
        ] {
            assert_eq!(
                union(&new, old.as_ref(), keys::records),
                expected,
                "{new} and {old:?}"
            );
        }
    }
}
