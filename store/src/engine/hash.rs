//! The hash of the engine's tables.

use std::hash::{BuildHasher, Hasher};

use holdfast_common::clock;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// XXH3 over whole keys, seeded per process: clients choose keys and must not be able to choose collisions.
#[derive(Clone, Copy)]
pub(crate) struct KeyHash {
    seed: u64,
}

impl KeyHash {
    pub(crate) fn new() -> Self {
        Self {
            seed: clock::random_id(),
        }
    }

    /// The hash of a key, as a map would have it.
    pub(crate) fn of(self, key: &[u8]) -> u64 {
        xxh3_64_with_seed(key, self.seed)
    }

    /// For small tables, where a collision chosen by a client costs little, and no randomness is wanted.
    pub(crate) const fn fixed() -> Self {
        Self { seed: 0 }
    }
}

impl BuildHasher for KeyHash {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher(self.seed)
    }
}

/// The state of [`KeyHash`].
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, length: usize) {
        self.0 = self.0.wrapping_add(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
