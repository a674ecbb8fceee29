//! `/v1/kv/{key}`: one key. The key is the raw rest of the path, so that it can be any bytes.

use std::time::Duration;

use bytes::Bytes;
use holdfast_common::access::Action;
use holdfast_common::clock;
use holdfast_common::key::{self, Key};
use holdfast_common::proto::kv::{Condition, Consistency, GetAnswer, Mutation, Once, Record, WriteOutcome};
use http::header::{CONTENT_TYPE, ETAG, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response, StatusCode};
use serde_json::{Map, Value};

use super::Exchange;
use super::body::{Body, Received, SMALL_BYTES};
use super::etag;
use super::explain;
use super::idempotency::IDEMPOTENCY_KEY;
use super::percent::{self, Plus};
use super::problem::{Code, Problem};
use super::query::Query;
use crate::explain::{ExplainGet, ExplainWrite};
use crate::metrics::Op;
use crate::point::{Freshness, Get, Write};

pub(super) const ALLOW: &str = "GET, HEAD, PUT, DELETE";

/// What a `PUT` may say in its query.
pub(super) const PUT_PARAMETERS: [&str; 3] = ["ttl", "timeout_ms", "explain"];

/// How far a stale answer may lag behind, milliseconds; under its two names.
const STALENESS: [HeaderName; 2] = [
    HeaderName::from_static("x-staleness-ms"),
    HeaderName::from_static("holdfast-staleness-ms"),
];

/// Longest time to live: a hundred years.
pub(super) const MAX_TTL_SECONDS: u64 = 100 * 365 * 24 * 60 * 60;

/// Answers a request for the key that begins at `key_at` in the path.
pub(super) async fn answer(
    exchange: &mut Exchange<'_>,
    key_at: usize,
) -> (Op, Result<Response<Body>, Problem>) {
    match exchange.head.method {
        Method::GET | Method::HEAD => (Op::Get, get(exchange, key_at).await),
        Method::PUT => (Op::Put, put(exchange, key_at).await),
        Method::DELETE => (Op::Delete, delete(exchange, key_at).await),
        _ => (Op::Other, Err(Problem::method_not_allowed(ALLOW))),
    }
}

async fn get(exchange: &Exchange<'_>, key_at: usize) -> Result<Response<Body>, Problem> {
    let head = &exchange.head;
    let key = key_of(&head.uri.path()[key_at..])?;
    exchange.permit_key(Action::Read, key.as_bytes())?;
    let query = Query::parse(
        head.uri.query(),
        &["consistency", "max_staleness", "timeout_ms", "explain"],
    )?;
    let (freshness, timeout) = (query.freshness()?, query.timeout()?);
    etag::check_read(&head.headers)?;
    let is_explained = query.flag("explain")?;
    let (record, staleness_ms, story) = if is_explained {
        read_explained(exchange, key, freshness, timeout).await?
    } else {
        let (record, staleness_ms) = read(exchange, key, freshness, timeout).await?;
        (record, staleness_ms, Map::new())
    };
    let known = etag::is_known(&head.headers, record.revision)?;
    let mut response = if known {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        let mut response = Response::new(value_body(exchange, record.value)?);
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        response
    };
    response.headers_mut().insert(ETAG, etag::header(record.revision));
    if freshness.consistency == Consistency::Stale {
        tell_staleness(&mut response, staleness_ms);
    }
    if is_explained {
        explain::tell(&mut response, story);
    }
    Ok(response)
}

async fn put(exchange: &mut Exchange<'_>, key_at: usize) -> Result<Response<Body>, Problem> {
    let head = &exchange.head;
    let key = key_of(&head.uri.path()[key_at..])?;
    exchange.permit_key(Action::Write, key.as_bytes())?;
    let query = Query::parse(head.uri.query(), &PUT_PARAMETERS)?;
    let ttl_ms = query.number("ttl", 1..=MAX_TTL_SECONDS)?.unwrap_or(0) * 1_000;
    let timeout = query.timeout()?;
    let (once, is_explained) = (exchange.once()?, query.flag("explain")?);
    let condition = etag::put_condition(&head.headers)?;
    let Received { bytes: value, room } = exchange.read_body(Op::Put).await?;
    let mutation = Mutation::Put { value, ttl_ms };
    let write = Write::new(&exchange.front.sender, key, condition, mutation).under(once);
    let answer = answer_write(exchange, write, is_explained, timeout).await;
    drop(room);
    answer
}

async fn delete(exchange: &Exchange<'_>, key_at: usize) -> Result<Response<Body>, Problem> {
    let head = &exchange.head;
    let key = key_of(&head.uri.path()[key_at..])?;
    exchange.permit_key(Action::Write, key.as_bytes())?;
    let query = Query::parse(head.uri.query(), &["timeout_ms", "explain"])?;
    let (timeout, is_explained) = (query.timeout()?, query.flag("explain")?);
    let once = exchange.once()?;
    let condition = etag::delete_condition(&head.headers)?;
    let write = Write::new(&exchange.front.sender, key, condition, Mutation::Delete).under(once);
    answer_write(exchange, write, is_explained, timeout).await
}

/// Makes a write and answers with its outcome. Its time begins now that all of it has arrived.
async fn answer_write(
    exchange: &Exchange<'_>,
    mut write: Write<'_>,
    is_explained: bool,
    timeout: Duration,
) -> Result<Response<Body>, Problem> {
    let sender = &exchange.front.sender;
    let deadline = clock::now() + timeout;
    if !is_explained {
        return written(sender.send(&mut write, deadline).await?);
    }
    let mut write = ExplainWrite::new(write);
    let explained = sender.send(&mut write, deadline).await?;
    let story = explain::write(exchange, &write.trail, &explained);
    let mut response = written(explained.outcome)?;
    explain::tell(&mut response, story);
    Ok(response)
}

/// As [`read`], with how it was done.
async fn read_explained(
    exchange: &Exchange<'_>,
    key: Key,
    freshness: Freshness,
    timeout: Duration,
) -> Result<(Record, u64, Map<String, Value>), Problem> {
    let sender = &exchange.front.sender;
    let mut get = ExplainGet::new(Get::new(sender, key, freshness.consistency));
    let explained = sender.send(&mut get, exchange.started + timeout).await?;
    let story = explain::read(exchange, &get.trail, &explained);
    let GetAnswer { record, staleness_ms } = explained.answer;
    let record = record.ok_or_else(|| Problem::new(Code::NotFound, "the key does not exist"))?;
    Ok((record, staleness_ms, story))
}

/// Reads a key that has to exist; with how stale the answer may be, milliseconds.
pub(super) async fn read(
    exchange: &Exchange<'_>,
    key: Key,
    freshness: Freshness,
    timeout: Duration,
) -> Result<(Record, u64), Problem> {
    exchange.permit_key(Action::Read, key.as_bytes())?;
    let sender = &exchange.front.sender;
    let deadline = exchange.started + timeout;
    let mut read = Get::new(sender, key.clone(), freshness.consistency);
    let mut answer = sender.send(&mut read, deadline).await?;
    if freshness.is_exceeded_by(answer.staleness_ms) {
        answer = sender
            .send(&mut Get::new(sender, key, Consistency::Linearizable), deadline)
            .await?;
    }
    let GetAnswer { record, staleness_ms } = answer;
    let record = record.ok_or_else(|| Problem::new(Code::NotFound, "the key does not exist"))?;
    Ok((record, staleness_ms))
}

/// Tells how far an answer may lag behind.
pub(super) fn tell_staleness(response: &mut Response<Body>, staleness_ms: u64) {
    for name in STALENESS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from(staleness_ms));
    }
}

/// Makes a write. Its time begins now that all of it has arrived.
pub(super) async fn write(
    exchange: &Exchange<'_>,
    key: Key,
    condition: Condition,
    mutation: Mutation,
    once: Option<Once>,
    timeout: Duration,
) -> Result<WriteOutcome, Problem> {
    exchange.permit_key(Action::Write, key.as_bytes())?;
    let sender = &exchange.front.sender;
    let mut write = Write::new(sender, key, condition, mutation).under(once);
    Ok(sender.send(&mut write, clock::now() + timeout).await?)
}

fn written(outcome: WriteOutcome) -> Result<Response<Body>, Problem> {
    let (status, revision) = match outcome {
        WriteOutcome::Created(revision) => (StatusCode::CREATED, Some(revision)),
        WriteOutcome::Replaced(revision) => (StatusCode::NO_CONTENT, Some(revision)),
        WriteOutcome::Deleted(_) | WriteOutcome::WasAbsent => (StatusCode::NO_CONTENT, None),
        WriteOutcome::ConditionFailed(present) => return Err(Problem::precondition_failed(present)),
        // Only a transaction has this outcome; the sender saw to it.
        WriteOutcome::Committed(committed) => (StatusCode::NO_CONTENT, Some(committed.revision)),
    };
    let mut response = empty(status);
    if let Some(revision) = revision {
        response.headers_mut().insert(ETAG, etag::header(revision));
    }
    Ok(response)
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

/// The body of a value, which takes room until the client has read it.
pub(super) fn value_body(exchange: &Exchange<'_>, value: Bytes) -> Result<Body, Problem> {
    if value.len() <= SMALL_BYTES {
        return Ok(Body::full(value));
    }
    let room = exchange.front.budget.reserve(value.len());
    room.map(|room| Body::held(value, room))
        .ok_or_else(Problem::no_room)
}

/// The key that the raw rest of a path stands for.
pub(super) fn key_of(raw: &str) -> Result<Key, Problem> {
    let decoded = percent::decode(raw.as_bytes(), Plus::Itself)
        .map_err(|error| Problem::new(Code::InvalidKey, error.to_string()))?;
    key_from(Bytes::copy_from_slice(&decoded))
}

/// A key of these bytes.
pub(super) fn key_from(bytes: Bytes) -> Result<Key, Problem> {
    Key::new(bytes).map_err(|error| {
        let code = if matches!(error, key::Error::TooLong(_)) {
            Code::KeyTooLong
        } else {
            Code::InvalidKey
        };
        Problem::new(code, error.to_string())
    })
}

/// A client that sends an `Idempotency-Key` relies on it: better refused than ignored where it can't be honoured.
pub(super) fn refuse_idempotency_key(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        return Err(Problem::new(
            Code::NotImplemented,
            "Idempotency-Key is not supported here; nothing was applied",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_any_bytes_of_the_raw_path() {
        let table: [(&str, &[u8]); 8] = [
            ("a", b"a"),
            ("a/b//c/", b"a/b//c/"),
            ("%2F", b"/"),
            ("%00%FF", b"\0\xff"),
            ("../..", b"../.."),
            ("a+b", b"a+b"),
            ("%25", b"%"),
            ("%E2%82%AC", "€".as_bytes()),
        ];
        for (raw, key) in table {
            assert_eq!(key_of(raw).expect("a key").as_bytes(), key, "{raw}");
        }
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        let code = |raw: &str| key_of(raw).expect_err("a problem").code;
        assert_eq!(code(""), Code::InvalidKey);
        assert_eq!(code("%"), Code::InvalidKey);
        assert_eq!(code("a%zz"), Code::InvalidKey);
        assert_eq!(code(&"a".repeat(4097)), Code::KeyTooLong);
        assert_eq!(code(&"%00".repeat(4097)), Code::KeyTooLong);
        assert!(
            key_of(&"%00".repeat(4096)).is_ok(),
            "the bound is on the decoded key"
        );
    }
}
