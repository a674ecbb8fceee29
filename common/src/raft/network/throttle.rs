//! A limit on bytes per second that all snapshots of a process share.

use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{self, Instant};

/// Time's worth of bytes that may be sent at once after a pause.
const BURST: Duration = Duration::from_millis(50);

/// Decides how long to wait before sending: pure.
#[derive(Debug)]
struct TokenBucket {
    /// Bytes per second.
    rate: f64,
    /// Bytes that may be sent now; negative while those sent already are being paid for.
    tokens: f64,
    updated: Instant,
}

impl TokenBucket {
    fn new(bytes_per_second: u64, now: Instant) -> Self {
        Self {
            rate: bytes_per_second.max(1) as f64,
            tokens: 0.0,
            updated: now,
        }
    }

    /// Takes `bytes`, and tells how long from `now` to wait before sending them. Who comes later waits longer, so nobody
    /// is overtaken.
    fn take(&mut self, bytes: usize, now: Instant) -> Duration {
        let earned = self.rate * now.saturating_duration_since(self.updated).as_secs_f64();
        self.tokens = (self.tokens + earned).min(self.rate * BURST.as_secs_f64());
        self.updated = now;
        let wait = Duration::from_secs_f64((-self.tokens / self.rate).max(0.0));
        self.tokens -= bytes as f64;
        wait
    }
}

/// Makes its callers wait so that together they stay below a rate.
#[derive(Debug)]
pub(super) struct Throttle(Mutex<TokenBucket>);

impl Throttle {
    pub(super) fn new(bytes_per_second: u64) -> Self {
        Self(Mutex::new(TokenBucket::new(bytes_per_second, clock::now())))
    }

    /// Changes the rate from now on.
    pub(super) fn set_rate(&self, bytes_per_second: u64) {
        let mut bucket = self.0.lock();
        bucket.take(0, clock::now());
        bucket.rate = bytes_per_second.max(1) as f64;
    }

    /// Returns when `bytes` may be sent.
    pub(super) async fn pass(&self, bytes: usize) {
        let wait = self.0.lock().take(bytes, clock::now());
        if !wait.is_zero() {
            clock::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_together_stay_below_the_rate() {
        let now = clock::now();
        let mut bucket = TokenBucket::new(1000, now);
        let waits: Vec<_> = (0..4).map(|_| bucket.take(500, now).as_millis()).collect();
        assert_eq!(waits, [0, 500, 1000, 1500]);
    }

    #[test]
    fn a_pause_earns_a_bounded_burst() {
        let now = clock::now();
        let mut bucket = TokenBucket::new(1000, now);
        let later = now + Duration::from_secs(3600);
        assert_eq!(bucket.take(100, later), Duration::ZERO);
        assert_eq!(
            bucket.take(100, later),
            Duration::from_millis(50),
            "an hour earned 50 ms"
        );
    }
}
