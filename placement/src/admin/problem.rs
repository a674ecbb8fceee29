//! What is wrong with a request, as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use holdfast_common::access::Denied;
use holdfast_common::proto::placement::Error;
use serde_json::json;

use crate::operator::Refusal;

/// A problem. As a response it carries itself along, for [`identified`](super::identified) to write down with the id of
/// the request.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    code: Code,
    detail: String,
}

const PROBLEM_JSON: &str = "application/problem+json";

/// The kinds of problem: a closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Code {
    InvalidArgument,
    NotFound,
    MethodNotAllowed,
    Conflict,
    TooLarge,
    TooManyOperators,
    NotBootstrapped,
    Unavailable,
    OutcomeUnknown,
    Forbidden,
    Unauthenticated,
}

/// What the problems of a status are called.
pub(super) fn titles(status: u16) -> String {
    let codes = Code::ALL.into_iter().map(Code::describe);
    let titles = codes
        .filter(|(_, of, ..)| of.as_u16() == status)
        .map(|(name, _, title, _)| format!("`{name}`: {title}"));
    titles.collect::<Vec<_>>().join("; ")
}

impl Code {
    const ALL: [Self; 11] = [
        Self::InvalidArgument,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::TooLarge,
        Self::TooManyOperators,
        Self::NotBootstrapped,
        Self::Unavailable,
        Self::OutcomeUnknown,
        Self::Forbidden,
        Self::Unauthenticated,
    ];

    /// Name, status, title, and whether the same request may succeed later.
    fn describe(self) -> (&'static str, StatusCode, &'static str, bool) {
        match self {
            Self::InvalidArgument => (
                "invalid_argument",
                StatusCode::BAD_REQUEST,
                "The request is not valid",
                false,
            ),
            Self::NotFound => (
                "not_found",
                StatusCode::NOT_FOUND,
                "There is no such thing",
                false,
            ),
            Self::MethodNotAllowed => (
                "method_not_allowed",
                StatusCode::METHOD_NOT_ALLOWED,
                "This method does not apply here",
                false,
            ),
            Self::Conflict => (
                "conflict",
                StatusCode::CONFLICT,
                "The cluster is not in a state that allows this",
                false,
            ),
            Self::TooLarge => (
                "too_large",
                StatusCode::PAYLOAD_TOO_LARGE,
                "The request is too large",
                false,
            ),
            Self::TooManyOperators => (
                "too_many_operators",
                StatusCode::TOO_MANY_REQUESTS,
                "As many changes are under way as may be",
                true,
            ),
            Self::NotBootstrapped => (
                "not_bootstrapped",
                StatusCode::SERVICE_UNAVAILABLE,
                "There is no cluster yet",
                true,
            ),
            Self::Unavailable => (
                "unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                "Not possible at this moment",
                true,
            ),
            Self::OutcomeUnknown => (
                "outcome_unknown",
                StatusCode::GATEWAY_TIMEOUT,
                "The request may or may not take effect",
                true,
            ),
            Self::Unauthenticated => (
                "unauthenticated",
                StatusCode::UNAUTHORIZED,
                "Who makes the request is not known",
                false,
            ),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "This is not allowed", false),
        }
    }
}

impl Problem {
    /// What is wrong, for people.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// A parameter or a body that makes no sense.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self {
            code: Code::InvalidArgument,
            detail: detail.into(),
        }
    }

    /// Something that is not there.
    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self {
            code: Code::NotFound,
            detail: detail.into(),
        }
    }

    /// Something that can't be done as things are.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self {
            code: Code::Conflict,
            detail: detail.into(),
        }
    }

    /// Something that can't be done at this moment, and was not done.
    pub(super) fn unavailable(detail: impl Into<String>) -> Self {
        Self {
            code: Code::Unavailable,
            detail: detail.into(),
        }
    }

    /// Something that may have been done.
    pub(super) fn outcome_unknown(detail: impl Into<String>) -> Self {
        Self {
            code: Code::OutcomeUnknown,
            detail: detail.into(),
        }
    }

    /// Something that whoever asks may not have done.
    pub(super) fn forbidden(detail: impl Into<String>) -> Self {
        Self {
            code: Code::Forbidden,
            detail: detail.into(),
        }
    }

    /// A request that is not let in.
    pub(super) fn denied(denied: Denied) -> Self {
        let code = if denied.is_unauthenticated() {
            Code::Unauthenticated
        } else {
            Code::Forbidden
        };
        Self {
            code,
            detail: denied.to_string(),
        }
    }

    /// The path is right, the method is not.
    pub(super) fn method_not_allowed() -> Self {
        Self {
            code: Code::MethodNotAllowed,
            detail: "see /openapi.json for what this path takes".to_owned(),
        }
    }

    /// Nobody has founded a cluster, or this member is not in it yet.
    pub(super) fn not_bootstrapped() -> Self {
        Self {
            code: Code::NotBootstrapped,
            detail: Error::NotBootstrapped.to_string(),
        }
    }

    /// The problem behind a refusal that says nothing but its status: a body or a path that was not even looked at.
    pub(super) fn unsaid(response: &Response) -> Option<Self> {
        let says = response.headers().get(header::CONTENT_TYPE);
        if !response.status().is_client_error() || says.is_some_and(|says| says == PROBLEM_JSON) {
            return None;
        }
        Some(match response.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Self {
                code: Code::TooLarge,
                detail: "the body is too large".to_owned(),
            },
            status => Self::invalid(format!("the request could not be read: {status}")),
        })
    }

    /// The document, for the request of this id.
    pub(super) fn document(&self, request_id: &str) -> Response {
        let (code, status, title, retryable) = self.code.describe();
        let body = json!({
            "type": "about:blank",
            "title": title,
            "status": status.as_u16(),
            "detail": self.detail,
            "code": code,
            "retryable": retryable,
            "request_id": request_id,
        });
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if self.code == Code::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if retryable {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.describe().1.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::NotBootstrapped => Self::not_bootstrapped(),
            Error::NotLeader { .. } => Self::unavailable(detail),
            // A command that got no answer may have been taken.
            Error::Unavailable(_) => Self::outcome_unknown(detail),
            Error::Invalid(_) => Self::invalid(detail),
            Error::WrongCluster { .. }
            | Error::NameTaken { .. }
            | Error::UnknownStore(_)
            | Error::MemberReplaced { .. }
            | Error::StillNeeded { .. } => Self::conflict(detail),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::NoSuchRange(_) | Refusal::NoSuchStore(_) => Self::not_found(detail),
            Refusal::RangeBusy(..) | Refusal::Conflict(_) => Self::conflict(detail),
            Refusal::TooMany(_) => Self {
                code: Code::TooManyOperators,
                detail,
            },
        }
    }
}
