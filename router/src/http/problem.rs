//! Errors as clients see them: `application/problem+json` (RFC 9457) with a code from a closed list.

use std::borrow::Cow;

use bytes::Bytes;
use holdfast_common::revision::Revision;
use http::header::{ALLOW, CONTENT_TYPE, ETAG, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{Response, StatusCode};
use serde::Serialize;

use super::body::Body;
use super::etag;
use super::request_id::RequestId;
use crate::retry;
use crate::sender::Failed;

/// Seconds after which a client may try again what was turned away for the moment.
const RETRY_AFTER_SECONDS: u64 = 1;

/// What went wrong. Clients tell errors apart by this, and it is never renamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// The key is empty, or its escapes are malformed.
    InvalidKey,
    /// A query parameter is unknown, repeated, malformed or out of bounds.
    InvalidParameter,
    /// A header is malformed or does not fit the request.
    InvalidHeader,
    /// The body could not be read.
    InvalidBody,
    /// The key does not exist.
    NotFound,
    /// Nothing is served at this path.
    UnknownPath,
    /// The path does not take this method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The condition does not hold; nothing changed.
    PreconditionFailed,
    /// The value is longer than allowed.
    ValueTooLarge,
    /// The key is longer than allowed.
    KeyTooLong,
    /// Not applied: there is too much to do.
    Overloaded,
    /// Not applied: a fault of this service.
    Internal,
    /// The request asks for what this build can't do, and must not be served without it.
    NotImplemented,
    /// Not applied: the range or the cluster can't serve at the moment.
    Unavailable,
    /// The write may or may not have been applied.
    OutcomeUnknown,
    /// Not applied: the disks are nearly full.
    DiskFull,
    /// Not applied: the Idempotency-Key belongs to another write of the key.
    IdempotencyKeyReused,
    /// Not applied: the keys of a transaction lie in several ranges.
    CrossRangeTransaction,
    /// What is read is more than one answer holds; nothing was applied.
    AnswerTooLarge,
    /// Who makes the request is not known.
    Unauthenticated,
    /// Whoever makes the request may not do that.
    Forbidden,
    /// Not applied: whoever makes the request has used up what they may use.
    LimitExceeded,
}

impl Code {
    /// Every code.
    pub(crate) const ALL: [Self; 23] = [
        Self::InvalidKey,
        Self::InvalidParameter,
        Self::InvalidHeader,
        Self::InvalidBody,
        Self::NotFound,
        Self::UnknownPath,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::PreconditionFailed,
        Self::ValueTooLarge,
        Self::KeyTooLong,
        Self::Overloaded,
        Self::Internal,
        Self::NotImplemented,
        Self::Unavailable,
        Self::OutcomeUnknown,
        Self::DiskFull,
        Self::IdempotencyKeyReused,
        Self::CrossRangeTransaction,
        Self::AnswerTooLarge,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::LimitExceeded,
    ];

    /// Status, name, title, and whether the same request may succeed later: the one place where they are decided.
    fn describe(self) -> (u16, &'static str, &'static str, bool) {
        match self {
            Self::InvalidKey => (400, "invalid_key", "The key is not valid", false),
            Self::InvalidParameter => (400, "invalid_parameter", "A query parameter is not valid", false),
            Self::InvalidHeader => (400, "invalid_header", "A header is not valid", false),
            Self::InvalidBody => (400, "invalid_body", "The body is not valid", false),
            Self::NotFound => (404, "not_found", "The key does not exist", false),
            Self::UnknownPath => (404, "unknown_path", "Nothing is served here", false),
            Self::MethodNotAllowed => (405, "method_not_allowed", "The method is not allowed here", false),
            Self::RequestTimeout => (408, "request_timeout", "The body did not arrive in time", true),
            Self::PreconditionFailed => (412, "precondition_failed", "The condition does not hold", false),
            Self::ValueTooLarge => (413, "value_too_large", "The value is too large", false),
            Self::KeyTooLong => (414, "key_too_long", "The key is too long", false),
            Self::Overloaded => (429, "overloaded", "There is too much to do", true),
            Self::Internal => (500, "internal", "Something is wrong with this service", false),
            Self::NotImplemented => (501, "not_implemented", "Not implemented", false),
            Self::Unavailable => (503, "unavailable", "Unavailable; nothing was applied", true),
            Self::OutcomeUnknown => (
                504,
                "outcome_unknown",
                "The write may or may not have been applied",
                false,
            ),
            Self::DiskFull => (507, "disk_full", "The disks are nearly full", true),
            Self::IdempotencyKeyReused => (
                422,
                "idempotency_key_reused",
                "The Idempotency-Key was used for another write",
                false,
            ),
            Self::CrossRangeTransaction => (
                501,
                "cross_range_transaction",
                "The keys lie in several ranges; nothing was applied",
                false,
            ),
            Self::AnswerTooLarge => (413, "answer_too_large", "The answer would be too large", false),
            Self::Unauthenticated => (
                401,
                "unauthenticated",
                "Who makes the request is not known",
                false,
            ),
            Self::Forbidden => (403, "forbidden", "The credential does not allow this", false),
            Self::LimitExceeded => (
                429,
                "limit_exceeded",
                "A limit of the credential is reached",
                true,
            ),
        }
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        self.describe().1
    }

    /// What it means in general.
    pub(crate) fn title(self) -> &'static str {
        self.describe().2
    }

    /// The HTTP status.
    pub(crate) fn status(self) -> StatusCode {
        StatusCode::from_u16(self.describe().0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Whether the client is told when to come back.
    fn has_retry_after(self) -> bool {
        matches!(
            self,
            Self::Overloaded | Self::Unavailable | Self::DiskFull | Self::LimitExceeded
        )
    }
}

impl From<retry::Code> for Code {
    fn from(code: retry::Code) -> Self {
        match code {
            retry::Code::Unavailable => Self::Unavailable,
            retry::Code::OutcomeUnknown => Self::OutcomeUnknown,
            retry::Code::Overloaded => Self::Overloaded,
            retry::Code::DiskFull => Self::DiskFull,
            retry::Code::Internal => Self::Internal,
            retry::Code::TokenReused => Self::IdempotencyKeyReused,
            retry::Code::CrossRange => Self::CrossRangeTransaction,
            retry::Code::AnswerTooLarge => Self::AnswerTooLarge,
        }
    }
}

/// An answer that tells of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// What went wrong.
    pub code: Code,
    /// What went wrong with this request, for people.
    pub detail: Cow<'static, str>,
    /// The methods that the path takes, for [`Code::MethodNotAllowed`].
    pub allow: Option<&'static str>,
    /// The revision that the key has, for [`Code::PreconditionFailed`].
    pub present: Option<Revision>,
    /// Seconds after which to come back, where the code says that one may.
    pub retry_after_seconds: u64,
}

impl Problem {
    /// A problem.
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            allow: None,
            present: None,
            retry_after_seconds: RETRY_AFTER_SECONDS,
        }
    }

    /// The path takes only these methods.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(Code::MethodNotAllowed, format!("allowed: {allow}"))
        }
    }

    /// The bodies under way take all the memory that they may.
    pub(crate) fn no_room() -> Self {
        Self::new(
            Code::Overloaded,
            "too many bytes of values are on their way through this router",
        )
    }

    /// The condition does not hold for the record that is there.
    pub(crate) fn precondition_failed(present: Option<Revision>) -> Self {
        let detail = match present {
            Some(revision) => format!("the key has revision {revision}").into(),
            None => Cow::Borrowed("the key does not exist, or has another revision"),
        };
        Self {
            present,
            ..Self::new(Code::PreconditionFailed, detail)
        }
    }

    /// The JSON object, as in the body of an answer.
    pub(crate) fn to_json(&self, request_id: &RequestId) -> Vec<u8> {
        let (status, code, title, retryable) = self.code.describe();
        let object = Object {
            kind: format_args!("urn:holdfast:problem:{code}"),
            title,
            status,
            detail: &self.detail,
            code,
            retryable,
            request_id: request_id.as_str(),
        };
        // Strings and numbers always serialize.
        serde_json::to_vec(&object).unwrap_or_default()
    }

    /// The answer.
    pub(crate) fn into_response(self, request_id: &RequestId) -> Response<Body> {
        let mut response = Response::new(Body::full(Bytes::from(self.to_json(request_id))));
        *response.status_mut() = self.code.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code.has_retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(self.retry_after_seconds));
        }
        if self.code == Code::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if let Some(revision) = self.present {
            headers.insert(ETAG, etag::header(revision));
        }
        response
    }
}

impl From<Failed> for Problem {
    fn from(failed: Failed) -> Self {
        Self::new(failed.code.into(), failed.failure.to_string())
    }
}

#[derive(Serialize)]
struct Object<'a> {
    #[serde(rename = "type")]
    kind: std::fmt::Arguments<'a>,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    retryable: bool,
    request_id: &'a str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retry::Failure;

    #[test]
    fn names_are_distinct_and_statuses_fit() {
        let mut names: Vec<_> = Code::ALL.iter().map(|code| code.describe().1).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(code.status().as_u16(), code.describe().0);
        }
    }

    #[test]
    fn not_applied_and_unknown_are_kept_apart() {
        let problem = |code| {
            Problem::from(Failed {
                code,
                failure: Failure::NotReady,
            })
        };
        let unavailable = problem(retry::Code::Unavailable).into_response(&RequestId::from_static("r-1"));
        assert_eq!(unavailable.status(), 503);
        assert_eq!(unavailable.headers()[RETRY_AFTER], "1");
        let unknown = problem(retry::Code::OutcomeUnknown).into_response(&RequestId::from_static("r-1"));
        assert_eq!(unknown.status(), 504);
        assert!(!unknown.headers().contains_key(RETRY_AFTER));
        assert_eq!(problem(retry::Code::Overloaded).code.status(), 429);
        assert_eq!(problem(retry::Code::DiskFull).code.status(), 507);
        assert_eq!(problem(retry::Code::Internal).code.status(), 500);
    }

    #[test]
    fn the_object_has_the_members_of_the_rfc_and_ours() {
        let json =
            Problem::new(Code::InvalidKey, "a \"quoted\" word").to_json(&RequestId::from_static("r-1"));
        let json: serde_json::Value = serde_json::from_slice(&json).expect("JSON");
        let expected = serde_json::json!({
            "type": "urn:holdfast:problem:invalid_key",
            "title": "The key is not valid",
            "status": 400,
            "detail": "a \"quoted\" word",
            "code": "invalid_key",
            "retryable": false,
            "request_id": "r-1",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn answers_carry_what_their_status_calls_for() {
        let id = RequestId::from_static("r-1");
        let not_allowed = Problem::method_not_allowed("GET, PUT").into_response(&id);
        assert_eq!(not_allowed.headers()[ALLOW], "GET, PUT");
        assert_eq!(not_allowed.headers()[CONTENT_TYPE], "application/problem+json");
        let failed = Problem::precondition_failed(Some(Revision(7))).into_response(&id);
        assert_eq!(
            (failed.status().as_u16(), &failed.headers()[ETAG]),
            (412, &HeaderValue::from_static("\"7\""))
        );
    }
}
