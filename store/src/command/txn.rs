//! Transactions within a command.
//!
//! ```text
//! conditions u16 × (key (u16 + bytes) | condition u8 | as in a write)
//! then u16 × action | otherwise u16 × action
//! action: key (u16 + bytes) | act u8 | act 1, put: ttl u64, value (u32 + bytes); 2, delete; 3, get
//! ```

use bytes::{BufMut, BytesMut};
use holdfast_common::limits::MAX_TXN_ITEMS;
use holdfast_common::proto::kv::{Act, Action, Txn};

use super::{condition, read_key, read_value};
use crate::codec::{Reader, put_long, put_short};
use crate::damage::Damage;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const GET: u8 = 3;

/// A key, even an empty one, and a code.
const ITEM_OVERHEAD_BYTES: usize = 3;

/// Bytes that [`put`] appends.
pub(super) fn encoded_len(txn: &Txn) -> usize {
    let conditions = txn.conditions.iter().map(|(key, condition)| {
        ITEM_OVERHEAD_BYTES + key.as_bytes().len() + condition::encoded_len(condition)
    });
    let actions = txn.actions().map(|action| {
        let value = match &action.act {
            Act::Put { value, .. } => 12 + value.len(),
            Act::Delete | Act::Get => 0,
        };
        ITEM_OVERHEAD_BYTES + action.key.as_bytes().len() + value
    });
    6 + conditions.sum::<usize>() + actions.sum::<usize>()
}

pub(super) fn put(buffer: &mut BytesMut, txn: &Txn) {
    debug_assert!(txn.conditions.len() + txn.then.len() + txn.otherwise.len() <= MAX_TXN_ITEMS);
    buffer.put_u16_le(txn.conditions.len() as u16);
    for (key, condition) in &txn.conditions {
        put_short(buffer, key.as_bytes());
        buffer.put_u8(condition::code(condition));
        condition::put(buffer, condition);
    }
    for branch in [&txn.then, &txn.otherwise] {
        buffer.put_u16_le(branch.len() as u16);
        for action in branch {
            put_action(buffer, action);
        }
    }
}

fn put_action(buffer: &mut BytesMut, action: &Action) {
    put_short(buffer, action.key.as_bytes());
    match &action.act {
        Act::Put { value, ttl_ms } => {
            buffer.put_u8(PUT);
            buffer.put_u64_le(*ttl_ms);
            put_long(buffer, value);
        }
        Act::Delete => buffer.put_u8(DELETE),
        Act::Get => buffer.put_u8(GET),
    }
}

pub(super) fn read(reader: &mut Reader) -> Result<Txn, Damage> {
    let count = reader.u16()? as usize;
    let mut conditions = Vec::with_capacity(reader.capacity(count, ITEM_OVERHEAD_BYTES));
    for _ in 0..count {
        let (key, code) = (read_key(reader)?, reader.u8()?);
        conditions.push((key, condition::read(reader, code)?));
    }
    let txn = Txn {
        conditions,
        then: read_branch(reader)?,
        otherwise: read_branch(reader)?,
    };
    let items = txn.conditions.len() + txn.then.len() + txn.otherwise.len();
    if items > MAX_TXN_ITEMS {
        return Err(reader.damage(format!("a transaction of {items} conditions and actions")));
    }
    Ok(txn)
}

fn read_branch(reader: &mut Reader) -> Result<Vec<Action>, Damage> {
    let count = reader.u16()? as usize;
    let mut branch = Vec::with_capacity(reader.capacity(count, ITEM_OVERHEAD_BYTES));
    for _ in 0..count {
        let (key, act) = (read_key(reader)?, reader.u8()?);
        let act = match act {
            PUT => {
                let ttl_ms = reader.u64()?;
                Act::Put {
                    value: read_value(reader)?,
                    ttl_ms,
                }
            }
            DELETE => Act::Delete,
            GET => Act::Get,
            other => return Err(reader.damage(format!("act {other}"))),
        };
        branch.push(Action { key, act });
    }
    Ok(branch)
}
