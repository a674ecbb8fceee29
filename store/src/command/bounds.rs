//! Bounds on a write from outside, checked before it may wait to be proposed: what goes into a log must fit it.

use std::collections::HashSet;

use holdfast_common::limits::{MAX_TOKEN_BYTES, MAX_TXN_BYTES, MAX_TXN_ITEMS, MAX_VALUE_BYTES};
use holdfast_common::proto::kv::{Act, Action, Condition, Mutation, Txn};

use super::Write;

/// Whether it takes space on the disk.
pub(crate) fn takes_space(mutation: &Mutation) -> bool {
    match mutation {
        Mutation::Put { .. } => true,
        Mutation::Delete => false,
        Mutation::Txn(txn) => txn.actions().any(|action| matches!(action.act, Act::Put { .. })),
    }
}

/// Says what no write may be.
pub(crate) fn check(write: &Write) -> Result<(), String> {
    if let Some(once) = &write.once
        && (once.token.is_empty() || once.token.len() > MAX_TOKEN_BYTES)
    {
        return Err(format!("an idempotency key of {} bytes", once.token.len()));
    }
    match &write.mutation {
        Mutation::Put { value, .. } => check_value(value.len()),
        Mutation::Delete => Ok(()),
        Mutation::Txn(txn) => check_txn(write, txn),
    }
}

fn check_value(bytes: usize) -> Result<(), String> {
    if bytes > MAX_VALUE_BYTES {
        return Err(format!("a value of {bytes} bytes"));
    }
    Ok(())
}

fn check_txn(write: &Write, txn: &Txn) -> Result<(), String> {
    let items = txn.conditions.len() + txn.then.len() + txn.otherwise.len();
    if items > MAX_TXN_ITEMS {
        return Err(format!("a transaction of {items} conditions and actions"));
    }
    if write.condition != Condition::None || !txn.keys().any(|key| *key == write.key) {
        return Err("a transaction goes by one of its own keys, without a condition beside it".to_owned());
    }
    let bytes: usize = txn.keys().map(|key| key.as_bytes().len()).sum::<usize>()
        + txn.actions().map(action_bytes).sum::<usize>()
        + txn
            .conditions
            .iter()
            .map(|(_, condition)| condition_bytes(condition))
            .sum::<usize>();
    if bytes > MAX_TXN_BYTES {
        return Err(format!("a transaction of {bytes} bytes"));
    }
    for branch in [&txn.then, &txn.otherwise] {
        let mut keys = HashSet::new();
        if !branch.iter().all(|action| keys.insert(&action.key)) {
            return Err("a transaction that names a key twice in one branch".to_owned());
        }
    }
    Ok(())
}

fn action_bytes(action: &Action) -> usize {
    match &action.act {
        Act::Put { value, .. } => value.len(),
        Act::Delete | Act::Get => 0,
    }
}

fn condition_bytes(condition: &Condition) -> usize {
    match condition {
        Condition::Value(value) => value.len(),
        _ => 0,
    }
}
