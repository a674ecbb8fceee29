//! What was asked of which part of the key space, and when: pure, and bounded in memory.
//!
//! Time is cut into columns: of a minute each for the last two hours, of ten minutes each before that, for a day in all. A
//! column has rows, one for each range that there was, from its first key to the next row's; where there are more ranges
//! than [`MAX_ROWS`], neighbours with the least to do share a row. So the bounds of ranges may differ from column to column.
//! An answer has the same buckets for all its columns: every bound that any of them has, thinned out in the same way. What
//! a row had is then divided evenly among the buckets that lie in it.
//!
//! The leading member keeps it, from what leaders report, for as long as it leads.

use std::collections::VecDeque;

use bytes::Bytes;
use holdfast_common::load::Load;

/// Most rows of a column, and most buckets of an answer.
pub const MAX_ROWS: usize = 256;

/// Seconds of a young column.
const MINUTE: u64 = 60;

/// Young columns that are kept.
const YOUNG: usize = 120;

/// Seconds of an old column.
const COARSE: u64 = 600;

/// Old columns that are kept.
const OLD: usize = 132;

/// Most bytes of bounds that all columns hold; the oldest columns go first.
const MAX_KEY_BYTES: usize = 16 << 20;

/// What a cell can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Reads a second.
    Reads,
    /// Writes a second.
    Writes,
    /// Bytes read a second.
    ReadBytes,
    /// Bytes written a second.
    WrittenBytes,
}

impl Metric {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Reads, Self::Writes, Self::ReadBytes, Self::WrittenBytes];

    /// Its name in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::ReadBytes => "read_bytes",
            Self::WrittenBytes => "written_bytes",
        }
    }

    /// What it counts, a second.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Reads | Self::Writes => "operations_per_second",
            Self::ReadBytes | Self::WrittenBytes => "bytes_per_second",
        }
    }

    fn of(self, load: &Load) -> f64 {
        match self {
            Self::Reads => load.reads,
            Self::Writes => load.writes,
            Self::ReadBytes => load.read_bytes,
            Self::WrittenBytes => load.written_bytes,
        }
    }
}

/// One row: from `start` to where the next begins.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    start: Bytes,
    /// The sum over the time observed, each moment by its seconds.
    sum: Load,
}

/// A stretch of time.
#[derive(Clone, Debug)]
struct Column {
    /// When it begins, seconds since the Unix epoch.
    start: u64,
    /// Its length, seconds.
    length: u64,
    /// How much of it was observed, seconds.
    observed: f64,
    rows: Vec<Row>,
}

/// The history that the leading member has.
#[derive(Debug, Default)]
pub struct Heatmap {
    /// Oldest first; the last one is not over yet.
    columns: VecDeque<Column>,
}

/// Part of the history, made for drawing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// Where each bucket begins, in key order; each ends where the next begins, the last at the end of the key space.
    pub buckets: Vec<Bytes>,
    /// When each column begins and how long it is, seconds.
    pub times: Vec<(u64, u64)>,
    /// For each column, the mean of each bucket while it was observed.
    pub values: Vec<Vec<f64>>,
}

impl Heatmap {
    /// Notes that for `seconds` up to `now`, in seconds since the Unix epoch, the ranges had these loads. `ranges` has where
    /// each begins, in key order.
    pub fn observe(&mut self, now: u64, seconds: f64, ranges: impl Iterator<Item = (Bytes, Load)>) {
        let rows = ranges.map(|(start, load)| Row {
            start,
            sum: times(&load, seconds),
        });
        let rows = thinned(rows.collect());
        let start = now - now % MINUTE;
        match self.columns.back_mut() {
            // The clock may have been set back; what is seen belongs to now all the same.
            Some(last) if start <= last.start => last.add(rows, seconds),
            _ => {
                self.columns.push_back(Column {
                    start,
                    length: MINUTE,
                    observed: seconds,
                    rows,
                });
                self.age();
            }
        }
    }

    /// Puts minutes that are no longer young together, and drops what is too old or too much.
    fn age(&mut self) {
        let young = self
            .columns
            .iter()
            .filter(|column| column.length == MINUTE)
            .count();
        if young > YOUNG
            && let Some(at) = self.columns.iter().position(|column| column.length == MINUTE)
            && let Some(minute) = self.columns.remove(at)
        {
            let start = minute.start - minute.start % COARSE;
            match at.checked_sub(1).and_then(|before| self.columns.get_mut(before)) {
                Some(old) if old.start == start => old.add(minute.rows, minute.observed),
                _ => self.columns.insert(
                    at,
                    Column {
                        start,
                        length: COARSE,
                        ..minute
                    },
                ),
            }
        }
        while self.columns.len() > YOUNG + OLD || self.key_bytes() > MAX_KEY_BYTES {
            if self.columns.pop_front().is_none() {
                return;
            }
        }
    }

    fn key_bytes(&self) -> usize {
        let rows = self.columns.iter().flat_map(|column| &column.rows);
        rows.map(|row| row.start.len()).sum()
    }

    /// What is known of the time from `from` until `to`, in seconds since the Unix epoch.
    pub fn picture(&self, metric: Metric, from: u64, to: u64) -> Picture {
        let within = |column: &&Column| column.start < to && column.start + column.length > from;
        let columns: Vec<&Column> = self.columns.iter().filter(within).collect();
        let mut rows = Vec::new();
        for column in &columns {
            rows = laid_over(&rows, &column.rows);
        }
        let buckets: Vec<Bytes> = thinned(rows).into_iter().map(|row| row.start).collect();
        let values = columns.iter().map(|column| {
            let sums = spread(&column.rows, &buckets, metric);
            sums.into_iter()
                .map(|sum| sum / column.observed.max(f64::MIN_POSITIVE))
                .collect()
        });
        Picture {
            values: values.collect(),
            times: columns
                .iter()
                .map(|column| (column.start, column.length))
                .collect(),
            buckets,
        }
    }
}

impl Column {
    fn add(&mut self, rows: Vec<Row>, seconds: f64) {
        self.observed += seconds;
        self.rows = thinned(laid_over(&self.rows, &rows));
    }
}

/// Two sets of rows as one, with the bounds of both. What a row had is divided evenly among its parts.
fn laid_over(one: &[Row], other: &[Row]) -> Vec<Row> {
    let bounds = |rows: &[Row]| rows.iter().map(|row| row.start.clone()).collect::<Vec<_>>();
    if one.is_empty() {
        return other.to_vec();
    }
    let mut all = bounds(one);
    // The bounds that are known already keep their memory: most are the same at every look.
    all.extend(bounds(other));
    all.sort();
    all.dedup();
    let mut sums = parts(one, &all);
    for (sum, more) in sums.iter_mut().zip(parts(other, &all)) {
        *sum = plus(sum, &more);
    }
    let rows = all.into_iter().zip(sums);
    rows.map(|(start, sum)| Row { start, sum }).collect()
}

/// What each of the buckets gets of the rows; every row's bound is one of the buckets'. What lies before the first row has nothing.
fn parts(rows: &[Row], buckets: &[Bytes]) -> Vec<Load> {
    let mut loads = Vec::with_capacity(buckets.len());
    let mut next = 0;
    for (i, row) in rows.iter().enumerate() {
        next += buckets[next..].partition_point(|bucket| *bucket < row.start);
        loads.resize(next, Load::default());
        let end = rows.get(i + 1).map_or(buckets.len(), |after| {
            buckets.partition_point(|bucket| *bucket < after.start)
        });
        let count = end.saturating_sub(next).max(1);
        loads.resize(end, times(&row.sum, 1.0 / count as f64));
        next = end;
    }
    loads.resize(buckets.len(), Load::default());
    loads
}

/// What each of the buckets gets of one metric of the rows, whose bounds may lie within buckets: a row gives to those that
/// begin in it, or to the one that holds it.
fn spread(rows: &[Row], buckets: &[Bytes], metric: Metric) -> Vec<f64> {
    let mut values = vec![0.0; buckets.len()];
    for (i, row) in rows.iter().enumerate() {
        let begin = buckets.partition_point(|bucket| *bucket <= row.start).max(1) - 1;
        let end = rows.get(i + 1).map_or(buckets.len(), |after| {
            buckets.partition_point(|bucket| *bucket < after.start)
        });
        let share = metric.of(&row.sum) / end.saturating_sub(begin).max(1) as f64;
        for value in values.iter_mut().take(end.max(begin + 1)).skip(begin) {
            *value += share;
        }
    }
    values
}

/// The same rows, at most [`MAX_ROWS`]: neighbours with the least to do are put together, again and again.
fn thinned(mut rows: Vec<Row>) -> Vec<Row> {
    while rows.len() > MAX_ROWS {
        // Pairs in one sweep, those below the median of what is too much: a few sweeps, however many rows there are.
        let excess = rows.len() - MAX_ROWS;
        let mut pairs: Vec<f64> = rows
            .windows(2)
            .map(|pair| pair[0].sum.units() + pair[1].sum.units())
            .collect();
        let (_, limit, _) = pairs.select_nth_unstable_by(excess - 1, f64::total_cmp);
        let limit = *limit;
        let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
        let (mut merged, mut is_pair) = (0, false);
        for row in rows {
            match kept.last_mut() {
                Some(last) if !is_pair && merged < excess && last.sum.units() + row.sum.units() <= limit => {
                    last.sum = plus(&last.sum, &row.sum);
                    (merged, is_pair) = (merged + 1, true);
                }
                _ => {
                    kept.push(row);
                    is_pair = false;
                }
            }
        }
        rows = kept;
    }
    rows
}

fn times(load: &Load, factor: f64) -> Load {
    Load {
        reads: load.reads * factor,
        writes: load.writes * factor,
        read_bytes: load.read_bytes * factor,
        written_bytes: load.written_bytes * factor,
    }
}

fn plus(one: &Load, other: &Load) -> Load {
    Load {
        reads: one.reads + other.reads,
        writes: one.writes + other.writes,
        read_bytes: one.read_bytes + other.read_bytes,
        written_bytes: one.written_bytes + other.written_bytes,
    }
}

#[cfg(test)]
#[path = "heatmap_test.rs"]
mod tests;
