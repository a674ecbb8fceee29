//! How much is asked of a range, lately: exponentially weighted averages. Pure.

use std::time::Duration;

use holdfast_common::load::Load;

use crate::load::Totals;

/// An observation loses two thirds of its weight in this time.
const MEMORY: Duration = Duration::from_secs(10);

/// Below this a rate is zero, so that an idle range comes to rest.
const FLOOR: f64 = 0.05;

/// How long rates must have been observed before anything is concluded from them.
const MEASURED_AFTER: Duration = Duration::from_secs(5);

/// The rates of a range, observed since some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    reads: Rate,
    read_bytes: Rate,
    writes: Rate,
    written_bytes: Rate,
    observed: Duration,
}

impl Rates {
    /// Nothing was observed yet; what was counted so far does not matter.
    pub(super) fn begin(totals: Totals) -> Self {
        Self {
            reads: Rate::begin(totals.reads),
            read_bytes: Rate::begin(totals.read_bytes),
            writes: Rate::begin(totals.writes),
            written_bytes: Rate::begin(totals.written_bytes),
            observed: Duration::ZERO,
        }
    }

    /// The counters stand at `totals`, `elapsed` after the last observation.
    pub(super) fn observe(&mut self, totals: Totals, elapsed: Duration) {
        self.observed += elapsed;
        self.reads.observe(totals.reads, elapsed);
        self.read_bytes.observe(totals.read_bytes, elapsed);
        self.writes.observe(totals.writes, elapsed);
        self.written_bytes.observe(totals.written_bytes, elapsed);
    }

    /// What is asked a second.
    pub(super) fn load(&self) -> Load {
        Load {
            reads: self.reads.per_second(),
            writes: self.writes.per_second(),
            read_bytes: self.read_bytes.per_second(),
            written_bytes: self.written_bytes.per_second(),
        }
    }

    /// Whether they have been observed for long enough to conclude something.
    pub(super) fn is_measured(&self) -> bool {
        self.observed >= MEASURED_AFTER
    }
}

/// The rate of a counter that only grows.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    seen: u64,
    /// The sum of what was observed, each by its weight.
    sum: f64,
    /// The sum of the weights: below one in the beginning, when there is no past to weigh in.
    weight: f64,
}

impl Rate {
    fn begin(total: u64) -> Self {
        Self {
            seen: total,
            ..Self::default()
        }
    }

    /// The counter stands at `total`, `elapsed` after the last observation.
    fn observe(&mut self, total: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let lately = total.saturating_sub(self.seen) as f64 / seconds;
        self.seen = total;
        let weight = 1.0 - (-seconds / MEMORY.as_secs_f64()).exp();
        self.sum += weight * (lately - self.sum);
        self.weight += weight * (1.0 - self.weight);
    }

    /// Events a second, to one decimal.
    fn per_second(&self) -> f64 {
        let rate = if self.weight > 0.0 {
            self.sum / self.weight
        } else {
            0.0
        };
        if rate < FLOOR {
            0.0
        } else {
            (rate * 10.0).round() / 10.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_steady_load_shows_as_it_is_from_the_first_observation_on() {
        let mut rate = Rate::default();
        for second in 1..=100 {
            rate.observe(second * 250, SECOND);
            assert_eq!(rate.per_second(), 250.0);
        }
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

    #[test]
    fn what_was_before_does_not_count_and_a_moment_proves_nothing() {
        let at = |reads| Totals {
            reads,
            ..Totals::default()
        };
        let mut rates = Rates::begin(at(1_000_000));
        rates.observe(at(1_000_300), SECOND);
        assert_eq!(rates.load().reads, 300.0);
        assert!(!rates.is_measured());
        rates.observe(at(1_001_500), 4 * SECOND);
        assert!(rates.is_measured());
    }
}
