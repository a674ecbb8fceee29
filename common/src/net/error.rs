//! What can go wrong with a call, and above all whether the peer may have acted on it.
//!
//! A caller that wants to retry asks [`Error::certainly_not_delivered`]: after *yes* the request was never begun and a
//! retry can't apply it twice; after *no* its outcome is unknown.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::frame::FrameError;
use crate::ids::ClusterId;

/// Longest text that travels with an error code, in bytes.
const MAX_MESSAGE_BYTES: usize = 1024;

/// Why a call or a stream failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection could be made; also the answer, at once, until the next attempt is due. Not delivered.
    #[error("{addr} can't be reached: {reason}")]
    Unreachable {
        /// The address dialed.
        addr: Arc<str>,
        /// Why the last attempt failed.
        reason: Arc<str>,
    },
    /// The peer belongs to another cluster. Not delivered.
    #[error("the peer belongs to cluster {theirs}, this process to {ours}")]
    WrongCluster {
        /// This process's cluster.
        ours: ClusterId,
        /// The peer's.
        theirs: ClusterId,
    },
    /// The peer refused the connection. Not delivered.
    #[error("{addr} refused the connection: {message} ({code:?})")]
    Refused {
        /// The address dialed.
        addr: Arc<str>,
        /// Why.
        code: ErrorCode,
        /// Why, for people.
        message: Arc<str>,
    },
    /// Too many calls or bytes wait for this peer already. Not delivered.
    #[error("too much is waiting to be sent to {addr}")]
    QueueFull {
        /// The peer's address.
        addr: Arc<str>,
    },
    /// The body exceeds [`MAX_BODY_BYTES`](super::MAX_BODY_BYTES). Not delivered.
    #[error("a body of {len} bytes is too large for a frame")]
    TooLarge {
        /// Its length.
        len: usize,
    },
    /// The client was closed before the call. Not delivered.
    #[error("the client is closed")]
    Closed,
    /// The deadline passed before an answer came.
    #[error("no answer within the deadline")]
    DeadlineExceeded {
        /// Whether the request had been given to a connection. If not, it was not and will not be delivered.
        sent: bool,
    },
    /// The connection ended after the request was given to it. Outcome unknown.
    #[error("connection to {addr} lost: {reason}")]
    Lost {
        /// The peer's address.
        addr: Arc<str>,
        /// What ended the connection.
        reason: CloseReason,
    },
    /// The peer answered with an error. [`ErrorCode::is_refusal`] tells whether it had begun.
    #[error("{message} ({code:?})")]
    Remote {
        /// What kind of failure.
        code: ErrorCode,
        /// What failed, for people.
        message: Arc<str>,
    },
}

impl Error {
    /// Whether the request certainly was not begun, and will not be: either it never left this process, or the peer
    /// refused it before acting on it.
    pub fn certainly_not_delivered(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::WrongCluster { .. }
            | Self::Refused { .. }
            | Self::QueueFull { .. }
            | Self::TooLarge { .. }
            | Self::Closed => true,
            Self::DeadlineExceeded { sent } => !sent,
            Self::Lost { .. } => false,
            Self::Remote { code, .. } => code.is_refusal(),
        }
    }
}

/// What kind of failure a peer reports. The list is closed, the numbers are the wire's; a number this build doesn't
/// know reads as [`ErrorCode::Internal`], which promises nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ErrorCode {
    /// The service failed, or dropped the request after it may have begun.
    Internal = 1,
    /// The service let go of the request without an answer.
    Abandoned = 2,
    /// Refusal: the service doesn't know the method.
    UnknownMethod = 3,
    /// Refusal: the service can't read the body.
    BadRequest = 4,
    /// Refusal: too much is in flight on this connection or in this process.
    Overloaded = 5,
    /// Refusal: the process is about to stop.
    ShuttingDown = 6,
    /// Refusal: the process can't serve this now, for lack of something it will have later.
    Unavailable = 7,
    /// Refusal: the request or the hello came from another cluster.
    WrongCluster = 8,
    /// Refusal: the sender doesn't know its cluster, and must here.
    UnknownCluster = 9,
    /// Refusal: the hello is malformed, or there is no common protocol.
    BadHello = 10,
    /// Refusal: the deadline had passed before the service began.
    Expired = 11,
    /// Refusal: the peer's certificate does not name who it says that it is, or its role may not make this request.
    Forbidden = 12,
}

impl ErrorCode {
    /// Whether the request certainly was not begun. A service answers with such a code only in that case.
    pub fn is_refusal(self) -> bool {
        !matches!(self, Self::Internal | Self::Abandoned)
    }

    fn from_wire(number: u16) -> Self {
        match number {
            2 => Self::Abandoned,
            3 => Self::UnknownMethod,
            4 => Self::BadRequest,
            5 => Self::Overloaded,
            6 => Self::ShuttingDown,
            7 => Self::Unavailable,
            8 => Self::WrongCluster,
            9 => Self::UnknownCluster,
            10 => Self::BadHello,
            11 => Self::Expired,
            12 => Self::Forbidden,
            _ => Self::Internal,
        }
    }

    /// The body of an `Error` frame; a long message is cut.
    pub fn encode(self, message: &str) -> Bytes {
        let message = &message.as_bytes()[..message.len().min(MAX_MESSAGE_BYTES)];
        let mut body = BytesMut::with_capacity(2 + message.len());
        body.put_u16(self as u16);
        body.put_slice(message);
        body.freeze()
    }

    /// Reads the body of an `Error` frame; what can't be read promises nothing.
    pub fn decode(mut body: &[u8]) -> (Self, Arc<str>) {
        let code = body.try_get_u16().map_or(Self::Internal, Self::from_wire);
        let message = &body[..body.len().min(MAX_MESSAGE_BYTES)];
        (code, String::from_utf8_lossy(message).into())
    }
}

/// What ended a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The peer closed it.
    #[error("closed by the peer")]
    PeerLeft,
    /// The socket failed.
    #[error("{0}")]
    Io(Arc<str>),
    /// The peer sent nothing for too long, not even an answer to pings.
    #[error("the peer is silent")]
    Silent,
    /// The peer does not read what it is sent.
    #[error("the peer does not read: {buffered} bytes wait for it")]
    NotReading {
        /// Bytes waiting when the connection was given up.
        buffered: usize,
    },
    /// The peer sent what is no frame.
    #[error("protocol violation: {0}")]
    Frame(#[from] FrameError),
    /// The peer sent a frame that has no place there.
    #[error("protocol violation: {0}")]
    Unexpected(&'static str),
    /// This process closed it.
    #[error("closed by this process")]
    Local,
}

impl CloseReason {
    /// Whether the peer broke the protocol or its bounds, as opposed to leaving or failing.
    pub(super) fn is_violation(&self) -> bool {
        matches!(
            self,
            Self::Frame(_) | Self::Unexpected(_) | Self::NotReading { .. }
        )
    }
}

impl From<std::io::Error> for CloseReason {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.to_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_bodies_come_back() {
        for number in 1..=12 {
            let code = ErrorCode::from_wire(number);
            assert_eq!(code as u16, number);
            assert_eq!(ErrorCode::decode(&code.encode("why")), (code, "why".into()));
        }
    }

    #[test]
    fn what_is_not_understood_promises_nothing() {
        for body in [&[][..], &[0], &[255, 255], &[0, 0, b'x']] {
            assert_eq!(ErrorCode::decode(body).0, ErrorCode::Internal);
        }
        assert!(!ErrorCode::Internal.is_refusal());
    }

    #[test]
    fn only_a_request_that_can_not_have_begun_is_certainly_not_delivered() {
        let addr: Arc<str> = "a:1".into();
        assert!(Error::QueueFull { addr: addr.clone() }.certainly_not_delivered());
        assert!(Error::DeadlineExceeded { sent: false }.certainly_not_delivered());
        assert!(!Error::DeadlineExceeded { sent: true }.certainly_not_delivered());
        assert!(
            !Error::Lost {
                addr,
                reason: CloseReason::PeerLeft
            }
            .certainly_not_delivered()
        );
        let remote = |code| Error::Remote {
            code,
            message: "".into(),
        };
        assert!(remote(ErrorCode::Overloaded).certainly_not_delivered());
        assert!(!remote(ErrorCode::Abandoned).certainly_not_delivered());
    }
}
