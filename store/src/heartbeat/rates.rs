//! How often a range is read and written, lately: an exponentially weighted average. Pure.

use std::time::Duration;

/// An observation loses two thirds of its weight in this time.
const MEMORY: Duration = Duration::from_secs(10);

/// Below this a rate is zero, so that an idle range comes to rest.
const FLOOR: f64 = 0.05;

/// The rate of a counter that only grows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rate {
    seen: u64,
    per_second: f64,
}

impl Rate {
    /// The counter stands at `total`, `elapsed` after the last observation.
    pub(super) fn observe(&mut self, total: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let lately = total.saturating_sub(self.seen) as f64 / seconds;
        self.seen = total;
        let weight = 1.0 - (-seconds / MEMORY.as_secs_f64()).exp();
        self.per_second += weight * (lately - self.per_second);
    }

    /// Events a second, to one decimal.
    pub(super) fn per_second(&self) -> f64 {
        if self.per_second < FLOOR {
            0.0
        } else {
            (self.per_second * 10.0).round() / 10.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_steady_load_shows_as_it_is() {
        let mut rate = Rate::default();
        for second in 1..=100 {
            rate.observe(second * 250, SECOND);
        }
        assert_eq!(rate.per_second(), 250.0);
    }

    #[test]
    fn an_idle_range_comes_to_rest() {
        let mut rate = Rate::default();
        rate.observe(1_000, SECOND);
        assert!(rate.per_second() > 50.0);
        for _ in 0..150 {
            rate.observe(1_000, SECOND);
        }
        assert_eq!(rate.per_second(), 0.0);
    }

    #[test]
    fn no_time_no_rate() {
        let mut rate = Rate::default();
        rate.observe(1_000, Duration::ZERO);
        assert_eq!(rate.per_second(), 0.0);
    }
}
