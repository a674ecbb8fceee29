//! Outcomes and floors on disk (`docs/disk-format.md`).

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_common::ids::SessionId;
use holdfast_common::proto::kv::{Committed, WriteOutcome};
use holdfast_common::revision::Revision;

use super::{Floor, MAX_SESSIONS};
use crate::codec::Reader;
use crate::damage::Damage;

const ROW_VERSION: u8 = 1;
const OUTCOME_BYTES: usize = 25;
const FLOOR_BYTES: usize = 32;

/// Encodes the outcomes of an entry; `most` is how many there may be.
pub(super) fn encode_row(
    most: usize,
    outcomes: impl Iterator<Item = (SessionId, u64, WriteOutcome)>,
) -> Bytes {
    let mut row = BytesMut::with_capacity(1 + OUTCOME_BYTES * most);
    row.put_u8(ROW_VERSION);
    for (session, sequence, outcome) in outcomes {
        let (kind, revision) = outcome_code(&outcome);
        row.put_u64_le(session.0);
        row.put_u64_le(sequence);
        row.put_u8(kind);
        row.put_u64_le(revision.0);
    }
    row.freeze()
}

/// Decodes the outcomes of an entry.
pub(super) fn decode_row(row: Bytes) -> Result<Vec<(SessionId, u64, WriteOutcome)>, Damage> {
    let mut outcomes = Vec::with_capacity(row.len() / OUTCOME_BYTES);
    let mut reader = Reader::new(row, "outcome row");
    let version = reader.u8()?;
    if version != ROW_VERSION {
        return Err(reader.damage(format!("version {version}")));
    }
    while !reader.is_empty() {
        let (session, sequence, kind, revision) = (
            SessionId(reader.u64()?),
            reader.u64()?,
            reader.u8()?,
            Revision(reader.u64()?),
        );
        if sequence == u64::MAX {
            // None was ever admitted, since no floor could pass it.
            return Err(reader.damage("a write without a number"));
        }
        let outcome = outcome_of(kind, revision).ok_or_else(|| reader.damage(format!("outcome {kind}")))?;
        outcomes.push((session, sequence, outcome));
    }
    Ok(outcomes)
}

/// How an outcome is written down. Of a transaction the branch and the revision are kept, not what it read.
pub(crate) fn outcome_code(outcome: &WriteOutcome) -> (u8, Revision) {
    match outcome {
        WriteOutcome::Created(revision) => (1, *revision),
        WriteOutcome::Replaced(revision) => (2, *revision),
        WriteOutcome::Deleted(revision) => (3, *revision),
        WriteOutcome::WasAbsent => (4, Revision::ZERO),
        WriteOutcome::ConditionFailed(None) => (5, Revision::ZERO),
        WriteOutcome::ConditionFailed(Some(revision)) => (6, *revision),
        WriteOutcome::Committed(committed) => (if committed.held { 7 } else { 8 }, committed.revision),
    }
}

/// The outcome that was written down so, if it is one.
pub(crate) fn outcome_of(kind: u8, revision: Revision) -> Option<WriteOutcome> {
    let committed = |held| {
        WriteOutcome::Committed(Box::new(Committed {
            held,
            revision,
            reads: Vec::new(),
        }))
    };
    Some(match kind {
        1 => WriteOutcome::Created(revision),
        2 => WriteOutcome::Replaced(revision),
        3 => WriteOutcome::Deleted(revision),
        4 => WriteOutcome::WasAbsent,
        5 => WriteOutcome::ConditionFailed(None),
        6 => WriteOutcome::ConditionFailed(Some(revision)),
        7 => committed(true),
        8 => committed(false),
        _ => return None,
    })
}

/// Bytes that so many sessions take in a range's row.
pub(crate) fn floors_len(count: usize) -> usize {
    2 + FLOOR_BYTES * count
}

/// Appends the sessions to a range's row.
pub(crate) fn put_floors(buffer: &mut BytesMut, floors: impl ExactSizeIterator<Item = Floor>) {
    debug_assert!(floors.len() <= MAX_SESSIONS);
    buffer.put_u16_le(floors.len() as u16);
    for Floor {
        session,
        floor,
        since,
        used_ms,
    } in floors
    {
        buffer.put_u64_le(session.0);
        buffer.put_u64_le(floor);
        buffer.put_u64_le(since);
        buffer.put_u64_le(used_ms);
    }
}

/// Reads the sessions of a range's row.
pub(crate) fn read_floors(reader: &mut Reader) -> Result<Vec<Floor>, Damage> {
    let count = reader.u16()? as usize;
    if count > MAX_SESSIONS {
        return Err(reader.damage(format!("{count} sessions, at most {MAX_SESSIONS} are kept")));
    }
    let mut floors = Vec::with_capacity(reader.capacity(count, FLOOR_BYTES));
    for _ in 0..count {
        let (session, floor, since, used_ms) = (
            SessionId(reader.u64()?),
            reader.u64()?,
            reader.u64()?,
            reader.u64()?,
        );
        floors.push(Floor {
            session,
            floor,
            since,
            used_ms,
        });
    }
    Ok(floors)
}
