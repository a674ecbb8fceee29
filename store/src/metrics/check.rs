//! Comparisons of replicas.

use std::sync::LazyLock;

use holdfast_common::proto::check::Verdict;
use metrics::{Counter, Gauge, counter, gauge};

pub(super) const CHECKS: [&str; 4] = ["agree", "open", "differ", "failed"];

struct Handles {
    checks: [Counter; 4],
    bytes: Counter,
    divergence: Counter,
    divergent: Gauge,
}

static HANDLES: LazyLock<Handles> = LazyLock::new(|| Handles {
    checks: CHECKS.map(|result| counter!("holdfast_store_checks_total", "result" => result)),
    bytes: counter!("holdfast_store_check_bytes_total"),
    divergence: counter!("holdfast_store_divergence_total"),
    divergent: gauge!("holdfast_store_divergent_ranges"),
});

pub(super) fn init() {
    LazyLock::force(&HANDLES);
}

/// The replicas of a range led here were compared, or could not be.
pub(crate) fn checked(verdict: Option<&Verdict>) {
    let result = match verdict {
        Some(Verdict::Agree) => 0,
        Some(Verdict::Open) => 1,
        Some(Verdict::Differ { .. }) => 2,
        None => 3,
    };
    HANDLES.checks[result].increment(1);
}

/// So many bytes of a replica were read to compare it.
pub(crate) fn summed_up(bytes: u64) {
    HANDLES.bytes.increment(bytes);
}

/// A check found that replicas of a range that has one here hold different data.
pub(crate) fn diverged() {
    HANDLES.divergence.increment(1);
}

/// So many ranges here have replicas that differ.
pub(crate) fn differing(ranges: usize) {
    HANDLES.divergent.set(ranges as f64);
}
