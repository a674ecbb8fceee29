//! `POST /v1/txn`: conditions on some keys, and what is read and written at one moment if they hold, or if they do not.
//!
//! The keys lie in one range, which applies it all as one log entry. Which range that is, and whether it holds them all,
//! is for the range to say: so a transaction whose answer was lost finds its outcome even if a split has come between.

use std::collections::HashSet;

use holdfast_common::access::Action::{Read, Write};
use holdfast_common::clock;
use holdfast_common::limits::{MAX_TXN_BYTES, MAX_TXN_ITEMS};
use holdfast_common::proto::kv::{Act, Action, Committed, Condition, Mutation, Txn, WriteOutcome};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use serde::Deserialize;
use utoipa::ToSchema;

use super::Exchange;
use super::body::Body;
use super::kv::value_body;
use super::operations::{self, Checked, KeyDemand, Operation, invalid};
use super::problem::{Code, Problem};
use super::query::Query;
use crate::metrics::Op;
use crate::point;

/// The body.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TxnRequest {
    #[serde(
        rename = "if",
        default,
        deserialize_with = "operations::at_most::<MAX_TXN_ITEMS, _, _>"
    )]
    conditions: Vec<KeyDemand>,
    #[serde(default, deserialize_with = "operations::at_most::<MAX_TXN_ITEMS, _, _>")]
    then: Vec<Operation>,
    #[serde(
        rename = "else",
        default,
        deserialize_with = "operations::at_most::<MAX_TXN_ITEMS, _, _>"
    )]
    otherwise: Vec<Operation>,
}

/// Answers a transaction.
pub(super) async fn answer(exchange: &mut Exchange<'_>) -> Result<Response<Body>, Problem> {
    if exchange.head.method != Method::POST {
        return Err(Problem::method_not_allowed("POST"));
    }
    let timeout = Query::parse(exchange.head.uri.query(), &["timeout_ms"])?.timeout()?;
    let once = exchange.once()?;
    let (request, _room): (TxnRequest, _) = operations::body(exchange, Op::Txn).await?;
    let txn = check(request)?;
    for (key, _) in &txn.conditions {
        exchange.permit_key(Read, key.as_bytes())?;
    }
    for action in txn.actions() {
        let needed = if action.act == Act::Get { Read } else { Write };
        exchange.permit_key(needed, action.key.as_bytes())?;
    }
    // The smallest key: a repetition goes by the same.
    let anchor = txn.keys().min().cloned();
    let anchor = anchor.ok_or_else(|| invalid("a transaction names at least one key"))?;
    let sender = &exchange.front.sender;
    let mutation = Mutation::Txn(Box::new(txn.clone()));
    let mut write = point::Write::new(sender, anchor, Condition::None, mutation).under(once);
    match sender.send(&mut write, clock::now() + timeout).await? {
        WriteOutcome::Committed(committed) => told(exchange, &txn, &committed),
        // The sender accepts no other.
        _ => Err(Problem::new(
            Code::Internal,
            "a transaction was answered as a write",
        )),
    }
}

pub(super) fn check(request: TxnRequest) -> Result<Txn, Problem> {
    let items = request.conditions.len() + request.then.len() + request.otherwise.len();
    if items > MAX_TXN_ITEMS {
        return Err(invalid(format!(
            "a transaction has at most {MAX_TXN_ITEMS} conditions and operations"
        )));
    }
    let conditions = request.conditions.into_iter().enumerate();
    let conditions = conditions
        .map(|(index, demand)| {
            demand
                .check()
                .map_err(|problem| operations::at("if", index, problem))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let txn = Txn {
        conditions,
        then: branch("then", request.then)?,
        otherwise: branch("else", request.otherwise)?,
    };
    if bytes_of(&txn) > MAX_TXN_BYTES {
        return Err(Problem::new(
            Code::ValueTooLarge,
            format!("the keys and values of a transaction have at most {MAX_TXN_BYTES} bytes"),
        ));
    }
    Ok(txn)
}

fn branch(name: &str, operations: Vec<Operation>) -> Result<Vec<Action>, Problem> {
    let mut keys = HashSet::with_capacity(operations.len());
    let mut branch = Vec::with_capacity(operations.len());
    for (index, operation) in operations.into_iter().enumerate() {
        let action = action(operation).map_err(|problem| operations::at(name, index, problem))?;
        if !keys.insert(action.key.clone()) {
            let twice = invalid("its key stands in this branch before");
            return Err(operations::at(name, index, twice));
        }
        branch.push(action);
    }
    Ok(branch)
}

fn action(operation: Operation) -> Result<Action, Problem> {
    let (key, act, condition) = match operation.check()? {
        Checked::Get(key) => (key, Act::Get, Condition::None),
        Checked::Put {
            key,
            value,
            ttl_ms,
            condition,
        } => (key, Act::Put { value, ttl_ms }, condition),
        Checked::Delete { key, condition } => (key, Act::Delete, condition),
    };
    if condition != Condition::None {
        return Err(invalid("the conditions of a transaction stand in its own \"if\""));
    }
    Ok(Action { key, act })
}

fn bytes_of(txn: &Txn) -> usize {
    let keys = txn.keys().map(|key| key.as_bytes().len());
    let values = txn.actions().map(|action| match &action.act {
        Act::Put { value, .. } => value.len(),
        Act::Delete | Act::Get => 0,
    });
    let conditions = txn.conditions.iter().map(|(_, condition)| match condition {
        Condition::Value(value) => value.len(),
        _ => 0,
    });
    keys.sum::<usize>() + values.sum::<usize>() + conditions.sum::<usize>()
}

fn told(exchange: &Exchange<'_>, txn: &Txn, committed: &Committed) -> Result<Response<Body>, Problem> {
    let mut out = format!("{{\"succeeded\":{},", committed.held).into_bytes();
    operations::write_revision(&mut out, committed.revision);
    out.extend_from_slice(b",\"results\":[");
    let mut reads = committed.reads.iter();
    for (index, action) in txn.branch(committed.held).iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        match &action.act {
            Act::Put { .. } => {
                out.extend_from_slice(b"{\"status\":200,");
                operations::write_revision(&mut out, committed.revision);
            }
            Act::Delete => out.extend_from_slice(b"{\"status\":204"),
            Act::Get => match reads.next().and_then(Option::as_ref) {
                Some(record) => {
                    out.extend_from_slice(b"{\"status\":200,");
                    operations::write_record(&mut out, record);
                }
                None => out.extend_from_slice(b"{\"status\":404"),
            },
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}\n");
    let mut response = Response::new(value_body(exchange, out.into())?);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
