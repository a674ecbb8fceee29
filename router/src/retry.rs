//! Whether a failed attempt is followed by another: one pure function, [`decide`].
//!
//! A request makes attempts until one is answered, or until trying further is pointless or too late. What makes this
//! delicate is a write whose answer was lost: it may have been applied. Three rules keep it exact:
//!
//! 1. Every attempt of a write goes out under the same (session, sequence), by which the range tells a repetition from a
//!    new write. So a lost answer is *resolved* by asking again: the range answers with what became of the first.
//! 2. The number is changed only when no attempt under it can have reached a range ([`Refresh::Number`]).
//! 3. Once an attempt may have been applied, no failure of a later one proves that it was not. Such a write ends with an
//!    answer of its range or with [`Code::OutcomeUnknown`], never with a code that promises "not applied".

use std::time::Duration;

use holdfast_common::net::{self, ErrorCode};
use holdfast_common::proto::kv;

/// Attempts that may follow each other without a pause, as long as each brings news of where to go.
const PROMPT_ATTEMPTS: u32 = 8;

/// Attempts that meet a busy range before the client is told to come back later.
const BUSY_ATTEMPTS: u32 = 3;

/// Attempts that are spent on answers that make no sense.
const NONSENSE_ATTEMPTS: u32 = 3;

/// New numbers that a write is given before something must be wrong.
const NUMBER_ATTEMPTS: u32 = 8;

/// The pause after a first attempt without news. It doubles with each attempt, and the sender adds up to as much again
/// at random.
const FIRST_PAUSE: Duration = Duration::from_millis(4);

/// The longest pause, before chance is added.
const LONGEST_PAUSE: Duration = Duration::from_millis(128);

/// Why one attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// The router does not know who holds the key.
    #[error("the router has no route to the key yet")]
    NoRoute,
    /// No replica of the range has a known address.
    #[error("no replica of the range has a known address")]
    NoAddress,
    /// The store can't be reached, or refused to begin (leaving, starting, of another cluster). Not delivered.
    #[error("a store can't be reached")]
    Unreachable,
    /// Too much waits for the store already, here or there. Not delivered.
    #[error("too much is waiting for a store")]
    Congested,
    /// No answer within the attempt's time, and the request was never sent.
    #[error("a store could not be reached in time")]
    NotSentInTime,
    /// No answer within the attempt's time.
    #[error("a store did not answer in time")]
    NoAnswerInTime,
    /// The connection broke, or the store let go of the request, before an answer came.
    #[error("the connection to a store was lost before it answered")]
    Lost,
    /// This router is shutting down. Not delivered.
    #[error("the router is shutting down")]
    Closed,
    /// The answer can't be read or contradicts the request.
    #[error("a store's answer makes no sense to this router")]
    Nonsense,
    /// The store or the transport calls the request invalid. Not applied.
    #[error("a store refused the request as invalid")]
    Invalid,
    /// The replica does not lead. Not applied.
    #[error("the range has no known leader")]
    NotLeader,
    /// The range has other bounds. Not applied.
    #[error("the range has changed its bounds")]
    StaleEpoch,
    /// The store does not have the range. Not applied.
    #[error("the range has moved")]
    NoSuchRange,
    /// The range has too much to do. Not applied.
    #[error("the range is overloaded")]
    Busy {
        /// When another try may be worth it, milliseconds.
        retry_after_ms: u32,
    },
    /// The disk guard refuses puts. Not applied.
    #[error("the disks of the range are nearly full")]
    DiskFull,
    /// The range can't serve at this moment. Not applied.
    #[error("the range is not ready")]
    NotReady,
    /// The write was proposed, and its fate is not known.
    #[error("the leader lost track of the write")]
    OutcomeUnknown,
    /// The range remembers nothing under this number and accepts nothing under it any more.
    #[error("the write's number was retired before its outcome was known")]
    Retired,
    /// The client's name for the write belongs to another one. Not applied.
    #[error("the Idempotency-Key was used for another write of this key")]
    TokenReused,
    /// The keys of a transaction lie in several ranges. Not applied.
    #[error("the keys of the transaction lie in several ranges")]
    CrossRange,
    /// What a transaction would read is too large. Not applied.
    #[error("what the transaction reads is larger than an answer may be")]
    AnswerTooLarge,
    /// The transaction was carried out by an attempt before, and what it read is lost.
    #[error("the transaction was carried out, but what it read has changed since")]
    ReadsLost,
}

impl Failure {
    /// Whether this speaks against the store that was asked, so that the next attempt had better ask another.
    pub(crate) fn points_elsewhere(self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::NotSentInTime
                | Self::NoAnswerInTime
                | Self::Lost
                | Self::Nonsense
                | Self::NotLeader
                | Self::StaleEpoch
                | Self::NoSuchRange
        )
    }

    /// Whether a write of this attempt may have been applied, now or later.
    pub(crate) fn may_have_applied(self) -> bool {
        matches!(
            self,
            Self::NoAnswerInTime | Self::Lost | Self::Nonsense | Self::OutcomeUnknown | Self::ReadsLost
        )
    }
}

impl From<&kv::Error> for Failure {
    fn from(error: &kv::Error) -> Self {
        match error {
            kv::Error::NotLeader { .. } => Self::NotLeader,
            kv::Error::StaleEpoch { .. } => Self::StaleEpoch,
            kv::Error::NoSuchRange => Self::NoSuchRange,
            kv::Error::Busy { retry_after_ms } => Self::Busy {
                retry_after_ms: *retry_after_ms,
            },
            kv::Error::DiskFull => Self::DiskFull,
            kv::Error::NotReady(_) => Self::NotReady,
            kv::Error::OutcomeUnknown => Self::OutcomeUnknown,
            kv::Error::Retired => Self::Retired,
            kv::Error::Invalid(_) => Self::Invalid,
            kv::Error::TokenReused => Self::TokenReused,
            kv::Error::CrossRange => Self::CrossRange,
            kv::Error::AnswerTooLarge => Self::AnswerTooLarge,
            kv::Error::ReadsLost => Self::ReadsLost,
        }
    }
}

impl From<&net::Error> for Failure {
    fn from(error: &net::Error) -> Self {
        match error {
            net::Error::Unreachable { .. } | net::Error::WrongCluster { .. } | net::Error::Refused { .. } => {
                Self::Unreachable
            }
            net::Error::QueueFull { .. } => Self::Congested,
            net::Error::TooLarge { .. } => Self::Invalid,
            net::Error::Closed => Self::Closed,
            net::Error::DeadlineExceeded { sent: false } => Self::NotSentInTime,
            net::Error::DeadlineExceeded { sent: true } => Self::NoAnswerInTime,
            net::Error::Lost { .. } => Self::Lost,
            net::Error::Remote { code, .. } => match code {
                ErrorCode::Overloaded => Self::Congested,
                ErrorCode::Expired => Self::NotSentInTime,
                ErrorCode::BadRequest | ErrorCode::UnknownMethod => Self::Invalid,
                refusal if refusal.is_refusal() => Self::Unreachable,
                _ => Self::Lost,
            },
        }
    }
}

/// Where a request stands after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Attempts made, the failed one included: 1 or more.
    pub attempts: u32,
    /// Time left until the client's deadline.
    pub left: Duration,
    /// Whether any attempt, the failed one included, may have been applied. Never true of a read, which changes nothing.
    pub may_be_applied: bool,
    /// Whether the next attempt would go to a place that has not been asked in this round: a new leader, a new range,
    /// a replica not yet tried.
    pub news: bool,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Try again.
    Retry {
        /// Wait this long first, with up to as much again added at random.
        after: Duration,
        /// What to do differently.
        refresh: Refresh,
    },
    /// Tell the client.
    Fail(Code),
}

/// What the next attempt does first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// It goes where the cache, which has learned from the failure, says now: to a new leader, to a replica that was not
    /// asked yet, or to the same place, which may have recovered.
    Route,
    /// It waits for the map to change, up to the deadline.
    Map,
    /// It goes out under a new number.
    Number,
}

/// How a request failed for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Not applied; worth a retry.
    Unavailable,
    /// A write that may or may not have been applied.
    OutcomeUnknown,
    /// Not applied: too much to do.
    Overloaded,
    /// Not applied: no room.
    DiskFull,
    /// Not applied: a bug on our side.
    Internal,
    /// Not applied: the client's name for it belongs to another write.
    TokenReused,
    /// Not applied: a transaction over several ranges.
    CrossRange,
    /// Not applied: a transaction that reads too much.
    AnswerTooLarge,
}

/// Decides what follows a failed attempt.
pub(crate) fn decide(failure: Failure, standing: Standing) -> Decision {
    use Failure as F;
    let Standing {
        attempts,
        left,
        may_be_applied,
        news,
    } = standing;
    let pause = pause_before(attempts);
    let promptly = if news && attempts <= PROMPT_ATTEMPTS {
        Duration::ZERO
    } else {
        pause
    };
    let again = |after, refresh| {
        retry_within(left, after, refresh).unwrap_or(Decision::Fail(give_up(failure, standing)))
    };
    match failure {
        F::Closed | F::TokenReused | F::CrossRange | F::AnswerTooLarge | F::ReadsLost => {
            Decision::Fail(give_up(failure, standing))
        }
        F::NoRoute => again(Duration::ZERO, Refresh::Map),
        F::NoAddress | F::NotReady | F::OutcomeUnknown => again(pause, Refresh::Route),
        F::NotLeader | F::StaleEpoch | F::NoSuchRange => again(promptly, Refresh::Route),
        F::Unreachable | F::NotSentInTime | F::NoAnswerInTime | F::Lost => again(promptly, Refresh::Route),
        F::Retired if may_be_applied || attempts >= NUMBER_ATTEMPTS => {
            Decision::Fail(give_up(failure, standing))
        }
        F::Retired => again(Duration::ZERO, Refresh::Number),
        F::Busy { .. } | F::Congested if !may_be_applied && attempts >= BUSY_ATTEMPTS => {
            Decision::Fail(give_up(failure, standing))
        }
        F::Busy { retry_after_ms } => again(
            pause.max(Duration::from_millis(retry_after_ms.into())),
            Refresh::Route,
        ),
        F::Congested => again(pause, Refresh::Route),
        // What is refused now says nothing of what was sent before: only the range's memory of that one does.
        F::DiskFull | F::Invalid if may_be_applied => again(pause, Refresh::Route),
        F::DiskFull | F::Invalid => Decision::Fail(give_up(failure, standing)),
        F::Nonsense if attempts >= NONSENSE_ATTEMPTS => Decision::Fail(give_up(failure, standing)),
        F::Nonsense => again(pause, Refresh::Route),
    }
}

/// A retry, unless it would come too late.
fn retry_within(left: Duration, after: Duration, refresh: Refresh) -> Option<Decision> {
    (after < left).then_some(Decision::Retry { after, refresh })
}

/// What to tell the client when `failure` was the last.
fn give_up(failure: Failure, standing: Standing) -> Code {
    if standing.may_be_applied {
        return Code::OutcomeUnknown;
    }
    match failure {
        Failure::Busy { .. } | Failure::Congested => Code::Overloaded,
        Failure::DiskFull => Code::DiskFull,
        Failure::Invalid | Failure::Nonsense => Code::Internal,
        Failure::TokenReused => Code::TokenReused,
        Failure::CrossRange => Code::CrossRange,
        Failure::AnswerTooLarge => Code::AnswerTooLarge,
        _ => Code::Unavailable,
    }
}

fn pause_before(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    (FIRST_PAUSE * (1 << doublings)).min(LONGEST_PAUSE)
}

#[cfg(test)]
#[path = "retry_test.rs"]
mod tests;
