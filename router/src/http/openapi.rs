//! The OpenAPI document of this API, made from the types that parse it and the table of its errors. It is served at
//! `/openapi.json`, and lies in `docs/api/router.json`, which a test holds to be the same.
//!
//! The functions here are never called, and the types never made: each carries the description of an operation or of what
//! it answers.
#![expect(dead_code, reason = "descriptions")]

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Response};
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Required, ResponseBuilder};
use utoipa::{Modify, OpenApi, ToSchema};

use super::Exchange;
use super::batch::BatchRequest;
use super::body::Body;
use super::problem::{Code, Problem};
use super::txn::TxnRequest;

/// An error (RFC 9457).
#[derive(ToSchema)]
#[schema(as = Problem)]
struct ProblemDocument {
    /// `urn:holdfast:problem:` and the code.
    r#type: String,
    title: String,
    status: u16,
    detail: String,
    /// What went wrong; a closed list.
    code: String,
    /// Whether the same request may succeed later.
    retryable: bool,
    request_id: String,
}

/// A row of a listing. What is not UTF-8 is base64 under the name with `_base64`.
#[derive(ToSchema)]
struct Item {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    /// A decimal number.
    revision: String,
}

/// A page of a listing; or, for `count`, `{"count", "next_cursor"}`.
#[derive(ToSchema)]
struct Listing {
    items: Option<Vec<Item>>,
    count: Option<u64>,
    /// Where to go on; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// What was removed.
#[derive(ToSchema)]
struct Deleted {
    deleted: u64,
    /// Where to go on; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// What became of an operation.
#[derive(ToSchema)]
struct OperationResult {
    status: u16,
    revision: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    #[schema(value_type = Option<ProblemDocument>)]
    error: Option<ProblemDocument>,
}

#[derive(ToSchema)]
struct BatchAnswer {
    /// One for each operation, in their order.
    results: Vec<OperationResult>,
}

#[derive(ToSchema)]
struct TxnAnswer {
    /// Whether the conditions held.
    succeeded: bool,
    /// The revision of everything that was written.
    revision: String,
    /// One for each operation of the branch taken.
    results: Vec<OperationResult>,
}

#[derive(ToSchema)]
struct Status {
    status: String,
}

/// Text under a key, as earlier systems knew it.
#[derive(ToSchema)]
struct Pair {
    key: String,
    value: String,
}

#[derive(ToSchema)]
struct JustKey {
    key: String,
}

#[derive(ToSchema)]
struct JustValue {
    value: String,
}

#[utoipa::path(get, path = "/v1/kv/{key}", tag = "one key", summary = "Read a value", params(
    ("consistency" = Option<String>, Query, description = "linearizable (default) or stale"),
    ("max_staleness" = Option<u64>, Query, maximum = 86_400_000, description = "Bound on a stale read, milliseconds"),
    ("explain" = Option<bool>, Query, description = "Tell in x-explain how the read was carried out"),
    ("If-None-Match" = Option<String>, Header, description = "Revisions that the client has, as entity tags"),
), responses(
    (status = 200, description = "The value", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 304, description = "The record has a revision that the client has"),
))]
fn get_key() {}

#[utoipa::path(head, path = "/v1/kv/{key}", tag = "one key", summary = "Read all but the value", params(
    ("consistency" = Option<String>, Query, description = "linearizable (default) or stale"),
    ("max_staleness" = Option<u64>, Query, maximum = 86_400_000, description = "Bound on a stale read, milliseconds"),
    ("If-None-Match" = Option<String>, Header, description = "Revisions that the client has, as entity tags"),
), responses(
    (status = 200, description = "The record exists"),
    (status = 304, description = "The record has a revision that the client has"),
))]
fn head_key() {}

#[utoipa::path(put, path = "/v1/kv/{key}", tag = "one key", summary = "Write a value", params(
    ("ttl" = Option<u64>, Query, minimum = 1, maximum = 3_153_600_000_i64, description = "Seconds after which the record ceases to exist"),
    ("explain" = Option<bool>, Query, description = "Tell in x-explain how the write was carried out"),
    ("If-Match" = Option<String>, Header, description = "The revision that the record must have, as an entity tag; * for any"),
    ("If-None-Match" = Option<String>, Header, description = "*: only if there is no record"),
    ("Idempotency-Key" = Option<String>, Header, description = "Applied at most once under this name"),
    ("Idempotency-Done" = Option<u64>, Header, description = "Of a key that ends in a slash and a number: nothing below this number is sent again"),
), request_body(content = Vec<u8>, content_type = "application/octet-stream", description = "The value"), responses(
    (status = 201, description = "The record did not exist and does now; ETag has its revision"),
    (status = 204, description = "The record was replaced; ETag has its revision"),
))]
fn put_key() {}

#[utoipa::path(delete, path = "/v1/kv/{key}", tag = "one key", summary = "Remove a record", params(
    ("explain" = Option<bool>, Query, description = "Tell in x-explain how the write was carried out"),
    ("If-Match" = Option<String>, Header, description = "The revision that the record must have, as an entity tag; * for any"),
    ("Idempotency-Key" = Option<String>, Header, description = "Applied at most once under this name"),
    ("Idempotency-Done" = Option<u64>, Header, description = "Of a key that ends in a slash and a number: nothing below this number is sent again"),
), responses((status = 204, description = "There is no record any more")))]
fn delete_key() {}

#[utoipa::path(get, path = "/v1/explain/{key}", tag = "one key", summary = "Tell how a key is read", params(
    ("consistency" = Option<String>, Query, description = "linearizable (default) or stale"),
), responses((status = 200, description = "Range, replicas, attempts, and where the time went", body = Object)))]
fn explain() {}

#[utoipa::path(get, path = "/v1/kv", tag = "many keys", summary = "List or count keys in order", params(
    ("prefix" = Option<String>, Query, description = "Keys that begin with this; not with start or end"),
    ("start" = Option<String>, Query, description = "From this key on"),
    ("end" = Option<String>, Query, description = "Up to this key, which is left out"),
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 1_000_000, description = "Most rows"),
    ("reverse" = Option<bool>, Query, description = "From the last to the first"),
    ("keys_only" = Option<bool>, Query, description = "Leave the values out"),
    ("count" = Option<bool>, Query, description = "Tell only how many there are"),
    ("cursor" = Option<String>, Query, description = "Where an earlier listing ended"),
    ("consistency" = Option<String>, Query, description = "linearizable (default) or stale"),
    ("max_staleness" = Option<u64>, Query, maximum = 86_400_000, description = "Bound on a stale read, milliseconds"),
), responses((status = 200, description = "A page; or, with Accept: application/x-ndjson, a stream of items whose last line is {\"next_cursor\"} or {\"error\"}",
    content((Listing = "application/json"), (String = "application/x-ndjson")))))]
fn list() {}

#[utoipa::path(delete, path = "/v1/kv", tag = "many keys", summary = "Remove keys", params(
    ("prefix" = Option<String>, Query, description = "Keys that begin with this; not with start or end"),
    ("start" = Option<String>, Query, description = "From this key on"),
    ("end" = Option<String>, Query, description = "Up to this key, which is left out"),
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 1_000_000, description = "Most rows"),
    ("cursor" = Option<String>, Query, description = "Where an earlier request ended"),
), responses((status = 200, description = "How many are gone; or a stream with a line after each page",
    content((Deleted = "application/json"), (String = "application/x-ndjson")))))]
fn delete_many() {}

#[utoipa::path(post, path = "/v1/batch", tag = "several operations", summary = "Carry out operations, each by itself", params(
    ("Idempotency-Key" = Option<String>, Header, description = "Each operation is applied at most once under this name"),
    ("Idempotency-Done" = Option<u64>, Header, description = "Of a key that ends in a slash and a number: nothing below this number is sent again"),
), request_body = BatchRequest, responses((status = 200, description = "What became of each", body = BatchAnswer)))]
fn batch() {}

#[utoipa::path(post, path = "/v1/txn", tag = "several operations", summary = "Read and write keys of one range at one moment", params(
    ("Idempotency-Key" = Option<String>, Header, description = "Carried out at most once under this name"),
    ("Idempotency-Done" = Option<u64>, Header, description = "Of a key that ends in a slash and a number: nothing below this number is sent again"),
), request_body = TxnRequest, responses((status = 200, description = "What was done", body = TxnAnswer)))]
fn txn() {}

#[utoipa::path(get, path = "/health", tag = "process", summary = "The process runs", responses((status = 200, description = "It does", body = Status)))]
fn health() {}

#[utoipa::path(get, path = "/ready", tag = "process", summary = "Requests can be served", responses((status = 200, description = "They can", body = Status)))]
fn ready() {}

#[utoipa::path(get, path = "/metrics", tag = "process", summary = "Every metric, for Prometheus", responses((status = 200, description = "Metrics", body = String, content_type = "text/plain")))]
fn metrics() {}

#[utoipa::path(get, path = "/openapi.json", tag = "process", summary = "This document", responses((status = 200, description = "It", body = Object)))]
fn document() {}

#[utoipa::path(get, path = "/kv/{key}", tag = "earlier systems", responses((status = 200, description = "The pair", body = Item)))]
fn seed_get() {}

#[utoipa::path(put, path = "/kv/{key}", tag = "earlier systems", request_body = JustValue, responses((status = 200, description = "The pair", body = Item)))]
fn seed_put() {}

#[utoipa::path(delete, path = "/kv/{key}", tag = "earlier systems", responses((status = 200, description = "Whether there was one", body = Object)))]
fn seed_delete_key() {}

#[utoipa::path(get, path = "/kv", tag = "earlier systems", responses((status = 200, description = "All pairs, streamed; \"error\" in the place of the cursor if it breaks off", body = Listing)))]
fn seed_all() {}

#[utoipa::path(post, path = "/set", tag = "earlier systems", request_body = Pair, responses((status = 200, description = "The pair", body = Item)))]
fn seed_set() {}

#[utoipa::path(get, path = "/get", tag = "earlier systems", params(("key" = String, Query, description = "The key")),
    responses((status = 200, description = "The bare value", body = String, content_type = "text/plain")))]
fn seed_read() {}

#[utoipa::path(post, path = "/delete", tag = "earlier systems", request_body = JustKey, responses((status = 200, description = "Whether there was one", body = Object)))]
fn seed_delete() {}

#[utoipa::path(get, path = "/status", tag = "earlier systems", responses((status = 200, description = "The cluster, as this router knows it", body = Object)))]
fn seed_status() {}

#[utoipa::path(get, path = "/join", tag = "earlier systems", params(("peerAddress" = String, Query, description = "Who is to join")),
    responses((status = 200, description = "How a store joins", body = Object)))]
fn seed_join() {}

#[derive(OpenApi)]
#[openapi(
    info(title = "Holdfast", version = "1", description = "A router of a Holdfast cluster: the data API. Errors are application/problem+json; 503 means not applied, 504 that a write may or may not have been applied."),
    paths(
        get_key, head_key, put_key, delete_key, explain, list, delete_many, batch, txn, health, ready, metrics, document,
        seed_get, seed_put, seed_delete_key, seed_all, seed_set, seed_read, seed_delete, seed_status, seed_join
    ),
    components(schemas(ProblemDocument)),
    modifiers(&Common)
)]
struct Document;

/// Adds what operations have in common: the key of a path, the time that a request may take, and the errors.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut document.paths.paths {
            for (method, operation) in operations(item) {
                complete(path, &method, operation);
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let PathItem {
        get,
        put,
        post,
        delete,
        head,
        ..
    } = item;
    [
        (Method::GET, get),
        (Method::PUT, put),
        (Method::POST, post),
        (Method::DELETE, delete),
        (Method::HEAD, head),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn complete(path: &str, method: &Method, operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    let text = || {
        RefOr::T(
            utoipa::openapi::ObjectBuilder::new()
                .schema_type(utoipa::openapi::Type::String)
                .into(),
        )
    };
    if path.ends_with("{key}") {
        let key = ParameterBuilder::new()
            .name("key")
            .parameter_in(ParameterIn::Path)
            .required(Required::True)
            .description(Some("Any bytes, percent-encoded; a slash may stand as it is"))
            .schema(Some(text()));
        parameters.insert(0, key.build());
    }
    if path.starts_with("/v1/") {
        let number = utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::Integer)
            .minimum(Some(1))
            .maximum(Some(60_000));
        let timeout = ParameterBuilder::new()
            .name("timeout_ms")
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some("How long the router may try; 10,000 if not given"))
            .schema(Some(number));
        parameters.push(timeout.build());
    }
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for code in Code::ALL
        .into_iter()
        .filter(|code| may_answer(path, method, *code))
    {
        let line = format!("`{}`: {}", code.name(), code.title());
        by_status.entry(code.status().as_u16()).or_default().push(line);
    }
    for (status, codes) in by_status {
        let mut response = ResponseBuilder::new().description(codes.join("; "));
        if method != Method::HEAD {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
            response = response.content("application/problem+json", content.build());
        }
        operation
            .responses
            .responses
            .insert(status.to_string(), RefOr::T(response.build()));
    }
}

/// Whether an operation may end with this error.
fn may_answer(path: &str, method: &Method, code: Code) -> bool {
    let is_process = matches!(
        path,
        "/health" | "/ready" | "/metrics" | "/openapi.json" | "/status"
    );
    let names_key = path.ends_with("{key}");
    let has_body = matches!(*method, Method::PUT | Method::POST);
    let writes = matches!(*method, Method::PUT | Method::POST | Method::DELETE);
    let is_one_of_many = path == "/v1/batch";
    match code {
        Code::MethodNotAllowed | Code::UnknownPath => false,
        Code::Unavailable => !is_process || path == "/ready",
        Code::InvalidParameter => path != "/health" && path != "/ready" && path != "/metrics",
        _ if is_process => false,
        Code::InvalidKey | Code::KeyTooLong => names_key || has_body || path == "/get",
        Code::InvalidHeader => true,
        Code::InvalidBody | Code::RequestTimeout | Code::ValueTooLarge => has_body,
        Code::NotFound => matches!(*method, Method::GET | Method::HEAD) && (names_key || path == "/get"),
        Code::PreconditionFailed => names_key && writes && path.starts_with("/v1"),
        Code::Overloaded | Code::Internal => true,
        Code::Unauthenticated | Code::LimitExceeded => !is_process,
        Code::Forbidden => !is_process && path != "/status" && path != "/join",
        Code::NotImplemented => path == "/v1/kv" && writes,
        Code::OutcomeUnknown | Code::DiskFull => writes && !is_one_of_many,
        Code::IdempotencyKeyReused => writes && path != "/v1/kv" && !is_one_of_many,
        Code::CrossRangeTransaction | Code::AnswerTooLarge => path == "/v1/txn",
    }
}

/// The document.
pub(crate) fn json() -> String {
    // Strings, numbers and maps always serialize.
    Document::openapi().to_pretty_json().unwrap_or_default() + "\n"
}

/// Answers with the document.
pub(super) fn answer(exchange: &Exchange<'_>) -> Result<Response<Body>, Problem> {
    if !matches!(exchange.head.method, Method::GET | Method::HEAD) {
        return Err(Problem::method_not_allowed("GET, HEAD"));
    }
    let mut response = Response::new(Body::full(Bytes::from(json())));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api/router.json");

    #[test]
    fn the_committed_document_is_the_present_one() {
        if std::env::var_os("HOLDFAST_BLESS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/api")).expect("a folder");
            std::fs::write(COMMITTED, json()).expect("a file");
        }
        let committed = std::fs::read_to_string(COMMITTED).unwrap_or_default();
        assert!(
            committed == json(),
            "docs/api/router.json is out of date: run `just openapi` and commit it"
        );
    }

    #[test]
    fn every_operation_is_described_whole() {
        let document: serde_json::Value = serde_json::from_str(&json()).expect("JSON");
        assert_eq!(document["openapi"], "3.1.0");
        let paths = document["paths"].as_object().expect("paths");
        for (path, item) in paths {
            for (method, operation) in item.as_object().expect("operations") {
                let responses = operation["responses"].as_object().expect("responses");
                assert!(
                    responses.contains_key("200") || responses.contains_key("204"),
                    "{method} {path}"
                );
                let has_problem = responses.keys().any(|status| status.as_str() >= "400");
                assert!(
                    has_problem || path == "/health" || path == "/metrics",
                    "{method} {path}"
                );
            }
        }
    }
}
