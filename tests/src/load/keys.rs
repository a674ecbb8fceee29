//! Which keys a group of clients works on.

use std::sync::atomic::{AtomicU64, Ordering};

use rand::Rng;
use rand::rngs::StdRng;

/// What keys begin with; ranges are split between these, and within.
pub const LETTERS: [&str; 5] = ["b", "f", "k", "p", "t"];

/// Operations on a key, on average, before the group goes on to the next generation of keys.
const PER_KEY: u64 = 250;

/// Operations in a row that half of the group's clients do on one key.
const FOCUS: u64 = 100;

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Register,
    CompareAndSet,
    List,
    Counter,
    Set,
    /// What is deleted, or has a time to live.
    Fleeting,
}

const KINDS: [Kind; 6] = [
    Kind::Register,
    Kind::CompareAndSet,
    Kind::List,
    Kind::Counter,
    Kind::Set,
    Kind::Fleeting,
];

/// Clients that share keys.
#[derive(Debug)]
pub(super) struct Group {
    number: usize,
    round: u64,
    chosen: AtomicU64,
}

impl Group {
    pub(super) fn new(number: usize, round: u64) -> Self {
        Self {
            number,
            round,
            chosen: AtomicU64::new(0),
        }
    }

    /// The next key to work on: half of the time the one that the group is after at the moment.
    pub(super) fn choose(&self, random: &mut StdRng) -> (Kind, String) {
        let all = (LETTERS.len() * KINDS.len()) as u64;
        let chosen = self.chosen.fetch_add(1, Ordering::Relaxed);
        let generation = chosen / (PER_KEY * all);
        let key = if random.random_bool(0.5) {
            // Neighbours in time lie in different ranges.
            chosen / FOCUS * 7 % all
        } else {
            random.random_range(0..all)
        } as usize;
        let (letter, kind) = (LETTERS[key % LETTERS.len()], KINDS[key / LETTERS.len()]);
        let name = match kind {
            Kind::Register => "register",
            Kind::CompareAndSet => "swap",
            Kind::List => "list",
            Kind::Counter => "count",
            Kind::Set => "set",
            Kind::Fleeting => "fleeting",
        };
        let (group, round) = (self.number, self.round);
        (
            kind,
            format!("{letter}-{name}-{group}-{round:03}.{generation:03}"),
        )
    }
}

/// A key under a letter that no round works on.
pub fn probe(letter: &str) -> String {
    format!("{letter}-probe-0-000.0")
}

/// Whether a key is of another round: its history is not this one's.
pub(super) fn is_of_another_round(key: &str, round: u64) -> bool {
    let named = key.split('-').nth(3).and_then(|tail| tail.split_once('.'));
    named
        .and_then(|(named, _)| named.parse::<u64>().ok())
        .is_some_and(|named| named != round)
}
