//! `Idempotency-Key`: the name that a client gives a write, so that it can repeat the request without repeating the write.

use bytes::Bytes;
use holdfast_common::proto::kv::Once;
use http::HeaderMap;
use http::header::HeaderName;

use super::problem::{Code, Problem};

/// The header.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Longest name that a client may give, bytes. What a batch adds to it fits [`holdfast_common::limits::MAX_TOKEN_BYTES`].
pub(super) const MAX_BYTES: usize = 200;

/// The name that a request has for its write.
///
/// # Errors
/// The header is malformed, or given twice.
pub(super) fn name(headers: &HeaderMap, window_ms: u64) -> Result<Option<Once>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).into_iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(invalid("it is given twice"));
    }
    let token = value.as_bytes();
    let visible = token.iter().all(u8::is_ascii_graphic);
    if token.is_empty() || token.len() > MAX_BYTES || !visible {
        return Err(invalid("expected 1 to 200 visible ASCII characters"));
    }
    Ok(Some(Once {
        token: Bytes::copy_from_slice(token),
        window_ms,
    }))
}

/// The name of one operation of a request that has several.
pub(super) fn of_operation(once: &Once, index: usize) -> Once {
    // A client can't send the separator.
    let token = [&once.token[..], b"\0", index.to_string().as_bytes()].concat();
    Once {
        token: token.into(),
        window_ms: once.window_ms,
    }
}

fn invalid(why: &'static str) -> Problem {
    Problem::new(Code::InvalidHeader, format!("Idempotency-Key: {why}"))
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
    fn operations_of_one_request_have_names_of_their_own() {
        let once = Once {
            token: vec![b'x'; MAX_BYTES].into(),
            window_ms: 5,
        };
        let (first, last) = (of_operation(&once, 0), of_operation(&once, usize::MAX));
        assert_ne!(first, last);
        assert!(last.token.len() <= MAX_TOKEN_BYTES);
    }
}
