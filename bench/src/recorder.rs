//! What the clients of one thread saw, counted as it happens.
//!
//! One recorder serves all clients of a thread: a histogram apiece would take a quarter of a megabyte of cache from the
//! cluster for each of hundreds of clients. The recorders are merged when the run is over.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use crate::{
    plan::Operation,
    session::{Answer, Failure},
};

/// Longest latency told apart, in microseconds; longer ones count as this.
const MAX_LATENCY_MICROS: u64 = 600_000_000;
/// Precision of latencies: three significant decimal digits.
const SIGNIFICANT_DIGITS: u8 = 3;

/// Sorts of operations that are reported apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Sort {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
}

/// Counts and latencies so far.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    /// Latencies of successful operations that were due in the measured window.
    latencies: BTreeMap<Sort, Histogram<u64>>,
    /// Of those, how many found no such key.
    pub(crate) not_found: u64,
    /// Failures of operations that were due in the measured window.
    pub(crate) failures: BTreeMap<Failure, u64>,
    /// Operations that were due in the window and never sent, for the target was behind (open loop only).
    pub(crate) unsent: u64,
    /// Successful operations of the whole run, warm-up included.
    pub(crate) answered_in_all: u64,
}

impl Sort {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Update => "update",
            Self::Insert => "insert",
            Self::Scan => "scan",
            Self::ReadModifyWrite => "read-modify-write",
        }
    }
}

impl From<Operation> for Sort {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Read(_) => Self::Read,
            Operation::Update(_) => Self::Update,
            Operation::Insert(_) => Self::Insert,
            Operation::Scan { .. } => Self::Scan,
            Operation::ReadModifyWrite(_) => Self::ReadModifyWrite,
        }
    }
}

impl Recorder {
    /// Records one operation. `measured` says whether it was due within the measured window.
    pub(crate) fn record(
        &mut self,
        sort: Sort,
        measured: bool,
        latency: Duration,
        outcome: Result<Answer, Failure>,
    ) {
        if outcome.is_ok() {
            self.answered_in_all += 1;
        }
        if !measured {
            return;
        }
        match outcome {
            Ok(answer) => {
                let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
                self.latencies
                    .entry(sort)
                    .or_insert_with(new_histogram)
                    .saturating_record(micros);
                self.not_found += u64::from(answer == Answer::NotFound);
            }
            Err(failure) => *self.failures.entry(failure).or_default() += 1,
        }
    }

    /// Adds what another thread's recorder counted.
    pub(crate) fn merge(&mut self, other: Self) {
        for (sort, histogram) in other.latencies {
            add(
                self.latencies.entry(sort).or_insert_with(new_histogram),
                &histogram,
            );
        }
        for (failure, count) in other.failures {
            *self.failures.entry(failure).or_default() += count;
        }
        self.not_found += other.not_found;
        self.unsent += other.unsent;
        self.answered_in_all += other.answered_in_all;
    }

    /// The latencies of each sort of operation.
    pub(crate) fn by_sort(&self) -> impl Iterator<Item = (Sort, &Histogram<u64>)> {
        self.latencies.iter().map(|(sort, histogram)| (*sort, histogram))
    }

    /// The latencies of all operations together.
    pub(crate) fn total(&self) -> Histogram<u64> {
        let mut total = new_histogram();
        self.latencies
            .values()
            .for_each(|histogram| add(&mut total, histogram));
        total
    }
}

fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_LATENCY_MICROS, SIGNIFICANT_DIGITS)
        .expect("constant bounds that hdrhistogram takes")
}

fn add(to: &mut Histogram<u64>, from: &Histogram<u64>) {
    to.add(from).expect("all histograms have the same bounds");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(latencies: std::ops::Range<u64>) -> Recorder {
        let mut recorder = Recorder::default();
        for micros in latencies {
            recorder.record(Sort::Read, true, Duration::from_micros(micros), Ok(Answer::Done));
        }
        recorder
    }

    #[test]
    fn merging_is_the_same_as_recording_together() {
        let mut merged = recorded(1..300);
        merged.merge(recorded(300..1000));
        let (merged, together) = (merged.total(), recorded(1..1000).total());
        assert_eq!(merged, together);
        assert_eq!((merged.len(), merged.value_at_quantile(0.5)), (999, 500));
    }

    #[test]
    fn only_the_measured_window_counts() {
        let mut recorder = recorded(1..2);
        recorder.record(Sort::Read, false, Duration::from_secs(1), Ok(Answer::Done));
        recorder.record(Sort::Read, false, Duration::from_secs(1), Err(Failure::Timeout));
        assert_eq!(
            (
                recorder.total().len(),
                recorder.answered_in_all,
                recorder.failures.len()
            ),
            (1, 2, 0)
        );
    }

    #[test]
    fn failures_count_by_kind_and_carry_no_latency() {
        let mut recorder = Recorder::default();
        for failure in [
            Failure::Status(503),
            Failure::Timeout,
            Failure::Status(503),
            Failure::Status(504),
        ] {
            recorder.record(Sort::Update, true, Duration::from_millis(1), Err(failure));
        }
        recorder.record(Sort::Read, true, Duration::from_millis(1), Ok(Answer::NotFound));
        let mut other = Recorder::default();
        other.record(Sort::Update, true, Duration::ZERO, Err(Failure::Timeout));
        recorder.merge(other);

        let counts: Vec<_> = recorder
            .failures
            .iter()
            .map(|(failure, count)| (failure.to_string(), *count))
            .collect();
        assert_eq!(
            counts,
            [
                ("status 503".to_owned(), 2),
                ("status 504".to_owned(), 1),
                ("timeout".to_owned(), 2)
            ]
        );
        assert_eq!((recorder.total().len(), recorder.not_found), (1, 1));
    }

    #[test]
    fn latencies_past_the_bound_count_as_the_longest() {
        let mut recorder = Recorder::default();
        recorder.record(Sort::Scan, true, Duration::from_secs(100_000), Ok(Answer::Done));
        assert!(recorder.total().max() >= MAX_LATENCY_MICROS);
    }
}
