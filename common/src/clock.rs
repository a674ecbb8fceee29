//! Time and randomness, from one place.
//!
//! Everything that reads a clock, waits or draws a random number in Holdfast does it through here, so that there is one
//! place to look when time misbehaves. Timers use tokio's clock, which tests can pause.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use tokio::time::{
    Instant, Interval, MissedTickBehavior, Sleep, sleep, sleep_until, timeout, timeout_at,
};

/// The monotonic clock.
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since the Unix epoch by the wall clock. It may step back: order nothing by it alone.
pub fn wall_ms() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(wall_ms) = crate::simulation::wall_ms() {
        return wall_ms;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| {
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
    })
}

/// A ticker whose first tick is one `period` away and which skips ticks that it missed.
pub fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    interval
}

/// Random bytes that nobody can guess.
pub fn random_secret<const N: usize>() -> [u8; N] {
    let mut secret = [0; N];
    rand::fill(&mut secret);
    secret
}

/// A random id, never zero.
pub fn random_id() -> u64 {
    rand::random_range(1..=u64::MAX >> 1)
}

/// A random number below `bound`; 0 when that is 0.
pub fn random_below(bound: u64) -> u64 {
    rand::random_range(0..bound.max(1))
}

/// `base` plus up to as much again, so that what failed together does not retry together.
pub fn jittered(base: Duration) -> Duration {
    base + base.mul_f64(rand::random::<f64>())
}
