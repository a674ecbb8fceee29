//! The routes of the systems that this one grew out of, so that what was written for them goes on working: `/kv`, `/kv/{key}`,
//! `/set`, `/get`, `/delete`, `/status`, `/join`. They are a thin dress over the same operations, with text in JSON.

use bytes::Bytes;
use holdfast_common::key::Key;
use holdfast_common::limits::DEFAULT_DEADLINE;
use holdfast_common::proto::kv::{Condition, Mutation, Record, Row, WriteOutcome};
use holdfast_common::revision::Revision;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Exchange;
use super::body::Body;
use super::json;
use super::kv;
use super::listing::Shape;
use super::problem::{Code, Problem};
use super::query::{Query, invalid};
use super::scan::Scan;
use crate::metrics::Op;
use crate::point::Freshness;
use crate::scan::Plan;

/// One of the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// One key; the offset in the path at which it begins.
    Key(usize),
    /// All pairs.
    All,
    Set,
    Get,
    Delete,
    Status,
    Join,
}

const KEY_PREFIX: &str = "/kv/";

impl Route {
    /// The route at a path, if there is one.
    pub(super) fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/kv" => Self::All,
            "/set" => Self::Set,
            "/get" => Self::Get,
            "/delete" => Self::Delete,
            "/status" => Self::Status,
            "/join" => Self::Join,
            path if path.starts_with(KEY_PREFIX) => Self::Key(KEY_PREFIX.len()),
            _ => return None,
        })
    }

    pub(super) fn allow(self) -> &'static str {
        match self {
            Self::Key(_) => "GET, PUT, DELETE",
            Self::Set | Self::Delete => "POST",
            Self::All | Self::Get | Self::Status | Self::Join => "GET",
        }
    }
}

/// `{"value": "…"}`
#[derive(Deserialize)]
struct Value {
    value: String,
}

/// `{"key": "…", "value": "…"}`
#[derive(Deserialize)]
struct Pair {
    key: String,
    value: String,
}

/// `{"key": "…"}`
#[derive(Deserialize)]
struct JustKey {
    key: String,
}

/// Answers a request for one of the routes.
pub(super) async fn answer(
    exchange: &mut Exchange<'_>,
    route: Route,
) -> (Op, Result<Response<Body>, Problem>) {
    let method = exchange.head.method.clone();
    match (method, route) {
        (Method::GET, Route::Key(at)) => (Op::Get, get_pair(exchange, at).await),
        (Method::PUT, Route::Key(at)) => (Op::Put, put_value(exchange, at).await),
        (Method::DELETE, Route::Key(at)) => (Op::Delete, delete_key(exchange, at).await),
        (Method::POST, Route::Set) => (Op::Put, set(exchange).await),
        (Method::GET, Route::Get) => (Op::Get, get_value(exchange).await),
        (Method::POST, Route::Delete) => (Op::Delete, delete(exchange).await),
        (Method::GET, Route::All) => (Op::Scan, all(exchange).await),
        (Method::GET, Route::Status) => (Op::Other, status(exchange)),
        (Method::GET, Route::Join) => (Op::Other, join(exchange)),
        (_, route) => (Op::Other, Err(Problem::method_not_allowed(route.allow()))),
    }
}

async fn get_pair(exchange: &Exchange<'_>, at: usize) -> Result<Response<Body>, Problem> {
    Query::parse(exchange.head.uri.query(), &[])?;
    let key = kv::key_of(&exchange.head.uri.path()[at..])?;
    let (record, _) = kv::read(exchange, key.clone(), Freshness::LINEARIZABLE, DEFAULT_DEADLINE).await?;
    Ok(pair(key, record))
}

async fn put_value(exchange: &mut Exchange<'_>, at: usize) -> Result<Response<Body>, Problem> {
    Query::parse(exchange.head.uri.query(), &[])?;
    let key = kv::key_of(&exchange.head.uri.path()[at..])?;
    let Value { value } = body(exchange, Op::Put, "{\"value\": \"…\"}").await?;
    put(exchange, key, value).await
}

async fn set(exchange: &mut Exchange<'_>) -> Result<Response<Body>, Problem> {
    let Pair { key, value } = body(exchange, Op::Put, "{\"key\": \"…\", \"value\": \"…\"}").await?;
    put(exchange, kv::key_from(key.into())?, value).await
}

async fn get_value(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    let key = Query::parse(exchange.head.uri.query(), &["key"])?.bytes("key");
    let key = kv::key_from(key.ok_or_else(|| invalid("which key? /get?key=…"))?)?;
    let (record, _) = kv::read(exchange, key, Freshness::LINEARIZABLE, DEFAULT_DEADLINE).await?;
    Ok(typed(
        kv::value_body(exchange, record.value)?,
        "text/plain; charset=utf-8",
    ))
}

async fn delete_key(exchange: &Exchange<'_>, at: usize) -> Result<Response<Body>, Problem> {
    Query::parse(exchange.head.uri.query(), &[])?;
    remove(exchange, kv::key_of(&exchange.head.uri.path()[at..])?).await
}

async fn delete(exchange: &mut Exchange<'_>) -> Result<Response<Body>, Problem> {
    let JustKey { key } = body(exchange, Op::Delete, "{\"key\": \"…\"}").await?;
    remove(exchange, kv::key_from(key.into())?).await
}

/// All pairs: linearizable range by range, made as the client reads them, and never all in memory.
async fn all(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    Query::parse(exchange.head.uri.query(), &[])?;
    let plan = Plan {
        span: Some(holdfast_common::key::Span::everything()),
        reverse: false,
        keys_only: false,
        freshness: Freshness::LINEARIZABLE,
        limit: usize::MAX,
    };
    Scan::begin(exchange, plan, Shape::Object, DEFAULT_DEADLINE)?
        .streamed()
        .await
}

/// The cluster, as this router knows it.
fn status(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    let overview = exchange.front.directory.overview();
    // Numbers and addresses always serialize.
    let mut json = serde_json::to_value(&overview).unwrap_or_default();
    let healthy = overview.ranges > 0 && overview.ranges_without_leader == 0;
    json["health"] = if healthy { "ok" } else { "degraded" }.into();
    Ok(typed(Body::full(json.to_string()), "application/json"))
}

/// A node does not have to be let in any more: it asks for it.
fn join(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    let address = Query::parse(exchange.head.uri.query(), &["peerAddress"])?.bytes("peerAddress");
    let address = address.ok_or_else(|| invalid("who is to join? /join?peerAddress=…"))?;
    let command = "holdfast store --name NAME --data-dir DIR --http ADDR --rpc ADDR --placement RPC,RPC…";
    let json = serde_json::json!({
        "peer_address": String::from_utf8_lossy(&address),
        "message": "a store joins by itself when it is started with the addresses of the placement driver",
        "command": command,
    });
    Ok(typed(Body::full(json.to_string()), "application/json"))
}

async fn put(exchange: &Exchange<'_>, key: Key, value: String) -> Result<Response<Body>, Problem> {
    let value = Bytes::from(value);
    let mutation = Mutation::Put {
        value: value.clone(),
        ttl_ms: 0,
    };
    let once = exchange.once()?;
    let outcome = kv::write(
        exchange,
        key.clone(),
        Condition::None,
        mutation,
        once,
        DEFAULT_DEADLINE,
    )
    .await?;
    let revision = match outcome {
        WriteOutcome::Created(revision) | WriteOutcome::Replaced(revision) => revision,
        // An unconditional put has no other outcome; the sender saw to it.
        _ => Revision::ZERO,
    };
    Ok(pair(
        key,
        Record {
            revision,
            expires_ms: 0,
            value,
        },
    ))
}

async fn remove(exchange: &Exchange<'_>, key: Key) -> Result<Response<Body>, Problem> {
    let once = exchange.once()?;
    let outcome = kv::write(
        exchange,
        key,
        Condition::None,
        Mutation::Delete,
        once,
        DEFAULT_DEADLINE,
    )
    .await?;
    let deleted = matches!(outcome, WriteOutcome::Deleted(_));
    Ok(typed(
        Body::full(format!("{{\"deleted\":{deleted}}}\n")),
        "application/json",
    ))
}

/// Reads the body as JSON, whatever its content type claims.
async fn body<T: DeserializeOwned>(
    exchange: &mut Exchange<'_>,
    op: Op,
    expected: &str,
) -> Result<T, Problem> {
    let received = exchange.read_body(op).await?;
    serde_json::from_slice(&received.bytes)
        .map_err(|error| Problem::new(Code::InvalidBody, format!("expected {expected}: {error}")))
}

fn pair(key: Key, record: Record) -> Response<Body> {
    let mut out = Vec::new();
    json::write_row(&mut out, &Row { key, record }, false);
    out.push(b'\n');
    typed(Body::full(out), "application/json")
}

fn typed(body: Body, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
