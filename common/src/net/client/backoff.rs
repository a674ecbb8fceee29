//! When to dial again: pure.

use std::time::Duration;

use crate::clock::Instant;

/// The pause between attempts to connect, doubling up to a bound.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
    retry_at: Option<Instant>,
}

impl Backoff {
    /// Whether an attempt may be made.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|retry_at| now >= retry_at)
    }

    /// The pause that follows one more failure, before jitter.
    pub(super) fn next_pause(&self, min: Duration, max: Duration) -> Duration {
        min.saturating_mul(1 << self.failures.min(16)).min(max)
    }

    /// An attempt failed: none before `retry_at`.
    pub(super) fn failed(&mut self, retry_at: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(retry_at);
    }

    /// A connection worked.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn pauses_double_up_to_the_bound_and_start_over_after_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::default();
        let mut pauses = Vec::new();
        for _ in 0..6 {
            pauses.push(backoff.next_pause(ms(25), ms(300)));
            backoff.failed(clock::now());
        }
        assert_eq!(pauses, [ms(25), ms(50), ms(100), ms(200), ms(300), ms(300)]);
        backoff.reset();
        assert_eq!(backoff.next_pause(ms(25), ms(300)), ms(25));
    }

    #[test]
    fn no_attempt_before_its_time() {
        let now = clock::now();
        let mut backoff = Backoff::default();
        assert!(backoff.is_over(now));
        backoff.failed(now + Duration::from_secs(1));
        assert!(!backoff.is_over(now));
        assert!(backoff.is_over(now + Duration::from_secs(1)));
    }
}
