//! Whether a request is sent again: one pure function, [`decide`]; and how long a stream that breaks is taken up again.

use std::time::Duration;

use crate::error::Error;

/// The pause after a first attempt; it doubles, and up to as much again is added at random.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest pause, before chance is added.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With an answer of this status.
    Answered(u16),
    /// Nothing was connected, so nothing was sent.
    Unconnected,
    /// It broke off after something was sent.
    Lost,
}

/// What to do after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Take the answer.
    Take,
    /// Send it again after a pause.
    Again(Duration),
    /// Give up; nothing was applied.
    Unavailable,
    /// Give up; nobody knows.
    Unknown,
}

/// Decides what follows attempt number `attempts`. `retry_after` is what the answer says, `left` the time that is left,
/// and `unsure` whether this or an earlier attempt of a write may have been applied.
pub(crate) fn decide(
    ended: Ended,
    attempts: u32,
    retry_after: Option<Duration>,
    left: Duration,
    unsure: bool,
) -> Decision {
    let passing = match ended {
        Ended::Answered(429 | 502 | 503 | 504) | Ended::Unconnected | Ended::Lost => true,
        Ended::Answered(_) => false,
    };
    if !passing {
        return Decision::Take;
    }
    let doubled = FIRST_PAUSE * (1 << attempts.saturating_sub(1).min(10));
    let pause = doubled.min(LONGEST_PAUSE).max(retry_after.unwrap_or_default());
    match (pause < left, unsure) {
        (true, _) => Decision::Again(pause),
        (false, true) => Decision::Unknown,
        (false, false) => Decision::Unavailable,
    }
}

/// Whether a write whose attempt ended so may have been applied.
pub(crate) fn may_have_applied(ended: Ended) -> bool {
    matches!(ended, Ended::Lost | Ended::Answered(502 | 504))
}

/// Attempts to go on with a stream that may fail one after the other.
const MAX_FAILURES: u32 = 5;

/// How often a stream has broken since it last brought something.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    failures: u32,
}

impl Patience {
    /// Waits before the next attempt, longer each time.
    ///
    /// # Errors
    /// `error` itself, when another attempt is pointless, or there were enough of them.
    pub(crate) async fn pause(&mut self, error: Error) -> Result<(), Error> {
        self.failures += 1;
        if !error.may_pass() || self.failures >= MAX_FAILURES {
            return Err(error);
        }
        let pause = Duration::from_millis(50 << self.failures);
        tokio::time::sleep(pause.mul_f64(rand::random_range(1.0..2.0))).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_final_is_taken_and_what_passes_is_repeated() {
        for status in [200, 201, 204, 304, 400, 404, 412, 413, 422, 500, 501, 507] {
            assert_eq!(
                decide(Ended::Answered(status), 1, None, MINUTE, true),
                Decision::Take,
                "{status}"
            );
        }
        for ended in [
            Ended::Answered(429),
            Ended::Answered(503),
            Ended::Answered(504),
            Ended::Unconnected,
            Ended::Lost,
        ] {
            assert_eq!(
                decide(ended, 1, None, MINUTE, false),
                Decision::Again(FIRST_PAUSE),
                "{ended:?}"
            );
            assert_eq!(
                decide(ended, 60, None, MINUTE, false),
                Decision::Again(LONGEST_PAUSE)
            );
        }
        let after = Duration::from_secs(3);
        assert_eq!(
            decide(Ended::Answered(503), 1, Some(after), MINUTE, false),
            Decision::Again(after)
        );
    }

    #[test]
    fn at_the_end_a_write_that_may_be_applied_is_unknown() {
        let end = |unsure| decide(Ended::Answered(503), 3, None, Duration::ZERO, unsure);
        assert_eq!(
            (end(false), end(true)),
            (Decision::Unavailable, Decision::Unknown)
        );
        assert!(may_have_applied(Ended::Lost) && may_have_applied(Ended::Answered(504)));
        assert!(!may_have_applied(Ended::Unconnected) && !may_have_applied(Ended::Answered(503)));
    }
}
