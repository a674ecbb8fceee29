//! What clients send over HTTP, to routers ([`target`]) and to the admin API ([`administration`]).

use bytes::Bytes;
use holdfast_common::access::Table;
use holdfast_common::limits::{MAX_BATCH_OPS, MAX_KEY_BYTES, MAX_TOKEN_BYTES, MAX_TXN_BYTES, MAX_TXN_ITEMS};
use holdfast_common::proto::access::Rules;
use holdfast_placement::admin::decoding as admin;
use holdfast_router::decoding as router;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::input::Input;

pub(crate) const PATH: u8 = 0;
pub(crate) const SCAN: u8 = 1;
pub(crate) const WRITE: u8 = 2;
pub(crate) const HEAD: u8 = 3;
pub(crate) const BATCH: u8 = 4;
pub(crate) const TXN: u8 = 5;
pub(crate) const CURSOR: u8 = 6;

pub(crate) const QUERY: u8 = 0;
pub(crate) const METRICS: u8 = 1;
/// The first body of the admin API; the others follow.
pub(crate) const BODY: u8 = 2;

pub(crate) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let which = input.byte() % 7;
    let rest = input.rest();
    match which {
        PATH => text(rest, path),
        SCAN => text(rest, scan),
        WRITE => text(rest, |query| drop(router::write(query))),
        HEAD => head(rest),
        BATCH => {
            if let Ok(operations) = router::batch(rest) {
                assert!(operations <= MAX_BATCH_OPS);
            }
        }
        TXN => txn(rest),
        _ => cursor(rest),
    }
}

pub(crate) fn administration(data: &[u8]) {
    let mut input = Input::new(data);
    let which = input.byte() % (BODY + admin::BODIES.len() as u8);
    let rest = input.rest();
    match which {
        QUERY => text(rest, |query| _ = admin::query(query)),
        METRICS => text(rest, admin::metrics),
        body => {
            let (_, read) = admin::BODIES[usize::from(body - BODY)];
            read(&Bytes::copy_from_slice(rest));
        }
    }
}

/// hyper hands on paths and queries that are text.
fn text(bytes: &[u8], read: impl FnOnce(&str)) {
    if let Ok(text) = str::from_utf8(bytes) {
        read(text);
    }
}

fn path(path: &str) {
    let Ok(Some(key)) = router::path(path) else { return };
    assert!((1..=MAX_KEY_BYTES).contains(&key.len()));
    let escaped: String = key.iter().map(|byte| format!("%{byte:02x}")).collect();
    assert_eq!(router::path(&format!("/v1/kv/{escaped}")), Ok(Some(key)));
}

fn scan(query: &str) {
    if let Ok(Some(span)) = router::scan(query) {
        assert!(span.end().is_empty() || span.start() < span.end());
    }
}

/// Headers, one a line, as they stand in a request.
fn head(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (
            HeaderName::from_bytes(&line[..colon]),
            HeaderValue::from_bytes(&line[colon + 1..]),
        );
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if let Ok(head) = router::head(&headers) {
        assert!(!head.id.is_empty());
        assert!(
            head.once
                .is_none_or(|once| (1..=MAX_TOKEN_BYTES).contains(&once.token.len()))
        );
    }
    let host = headers.get("host").and_then(|host| host.to_str().ok());
    let _ = admin::session(&headers, host.unwrap_or_default());
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok());
    assert!(
        Table::new(&Rules::default(), true)
            .admit(authorization, None, 1)
            .is_err()
    );
}

fn txn(body: &[u8]) {
    let Ok(txn) = router::txn(body) else { return };
    assert!(txn.keys().count() <= MAX_TXN_ITEMS);
    assert!(txn.keys().map(|key| key.as_bytes().len()).sum::<usize>() <= MAX_TXN_BYTES);
}

fn cursor(text: &[u8]) {
    if let Some((rest, reverse, written)) = router::cursor(text) {
        assert_eq!(
            router::cursor(written.as_bytes()),
            Some((rest, reverse, written.clone()))
        );
    }
}
