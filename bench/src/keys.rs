//! The key set: fixed-width keys spread evenly over the key space.
//!
//! A key is `k` and fifteen decimal digits, 16 bytes in all. Of `count` keys, key `i` has the number `i · ⌊10¹⁵ / count⌋`, so
//! that cutting the key space at evenly spaced numbers ([`KeySpace::split_points`]) gives every range the same share of the
//! keys, and of a uniform load. Keys inserted during a run fall in the gaps between the loaded ones, and each next insertion
//! far from the last (by about the golden section of the key space), so insertions load every range alike too.

/// Numbers that fit the fifteen digits of a key.
const NUMBERS: u64 = 1_000_000_000_000_000;

/// Bytes in a key.
const KEY_BYTES: usize = 16;

/// One key: 16 bytes of ASCII that need no escaping in a URL.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Key([u8; KEY_BYTES]);

/// Maps indexes to keys. Indexes below `count` are the loaded key set; those from `count` on are insertions.
#[derive(Clone, Copy, Debug)]
pub struct KeySpace {
    count: u64,
    /// Distance between neighbouring loaded keys.
    stride: u64,
    /// How many loaded keys each insertion jumps past; coprime with `count`, so that every gap has its turn.
    insert_step: u64,
}

impl Key {
    fn from_number(mut number: u64) -> Self {
        let mut bytes = [b'0'; KEY_BYTES];
        bytes[0] = b'k';
        for digit in bytes[1..].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        Self(bytes)
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        // A key is ASCII by construction, so the fallback is never taken.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl KeySpace {
    /// A key set of `count` keys; `count` is taken as at least 1 and at most 10¹².
    pub fn new(count: u64) -> Self {
        let count = count.clamp(1, NUMBERS / 1000);
        Self {
            count,
            stride: NUMBERS / count,
            insert_step: coprime_near(count, count * 618 / 1000),
        }
    }

    /// The number of loaded keys.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The key of an index; see the module's documentation for how they are spread.
    pub fn key(&self, index: u64) -> Key {
        if index < self.count {
            return Key::from_number(index * self.stride);
        }
        let insertion = index - self.count;
        let (lap, turn) = (insertion / self.count, insertion % self.count);
        let gap = (u128::from(turn) * u128::from(self.insert_step) % u128::from(self.count)) as u64;
        // Laps wrap inside the gap: after `stride - 1` of them keys are written again rather than colliding with loaded ones.
        Key::from_number(gap * self.stride + 1 + lap % (self.stride - 1))
    }

    /// The `ranges - 1` keys at which to cut the key space into `ranges` equal shares, in order.
    pub fn split_points(&self, ranges: u32) -> Vec<Key> {
        let ranges = u64::from(ranges.max(1));
        (1..ranges)
            .map(|cut| Key::from_number(cut * (NUMBERS / ranges)))
            .collect()
    }
}

/// The first number from `wanted` up that shares no factor with `count`.
fn coprime_near(count: u64, wanted: u64) -> u64 {
    (wanted.max(1)..)
        .find(|step| greatest_common_divisor(*step, count) == 1)
        .unwrap_or(1)
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn keys_are_fixed_width_and_ordered_by_index() {
        let keys = KeySpace::new(50_000);
        assert_eq!(keys.key(0).to_string(), "k000000000000000");
        assert_eq!(keys.key(1).to_string(), "k000020000000000");
        assert_eq!(keys.key(49_999).to_string(), "k999980000000000");
        assert!((1..50_000).all(|index| keys.key(index - 1) < keys.key(index)));
    }

    #[test]
    fn insertions_are_new_keys_spread_over_the_ranges() {
        let keys = KeySpace::new(1000);
        let all: BTreeSet<_> = (0..3000).map(|index| keys.key(index).0).collect();
        assert_eq!(all.len(), 3000, "no insertion collides");

        let mut shares = [0; 8];
        (1000..1080).for_each(|index| shares[range_of(&keys, 8, keys.key(index))] += 1);
        assert!(shares.iter().all(|share| (8..=12).contains(share)), "{shares:?}");
    }

    fn range_of(keys: &KeySpace, ranges: u32, key: Key) -> usize {
        keys.split_points(ranges).partition_point(|cut| *cut <= key)
    }

    proptest! {
        #[test]
        fn every_range_holds_its_share(count in 1u64..20_000, ranges in 1u32..64) {
            let keys = KeySpace::new(count);
            let mut shares = vec![0u64; ranges as usize];
            (0..count).for_each(|index| shares[range_of(&keys, ranges, keys.key(index))] += 1);
            let fair = count as f64 / f64::from(ranges);
            prop_assert!(shares.iter().all(|share| (*share as f64 - fair).abs() <= 2.0), "{:?}", shares);
        }
    }
}
