//! Which of the ranges that are led here is compared next, and when.
//!
//! Each has a moment of its own within the interval, so that many ranges are not looked at, and not woken, at once. What is
//! overdue is caught up on one range at a time, with a pause between two.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::RangeId;
use holdfast_common::proto::check::Verdict;
use tokio_util::sync::CancellationToken;

use crate::host::Host;

/// Longest time between two looks at what is due.
const LOOK: Duration = Duration::from_secs(10);

/// Least time from one comparison to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// A range that could not be compared comes again after this part of the interval.
const SOON: u32 = 24;

/// When each range is to be compared. Pure.
#[derive(Debug)]
struct Calendar {
    every: Duration,
    due: HashMap<RangeId, Instant>,
}

impl Calendar {
    fn new(every: Duration) -> Self {
        Self {
            every,
            due: HashMap::new(),
        }
    }

    /// Takes note of the ranges that are led here; `random` is at most the number that it is given. The one that has been
    /// due longest, if any is.
    fn next(&mut self, led: &[RangeId], now: Instant, random: impl Fn(u64) -> u64) -> Option<RangeId> {
        let before = std::mem::take(&mut self.due);
        let first = || now + Duration::from_millis(random(self.every.as_millis() as u64));
        self.due = led
            .iter()
            .map(|range| (*range, before.get(range).copied().unwrap_or_else(first)))
            .collect();
        let due = self.due.iter().filter(|(_, due)| **due <= now);
        due.min_by_key(|(range, due)| (**due, **range))
            .map(|(range, _)| *range)
    }

    /// A range was compared, or could not be.
    fn ended(&mut self, range: RangeId, now: Instant, compared: bool) {
        let after = if compared { self.every } else { self.every / SOON };
        self.due.insert(range, now + after);
    }
}

/// Compares ranges in turn until `shutdown`.
pub(crate) async fn run(host: Arc<Host>, shutdown: CancellationToken) {
    let Some(every) = host.site.checks.every() else {
        return shutdown.cancelled().await;
    };
    let mut calendar = Calendar::new(every);
    let look = LOOK.min(every / 4);
    loop {
        let replicas = host.replicas().into_iter();
        let led: Vec<RangeId> = replicas
            .filter(|replica| replica.leads())
            .map(|replica| replica.range)
            .collect();
        let pause = match calendar.next(&led, clock::now(), clock::random_below) {
            None => look,
            Some(range) => {
                let Some(compared) = shutdown.run_until_cancelled(compare(&host, range)).await else {
                    return;
                };
                calendar.ended(range, clock::now(), compared);
                PAUSE.min(look)
            }
        };
        if shutdown.run_until_cancelled(clock::sleep(pause)).await.is_none() {
            return;
        }
    }
}

async fn compare(host: &Arc<Host>, range: RangeId) -> bool {
    match host.compare(range).await {
        Ok(report) => {
            let is_open = report.verdict == Verdict::Open;
            tracing::debug!(%range, verdict = ?report.verdict, "the replicas were compared");
            !is_open
        }
        Err(error) => {
            tracing::debug!(%range, %error, "the replicas were not compared");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(2_400);

    fn after(begun: Instant, seconds: u64) -> Instant {
        begun + Duration::from_secs(seconds)
    }

    #[test]
    fn each_range_has_its_turn_once_in_the_interval() {
        let (mut calendar, begun) = (Calendar::new(EVERY), clock::now());
        let led = [RangeId(1), RangeId(2)];
        let turns = std::cell::Cell::new(0);
        let random = |most: u64| {
            turns.set(turns.get() + 1);
            most / 4 * turns.get()
        };
        assert_eq!(calendar.next(&led, begun, random), None, "not all at the start");
        assert_eq!(calendar.next(&led, after(begun, 599), random), None);
        assert_eq!(calendar.next(&led, after(begun, 600), random), Some(RangeId(1)));
        calendar.ended(RangeId(1), after(begun, 600), true);
        assert_eq!(calendar.next(&led, after(begun, 1_199), random), None);
        assert_eq!(calendar.next(&led, after(begun, 1_200), random), Some(RangeId(2)));
        calendar.ended(RangeId(2), after(begun, 1_200), false);
        assert_eq!(
            calendar.next(&led, after(begun, 1_300), random),
            Some(RangeId(2)),
            "one that could not be compared comes again soon"
        );
        calendar.ended(RangeId(2), after(begun, 1_300), true);
        assert_eq!(calendar.next(&led, after(begun, 2_999), random), None);
        assert_eq!(calendar.next(&led, after(begun, 3_000), random), Some(RangeId(1)));
    }

    #[test]
    fn what_is_overdue_comes_in_the_order_in_which_it_was_due() {
        let (mut calendar, begun) = (Calendar::new(EVERY), clock::now());
        calendar.next(&[RangeId(5)], begun, |_| 0);
        calendar.next(&[RangeId(5), RangeId(3)], after(begun, 1), |_| 0);
        let late = after(begun, 10_000);
        assert_eq!(
            calendar.next(&[RangeId(3), RangeId(5)], late, |_| 0),
            Some(RangeId(5))
        );
        assert_eq!(
            calendar.next(&[RangeId(3)], late, |_| 0),
            Some(RangeId(3)),
            "5 is led elsewhere"
        );
        assert_eq!(
            calendar.next(&[RangeId(5)], late, |most| most),
            None,
            "and begins anew"
        );
    }
}
