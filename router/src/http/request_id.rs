//! The name of a request, which its answer carries as `x-request-id`: the client's, if it gave a sane one, else ours.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use holdfast_common::clock;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

/// The header.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where a request belongs in a trace (W3C Trace Context): `00-<trace id>-<parent id>-<flags>`.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Longest name that is taken from a client, bytes.
const MAX_BYTES: usize = 128;

/// The name of a request: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    /// For tests.
    #[cfg(test)]
    pub(crate) fn from_static(text: &'static str) -> Self {
        Self(HeaderValue::from_static(text))
    }

    /// As text.
    pub(crate) fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    /// As a header. HTTP/2 is told not to remember it: no two answers have the same, and each would cost a look through all that
    /// are remembered.
    pub(crate) fn into_header(mut self) -> HeaderValue {
        self.0.set_sensitive(true);
        self.0
    }
}

/// Names the requests of this process: a random part, and a number that grows.
#[derive(Debug)]
pub(crate) struct RequestIds {
    process: u32,
    next: AtomicU64,
}

impl RequestIds {
    /// A fresh random part.
    pub(crate) fn new() -> Self {
        Self {
            process: clock::random_id() as u32,
            next: AtomicU64::new(1),
        }
    }

    /// The name of a request with these headers.
    pub(crate) fn name(&self, headers: &HeaderMap) -> RequestId {
        match headers.get(X_REQUEST_ID) {
            Some(given) if is_sane(given.as_bytes()) => RequestId(given.clone()),
            _ => headers
                .get(TRACEPARENT)
                .and_then(|given| of_trace(given.as_bytes()))
                .unwrap_or_else(|| self.fresh()),
        }
    }

    fn fresh(&self) -> RequestId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut text = Vec::with_capacity(8 + 1 + 16);
        push_hex(&mut text, self.process.into(), 8);
        text.push(b'-');
        push_hex(&mut text, number, 1);
        let text = Bytes::from(text);
        // Hexadecimal digits make a valid header.
        RequestId(HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static("0")))
    }
}

/// Appends `number` in hexadecimal, with zeroes before it up to `width` digits, which are at least one.
fn push_hex(text: &mut Vec<u8>, number: u64, width: u32) {
    let digits = (u64::BITS - number.leading_zeros()).div_ceil(4).max(width);
    for digit in (0..digits).rev() {
        text.push(b"0123456789abcdef"[(number >> (4 * digit)) as usize & 0xf]);
    }
}

/// The name of a request that belongs to a trace: `<trace id>-<parent id>`, so that it is found by either.
fn of_trace(given: &[u8]) -> Option<RequestId> {
    let fields: Vec<&[u8]> = given.split(|byte| *byte == b'-').collect();
    let [version, trace, parent, flags, ..] = fields[..] else {
        return None;
    };
    let hexadecimal = |field: &[u8], length| {
        field.len() == length && field.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let is_some = |field: &[u8]| field.iter().any(|byte| *byte != b'0');
    let valid = hexadecimal(version, 2)
        && version != b"ff"
        && (version != b"00" || fields.len() == 4)
        && hexadecimal(trace, 32)
        && hexadecimal(parent, 16)
        && hexadecimal(flags, 2)
        && is_some(trace)
        && is_some(parent);
    let name = [trace, b"-", parent].concat();
    let name = valid.then(|| HeaderValue::from_maybe_shared(Bytes::from(name)));
    name?.ok().map(RequestId)
}

/// Neither empty nor long, and nothing that could break a log line.
fn is_sane(given: &[u8]) -> bool {
    (1..=MAX_BYTES).contains(&given.len()) && given.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(given: &[u8]) -> RequestId {
        let mut headers = HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(given).expect("a header"));
        RequestIds::new().name(&headers)
    }

    #[test]
    fn a_sane_name_is_kept() {
        assert_eq!(name(b"abc-123/x:y").as_str(), "abc-123/x:y");
        assert_eq!(name(&[b'a'; MAX_BYTES]).as_str().len(), MAX_BYTES);
    }

    #[test]
    fn an_odd_name_is_replaced() {
        for odd in [
            &b""[..],
            b"a b",
            b"tab\there",
            b"\xff\xfe",
            &[b'a'; MAX_BYTES + 1],
        ] {
            assert_ne!(name(odd).0.as_bytes(), odd);
        }
    }

    #[test]
    fn a_request_of_a_trace_is_named_by_it() {
        let name = |given: &'static str| {
            let headers = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_static(given))]);
            RequestIds::new().name(&headers).as_str().to_owned()
        };
        let named = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        assert_eq!(
            name("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            named
        );
        assert_eq!(
            name("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"),
            named
        );
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_ne!(name(bad), named, "{bad}");
        }
    }

    #[test]
    fn numbers_are_hexadecimal() {
        for (number, width) in [
            (0, 1),
            (0xf, 1),
            (0x10, 1),
            (0xabc, 8),
            (u64::MAX, 1),
            (u64::MAX - 15, 8),
        ] {
            let mut text = Vec::new();
            push_hex(&mut text, number, width);
            let expected = format!("{number:0width$x}", width = width as usize);
            assert_eq!(text, expected.as_bytes());
        }
    }

    #[test]
    fn fresh_names_differ() {
        let ids = RequestIds::new();
        assert_ne!(ids.fresh(), ids.fresh());
        assert!(is_sane(ids.fresh().as_str().as_bytes()));
    }
}
