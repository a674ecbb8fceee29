//! What a router reads of a request before it does anything: the same functions, by the same paths, without a cluster behind
//! them. For those who make up requests to see whether one of them does harm (`fuzz/`).

use bytes::Bytes;
use holdfast_common::key::Span;
use holdfast_common::proto::kv::{Condition, Once, Txn};
use holdfast_common::revision::Revision;
use http::HeaderMap;
use serde::de::DeserializeOwned;

use super::batch::BatchRequest;
use super::operations::{self, Checked};
use super::problem::Problem;
use super::query::Query;
use super::request_id::RequestIds;
use super::{Resource, etag, idempotency, kv, scan, txn};
use crate::cursor::Cursor;

/// A request that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The status that it is answered.
    pub status: u16,
    /// Why, in words.
    pub detail: String,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self {
            status: problem.code.status().as_u16(),
            detail: problem.detail.into_owned(),
        }
    }
}

/// What headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The name that the request goes by.
    pub id: String,
    /// The client's name for its write.
    pub once: Option<Once>,
    /// What a `PUT` demands.
    pub put: Condition,
}

/// Reads the path of a request, and the key in it if it has one.
///
/// # Errors
/// The key is none.
pub fn path(path: &str) -> Result<Option<Bytes>, Refused> {
    match Resource::at(path) {
        Resource::Key(at) | Resource::Explain(at) => Ok(Some(kv::key_of(&path[at..])?.into_bytes())),
        other => {
            drop(other.options());
            Ok(None)
        }
    }
}

/// Reads a query as a scan does; none for one of no keys.
///
/// # Errors
/// It is not understood.
pub fn scan(query: &str) -> Result<Option<Span>, Refused> {
    Ok(scan::read(query)?)
}

/// Reads a query as a write of one key does: its time to live in seconds.
///
/// # Errors
/// It is not understood.
pub fn write(query: &str) -> Result<Option<u64>, Refused> {
    let query = Query::parse(Some(query), &kv::PUT_PARAMETERS)?;
    query.timeout()?;
    query.flag("explain")?;
    Ok(query.number("ttl", 1..=kv::MAX_TTL_SECONDS)?)
}

/// Reads the headers of a request.
///
/// # Errors
/// One of them is malformed, or they contradict each other.
pub fn head(headers: &HeaderMap) -> Result<Head, Refused> {
    let id = RequestIds::new().name(headers).as_str().to_owned();
    let known = etag::check_read(headers).and_then(|()| etag::is_known(headers, Revision(7)));
    let removal = etag::delete_condition(headers);
    let once = idempotency::name(headers, 1)?;
    let put = etag::put_condition(headers)?;
    removal?;
    known?;
    Ok(Head { id, once, put })
}

/// Reads the body of a batch: how many operations it has.
///
/// # Errors
/// It is none.
pub fn batch(body: &[u8]) -> Result<usize, Refused> {
    let request: BatchRequest = json(body)?;
    let checked: Vec<Checked> = request.check()?;
    Ok(checked.len())
}

/// Reads the body of a transaction.
///
/// # Errors
/// It is none.
pub fn txn(body: &[u8]) -> Result<Txn, Refused> {
    Ok(txn::check(json(body)?)?)
}

/// Reads a cursor: what is left to scan, whether from the end, and the text that it is written as.
pub fn cursor(text: &[u8]) -> Option<(Span, bool, String)> {
    let cursor = Cursor::decode(text).ok()?;
    let text = cursor.encode();
    Some((cursor.rest, cursor.reverse, text))
}

/// The text of a cursor.
pub fn cursor_of(rest: Span, reverse: bool) -> String {
    Cursor { rest, reverse }.encode()
}

fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    operations::parse(body)
}
