//! Histograms with cumulative buckets: what came between two of them, and where a share of it lies. Pure.

use serde_json::{Value, json};

/// Counts up to each bound; the last bound is infinite.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Histogram {
    /// Bound and count up to it, by bound.
    buckets: Vec<(f64, f64)>,
    sum: f64,
}

impl Histogram {
    /// Adds a bucket of one of the histograms that this is the sum of.
    pub(crate) fn add_bucket(&mut self, bound: f64, count: f64) {
        match self
            .buckets
            .binary_search_by(|(known, _)| known.total_cmp(&bound))
        {
            Ok(i) => self.buckets[i].1 += count,
            Err(i) => self.buckets.insert(i, (bound, count)),
        }
    }

    /// Adds the sum of one of them.
    pub(crate) fn add_sum(&mut self, sum: f64) {
        self.sum += sum;
    }

    /// Adds another.
    pub(crate) fn add(&mut self, other: &Self) {
        for (bound, count) in &other.buckets {
            self.add_bucket(*bound, *count);
        }
        self.sum += other.sum;
    }

    /// How much was observed.
    pub(crate) fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |(_, count)| *count)
    }

    /// What was observed since `earlier`; everything, if the process is another by now.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let is_continued = earlier.buckets.len() == self.buckets.len() && earlier.count() <= self.count();
        if !is_continued {
            return self.clone();
        }
        let pairs = self.buckets.iter().zip(&earlier.buckets);
        Self {
            buckets: pairs
                .map(|((bound, now), (_, before))| (*bound, (now - before).max(0.0)))
                .collect(),
            sum: (self.sum - earlier.sum).max(0.0),
        }
    }

    /// Below which value the share `q` of it lies, by the bounds and evenly between them; none if nothing was observed.
    pub(crate) fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q * self.count();
        if self.count() <= 0.0 {
            return None;
        }
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            if *count >= rank && *count > below {
                if bound.is_infinite() {
                    return Some(low);
                }
                return Some(low + (bound - low) * ((rank - below) / (count - below)).clamp(0.0, 1.0));
            }
            (low, below) = (*bound, *count);
        }
        Some(low)
    }

    /// For people: count, mean and quantiles; null if nothing was observed.
    pub(crate) fn summary(&self) -> Value {
        let count = self.count();
        if count <= 0.0 {
            return Value::Null;
        }
        json!({
            "count": count,
            "mean": self.sum / count,
            "p50": self.quantile(0.5),
            "p90": self.quantile(0.9),
            "p99": self.quantile(0.99),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(counts: &[(f64, f64)], sum: f64) -> Histogram {
        let mut histogram = Histogram::default();
        counts
            .iter()
            .for_each(|(bound, count)| histogram.add_bucket(*bound, *count));
        histogram.add_sum(sum);
        histogram
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let all = histogram(
            &[(f64::INFINITY, 10.0), (1.0, 0.0), (2.0, 8.0), (4.0, 10.0)],
            20.0,
        );
        assert_eq!(all.quantile(0.5), Some(1.0 + 5.0 / 8.0));
        assert_eq!(all.quantile(0.9), Some(3.0));
        assert_eq!(all.quantile(1.0), Some(4.0));
        assert_eq!(Histogram::default().quantile(0.5), None);
        let beyond = histogram(&[(1.0, 0.0), (f64::INFINITY, 3.0)], 9.0);
        assert_eq!(
            beyond.quantile(0.5),
            Some(1.0),
            "no more is known than that it is longer"
        );
    }

    #[test]
    fn what_came_since_is_the_difference_and_a_process_that_began_anew_counts_from_zero() {
        let before = histogram(&[(1.0, 5.0), (f64::INFINITY, 6.0)], 7.0);
        let after = histogram(&[(1.0, 8.0), (f64::INFINITY, 10.0)], 12.0);
        assert_eq!(
            after.since(&before),
            histogram(&[(1.0, 3.0), (f64::INFINITY, 4.0)], 5.0)
        );
        assert_eq!(before.since(&after), before);
        assert_eq!(after.since(&Histogram::default()), after);
    }
}
