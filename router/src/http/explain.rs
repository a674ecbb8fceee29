//! How a request was carried out, as JSON: the answer of `/v1/explain/{key}`, and the header `x-explain` of a request that
//! asks for it with `explain=1`.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdfast_common::access::Action;
use holdfast_common::proto::kv::{ExplainedGet, ExplainedWrite, ReadPath};
use holdfast_common::range::Role;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Response};
use serde_json::{Map, Value, json};

use super::Exchange;
use super::body::Body;
use super::kv::key_of;
use super::problem::Problem;
use super::query::Query;
use crate::explain::{ExplainGet, Trail};
use crate::point::Get;
use crate::range_cache::Route;

/// The methods of `/v1/explain/{key}`.
pub(super) const ALLOW: &str = "GET";

/// The header.
const X_EXPLAIN: HeaderName = HeaderName::from_static("x-explain");

/// Reads the key that begins at `key_at` in the path, and tells how.
pub(super) async fn answer(exchange: &Exchange<'_>, key_at: usize) -> Result<Response<Body>, Problem> {
    let head = &exchange.head;
    if head.method != Method::GET {
        return Err(Problem::method_not_allowed(ALLOW));
    }
    let key = key_of(&head.uri.path()[key_at..])?;
    exchange.permit_key(Action::Read, key.as_bytes())?;
    let query = Query::parse(head.uri.query(), &["consistency", "timeout_ms"])?;
    let (freshness, timeout) = (query.freshness()?, query.timeout()?);
    let sender = &exchange.front.sender;
    let mut get = ExplainGet::new(Get::new(sender, key.clone(), freshness.consistency));
    let explained = sender.send(&mut get, exchange.started + timeout).await?;
    let mut json = Map::new();
    put_bytes(&mut json, "key", key.as_bytes());
    let record = explained.answer.record.as_ref();
    json.insert("found".to_owned(), record.is_some().into());
    if let Some(record) = record {
        json.insert("revision".to_owned(), record.revision.to_string().into());
        json.insert("value_bytes".to_owned(), record.value.len().into());
    }
    json.extend(read(exchange, &get.trail, &explained));
    let mut response = Response::new(Body::full(Value::Object(json).to_string() + "\n"));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// How a read was carried out.
pub(super) fn read(exchange: &Exchange<'_>, trail: &Trail, explained: &ExplainedGet) -> Map<String, Value> {
    let store_us = explained.wait_us + explained.read_us;
    let mut json = way(exchange, trail, store_us);
    let path = match explained.path {
        ReadPath::Lease => "lease",
        ReadPath::ReadIndex => "read_index",
        ReadPath::Stale => "stale",
    };
    let store = json!({
        "replica_id": explained.replica,
        "path": path,
        "applied_index": explained.applied,
        "staleness_ms": explained.answer.staleness_ms,
        "wait_us": explained.wait_us,
        "read_us": explained.read_us,
    });
    json.insert("store".to_owned(), store);
    json
}

/// How a write was carried out.
pub(super) fn write(
    exchange: &Exchange<'_>,
    trail: &Trail,
    explained: &ExplainedWrite,
) -> Map<String, Value> {
    let store_us = explained.queue_us + explained.commit_us;
    let mut json = way(exchange, trail, store_us);
    let store = json!({
        "replica_id": explained.replica,
        "writes_in_entry": explained.writes_in_entry,
        "queue_us": explained.queue_us,
        "commit_us": explained.commit_us,
    });
    json.insert("store".to_owned(), store);
    json
}

/// Adds the header.
pub(super) fn tell(response: &mut Response<Body>, json: Map<String, Value>) {
    // Keys that are not ASCII are escaped by hand: a header is.
    let text: String = Value::Object(json)
        .to_string()
        .chars()
        .map(|c| {
            if c.is_ascii() {
                c.to_string()
            } else {
                format!("\\u{:04x}", u32::from(c).min(0xfffd))
            }
        })
        .collect();
    response
        .headers_mut()
        .extend(HeaderValue::from_str(&text).ok().map(|text| (X_EXPLAIN, text)));
}

/// Where it went, and the time that it took there and here.
fn way(exchange: &Exchange<'_>, trail: &Trail, store_us: u64) -> Map<String, Value> {
    let attempts = trail.attempts.iter().map(|attempt| {
        json!({
            "store_id": attempt.store,
            "us": micros(attempt.took),
            "failed": attempt.failure.map(|failure| failure.to_string()),
        })
    });
    let total_us = micros(exchange.started.elapsed());
    let last_us = trail.attempts.last().map_or(0, |attempt| micros(attempt.took));
    let mut json = Map::new();
    json.insert(
        "range".to_owned(),
        trail.route.as_ref().map_or(Value::Null, range),
    );
    json.insert(
        "cache".to_owned(),
        if trail.was_hit() { "hit" } else { "miss" }.into(),
    );
    json.insert("retries".to_owned(), trail.count.saturating_sub(1).into());
    json.insert("attempts".to_owned(), attempts.collect());
    json.insert(
        "us".to_owned(),
        json!({
            "total": total_us,
            "router": total_us.saturating_sub(last_us),
            "network": last_us.saturating_sub(store_us),
            "store": store_us,
        }),
    );
    json
}

fn range(route: &Route) -> Value {
    let descriptor = &route.descriptor;
    let replicas = descriptor.replicas.iter().map(|replica| {
        let role = match replica.role {
            Role::Voter => "voter",
            Role::Learner => "learner",
            Role::Outgoing => "outgoing",
        };
        json!({"id": replica.id, "store_id": replica.store, "role": role})
    });
    let mut json = Map::new();
    json.insert("id".to_owned(), json!(descriptor.id));
    put_bytes(&mut json, "start", descriptor.span.start());
    put_bytes(&mut json, "end", descriptor.span.end());
    json.insert(
        "epoch".to_owned(),
        json!({"bounds": descriptor.epoch.bounds, "membership": descriptor.epoch.membership}),
    );
    json.insert("replicas".to_owned(), replicas.collect());
    json.insert("leader_store".to_owned(), json!(route.leader));
    Value::Object(json)
}

/// Text, or base64 under another name.
fn put_bytes(json: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(text) => json.insert(name.to_owned(), text.into()),
        Err(_) => json.insert(format!("{name}_base64"), STANDARD.encode(bytes).into()),
    };
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}
