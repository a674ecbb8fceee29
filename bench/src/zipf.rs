//! Zipfian choice, as YCSB does it.
//!
//! [`Zipfian`] draws ranks: rank 0 most often, rank `r` in proportion to `1 / (r + 1)^θ` with θ = 0.99, by the closed form of
//! Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD '94): one draw costs one power, whatever the
//! number of items. [`scramble`] then spreads the popular ranks over the key space, which would otherwise all be neighbours
//! at its start.

use rand::Rng;

/// YCSB's skew: of 50,000 keys the most popular gets about 9 % of the requests.
const THETA: f64 = 0.99;

/// Draws ranks below `items`, low ones most often.
#[derive(Clone, Debug)]
pub(crate) struct Zipfian {
    items: u64,
    alpha: f64,
    eta: f64,
    zeta: f64,
}

impl Zipfian {
    /// Over `items` ranks (at least one). Costs one power per item: make it once and share it.
    pub(crate) fn new(items: u64) -> Self {
        let items = items.max(1);
        let zeta = harmonic(items);
        let eta = (1.0 - (2.0 / items as f64).powf(1.0 - THETA)) / (1.0 - harmonic(2) / zeta);
        Self {
            items,
            alpha: 1.0 / (1.0 - THETA),
            eta,
            zeta,
        }
    }

    /// The next rank, below the number of items.
    pub(crate) fn rank(&self, rng: &mut impl Rng) -> u64 {
        self.rank_at(rng.random())
    }

    /// The rank at quantile `u` of the distribution, 0 ≤ u < 1.
    fn rank_at(&self, u: f64) -> u64 {
        let scaled = u * self.zeta;
        // The two most popular ranks are exact, and cover the sizes for which `eta` is not defined.
        if scaled < 1.0 || self.items == 1 {
            return 0;
        }
        if scaled < harmonic(2) || self.items == 2 {
            return 1;
        }
        let rank = self.items as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.items - 1)
    }
}

/// Where a rank lies among `items` keys: FNV-1a of the rank, as YCSB's scrambled Zipfian does it. Like there, several ranks
/// may meet on one key.
pub(crate) fn scramble(rank: u64, items: u64) -> u64 {
    let hash = rank
        .to_le_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    hash % items.max(1)
}

/// The sum of `1 / i^θ` for `i` from 1 to `n`.
fn harmonic(n: u64) -> f64 {
    (1..=n).map(|i| (i as f64).powf(-THETA)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    const ITEMS: u64 = 1000;

    fn frequencies(draws: u32) -> Vec<f64> {
        let (zipfian, mut rng) = (Zipfian::new(ITEMS), SmallRng::seed_from_u64(7));
        let mut counts = vec![0u32; ITEMS as usize];
        (0..draws).for_each(|_| counts[zipfian.rank(&mut rng) as usize] += 1);
        counts
            .into_iter()
            .map(|count| f64::from(count) / f64::from(draws))
            .collect()
    }

    #[test]
    fn ranks_follow_the_power_law() {
        let (seen, zeta) = (frequencies(400_000), harmonic(ITEMS));
        for rank in [0, 1] {
            let expected = ((rank + 1) as f64).powf(-THETA) / zeta;
            assert!(
                (seen[rank] / expected - 1.0).abs() < 0.05,
                "rank {rank}: {} not {expected}",
                seen[rank]
            );
        }
        // Gray's form is an approximation past rank 1, so compare what whole stretches receive.
        for stretch in [2..10, 10..100, 100..1000] {
            let expected: f64 = stretch
                .clone()
                .map(|rank| ((rank + 1) as f64).powf(-THETA) / zeta)
                .sum();
            let received: f64 = seen[stretch.clone()].iter().sum();
            assert!(
                (received / expected - 1.0).abs() < 0.12,
                "{stretch:?}: {received} not {expected}"
            );
        }
    }

    #[test]
    fn every_size_stays_in_bounds_at_both_ends() {
        for items in [1, 2, 3, 10, 50_000] {
            let zipfian = Zipfian::new(items);
            assert_eq!(zipfian.rank_at(0.0), 0);
            assert!(zipfian.rank_at(1.0 - f64::EPSILON) < items, "{items} items");
        }
    }

    #[test]
    fn scrambling_spreads_the_popular_ranks() {
        let mut eighths = [0; 8];
        (0..80).for_each(|rank| eighths[(scramble(rank, ITEMS) * 8 / ITEMS) as usize] += 1);
        assert!(eighths.iter().all(|count| *count > 0), "{eighths:?}");
    }
}
