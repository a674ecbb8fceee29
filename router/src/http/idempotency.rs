//! `Idempotency-Key`: the name that a client gives a write, so that it can repeat the request without repeating the write. And
//! `Idempotency-Done`: a client that numbers its names, as `PREFIX/NUMBER`, says below which number it repeats nothing.

use bytes::Bytes;
use holdfast_common::proto::kv::Once;
use http::HeaderMap;
use http::header::HeaderName;

use super::problem::{Code, Problem};

/// The header.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header with the number.
pub(super) const IDEMPOTENCY_DONE: HeaderName = HeaderName::from_static("idempotency-done");

/// Longest name that a client may give, bytes. What a batch adds to it fits [`holdfast_common::limits::MAX_TOKEN_BYTES`].
pub(super) const MAX_BYTES: usize = 200;

/// The name that a request has for its write.
///
/// # Errors
/// A header is malformed, or given twice, or one is missing that another needs.
pub(super) fn name(headers: &HeaderMap, window_ms: u64) -> Result<Option<Once>, Problem> {
    let done = given(headers, &IDEMPOTENCY_DONE)?;
    let Some(token) = given(headers, &IDEMPOTENCY_KEY)? else {
        return match done {
            None => Ok(None),
            Some(_) => Err(invalid(&IDEMPOTENCY_DONE, "it needs an Idempotency-Key")),
        };
    };
    let visible = token.iter().all(u8::is_ascii_graphic);
    if token.is_empty() || token.len() > MAX_BYTES || !visible {
        let why = "expected 1 to 200 visible ASCII characters";
        return Err(invalid(&IDEMPOTENCY_KEY, why));
    }
    Ok(Some(Once {
        token: Bytes::copy_from_slice(token),
        window_ms,
        done: done.map_or(Ok(0), |done| done_below(done, token))?,
    }))
}

/// Below which number the client of `token` repeats nothing.
fn done_below(done: &[u8], token: &[u8]) -> Result<u64, Problem> {
    let slash = token.iter().rposition(|byte| *byte == b'/').filter(|at| *at > 0);
    let own = slash.and_then(|slash| number(&token[slash + 1..]));
    match (number(done), own) {
        (Some(done), Some(own)) if (1..=own).contains(&done) => Ok(done),
        _ => Err(invalid(
            &IDEMPOTENCY_DONE,
            "expected 1 or more, and at most the number behind the last slash of the Idempotency-Key",
        )),
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(digits).ok()?;
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_plain)
}

/// The value of a header that may be given once.
fn given<'a>(headers: &'a HeaderMap, header: &HeaderName) -> Result<Option<&'a [u8]>, Problem> {
    let mut values = headers.get_all(header).into_iter();
    let value = values.next();
    match values.next() {
        None => Ok(value.map(|value| value.as_bytes())),
        Some(_) => Err(invalid(header, "it is given twice")),
    }
}

/// The name of one operation of a request that has several.
pub(super) fn of_operation(once: &Once, index: usize) -> Once {
    // A client can't send the separator.
    let token = [&once.token[..], b"\0", index.to_string().as_bytes()].concat();
    Once {
        token: token.into(),
        window_ms: once.window_ms,
        done: once.done,
    }
}

fn invalid(header: &HeaderName, why: &'static str) -> Problem {
    Problem::new(Code::InvalidHeader, format!("{header}: {why}"))
}

#[cfg(test)]
mod tests {
    use holdfast_common::limits::MAX_TOKEN_BYTES;
    use http::header::HeaderValue;

    use super::*;

    fn named(values: &[&[u8]]) -> Result<Option<Bytes>, Code> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).expect("a header"));
        }
        match name(&headers, 5) {
            Ok(once) => Ok(once.map(|once| once.token)),
            Err(problem) => Err(problem.code),
        }
    }

    #[test]
    fn a_name_is_visible_and_bounded() {
        assert_eq!(named(&[]), Ok(None));
        assert_eq!(
            named(&[b"\"8e03978e\""]),
            Ok(Some(Bytes::from_static(b"\"8e03978e\"")))
        );
        assert_eq!(named(&[&[b'x'; 200]]), Ok(Some(Bytes::from(vec![b'x'; 200]))));
        for bad in [&[b'x'; 201][..], b"", b"a b", b"\xe9", b"a\tb"] {
            assert_eq!(named(&[bad]), Err(Code::InvalidHeader), "{bad:?}");
        }
        assert_eq!(named(&[b"a", b"a"]), Err(Code::InvalidHeader));
    }

    #[test]
    fn a_client_that_numbers_its_names_may_say_which_are_done() {
        let done = |key: Option<&'static str>, done: &[&'static str]| {
            let mut headers = HeaderMap::new();
            if let Some(key) = key {
                headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_static(key));
            }
            for done in done {
                headers.append(IDEMPOTENCY_DONE, HeaderValue::from_static(done));
            }
            let name = name(&headers, 5).map_err(|problem| problem.code);
            name.map(|once| once.map(|once| once.done))
        };
        assert_eq!(done(Some("a/7"), &[]), Ok(Some(0)));
        assert_eq!(done(Some("a/7"), &["1"]), Ok(Some(1)));
        assert_eq!(done(Some("a/b/7"), &["7"]), Ok(Some(7)));
        let refused = Err(Code::InvalidHeader);
        for bad in ["0", "8", "", "+1", "-1", "x", "18446744073709551616"] {
            assert_eq!(done(Some("a/7"), &[bad]), refused, "{bad}");
        }
        for key in ["a", "/7", "a/", "a/7x", "7"] {
            assert_eq!(done(Some(key), &["1"]), refused, "{key}");
        }
        assert_eq!(done(None, &["1"]), refused);
        assert_eq!(done(Some("a/7"), &["1", "1"]), refused);
    }

    #[test]
    fn operations_of_one_request_have_names_of_their_own() {
        let once = Once {
            token: vec![b'x'; MAX_BYTES].into(),
            window_ms: 5,
            done: 0,
        };
        let (first, last) = (of_operation(&once, 0), of_operation(&once, usize::MAX));
        assert_ne!(first, last);
        assert!(last.token.len() <= MAX_TOKEN_BYTES);
    }
}
