//! Why a message had no effect, and what openraft is told.

use std::time::Duration;

use openraft::error::{NetworkError, RPCError, Timeout, Unreachable};
use openraft::network::RPCTypes;

use crate::ids::StoreId;
use crate::net;
use crate::proto::DecodeError;
use crate::proto::raft::{Refusal, Route};
use crate::raft::network::convert::{Implausible, Unsendable};
use crate::raft::network::metrics::Sent;
use crate::raft::types::TypeConfig;

/// Why a message had no effect, or none that is known.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the address of store {0} is not known")]
    NoAddress(StoreId),
    #[error(transparent)]
    Net(#[from] net::Error),
    #[error("the peer refused: {0}")]
    Refused(#[from] Refusal),
    #[error("the peer's answer makes no sense: {0}")]
    BadAnswer(#[from] DecodeError),
    #[error("the peer's answer makes no sense: {0}")]
    Implausible(#[from] Implausible),
    #[error("can't be sent: {0}")]
    Unsendable(#[from] Unsendable),
    #[error("too many heartbeats wait for this peer")]
    TooManyBeats,
    #[error("the leader keeps silent, for want of a majority")]
    Hushed,
    #[error("the sender has stopped")]
    Stopped,
}

impl Failure {
    /// Counts the message as lost.
    pub(super) fn count(&self, sent: &Sent) {
        let counter = match self {
            Self::Hushed => return,
            Self::Net(net::Error::DeadlineExceeded { sent: true }) => &sent.timeout,
            Self::Net(error) if !error.certainly_not_delivered() => &sent.lost,
            Self::Refused(_) => &sent.refused,
            Self::BadAnswer(_) | Self::Implausible(_) => &sent.bad_answer,
            _ => &sent.unreachable,
        };
        counter.increment(1);
    }

    /// What openraft is told. It retries at once after a timeout or a lost connection, for the next attempt may well
    /// succeed, and backs off from all else.
    pub(super) fn into_rpc(self, action: RPCTypes, route: Route, timeout: Duration) -> RPCError<TypeConfig> {
        match self {
            Self::Net(net::Error::DeadlineExceeded { sent: true }) => Timeout {
                action,
                id: route.from,
                target: route.to,
                timeout,
            }
            .into(),
            Self::Net(error @ net::Error::Lost { .. }) => NetworkError::new(&error).into(),
            other => Unreachable::new(&other).into(),
        }
    }
}
