//! What can go wrong.

use serde::Deserialize;

/// Why a request failed. But for [`Error::OutcomeUnknown`] nothing was applied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not one.
    #[error("{0:?} is not the address of a router")]
    Address(String),
    /// The token or the certificates can't be used, or `https` is asked for and nobody is believed.
    #[error("{0}")]
    Credentials(String),
    /// The cluster refused, and repeating the request changes nothing.
    #[error("{0}")]
    Refused(Problem),
    /// No router answered in time, or none could serve.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// A write may or may not have been applied: read before deciding.
    #[error("the outcome of the write is not known: {0}")]
    OutcomeUnknown(String),
    /// An answer can't be read: is this a router of this version?
    #[error("an answer that makes no sense: {0}")]
    Nonsense(String),
}

impl Error {
    /// Whether the same request may succeed later.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::OutcomeUnknown(_) => true,
            Self::Refused(problem) => matches!(problem.status, 429 | 502 | 503 | 504),
            Self::Address(_) | Self::Credentials(_) | Self::Nonsense(_) => false,
        }
    }

    /// Whether a condition did not hold.
    pub fn is_precondition(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.status == 412)
    }
}

/// What a router says of an error (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// What went wrong; a closed list (`docs/http-api.md`).
    pub code: String,
    /// What went wrong with this request, for people.
    pub detail: String,
    /// By which the router's logs know the request.
    pub request_id: String,
}
