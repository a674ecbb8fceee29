//! How a write's condition lies in an entry: a code, and what some have beside it.

use bytes::{BufMut, BytesMut};
use holdfast_common::proto::kv::Condition;
use holdfast_common::revision::Revision;

use crate::codec::{Reader, put_long};
use crate::damage::Damage;

/// Names it.
pub(super) fn code(condition: &Condition) -> u8 {
    match condition {
        Condition::None => 0,
        Condition::Absent => 1,
        Condition::Exists => 2,
        Condition::Revision(_) => 3,
        Condition::Value(_) => 4,
    }
}

/// Bytes that [`put`] appends.
pub(super) fn encoded_len(condition: &Condition) -> usize {
    match condition {
        Condition::None | Condition::Absent | Condition::Exists => 0,
        Condition::Revision(_) => 8,
        Condition::Value(value) => 4 + value.len(),
    }
}

/// Appends what a condition has beside its code.
pub(super) fn put(buffer: &mut BytesMut, condition: &Condition) {
    match condition {
        Condition::None | Condition::Absent | Condition::Exists => {}
        Condition::Revision(revision) => buffer.put_u64_le(revision.0),
        Condition::Value(value) => put_long(buffer, value),
    }
}

/// Reads what [`put`] appended of the one with this code.
pub(super) fn read(reader: &mut Reader, code: u8) -> Result<Condition, Damage> {
    Ok(match code {
        0 => Condition::None,
        1 => Condition::Absent,
        2 => Condition::Exists,
        3 => Condition::Revision(Revision(reader.u64()?)),
        4 => Condition::Value(super::read_value(reader)?),
        other => return Err(reader.damage(format!("condition {other}"))),
    })
}
