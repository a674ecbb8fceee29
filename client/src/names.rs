//! Names for writes: `PREFIX/NUMBER`, and below which number everything is done.
//!
//! A range remembers a name, so that the write can be repeated. By the second it learns what it need not remember any more;
//! without that, a client that writes a lot would fill its memory (`Idempotency-Done` in `docs/http-api.md`).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Sequences of numbers side by side. A write that takes long holds up what its own sequence is done with, and no other.
const SEQUENCES: usize = 16;

/// What a client names its writes by.
#[derive(Clone)]
pub(crate) struct Names(Arc<[Mutex<Sequence>]>);

struct Sequence {
    /// Nobody else has it.
    prefix: String,
    next: u64,
    /// Numbers of writes under way.
    open: BTreeSet<u64>,
}

/// The name of a write, which may be sent under it until this is dropped.
pub(crate) struct Named {
    names: Names,
    sequence: usize,
    number: u64,
    /// The name.
    pub(crate) key: String,
    /// Every smaller number of its sequence is done.
    pub(crate) done: u64,
}

impl Names {
    /// Names that nobody else has.
    pub(crate) fn fresh() -> Self {
        let fresh = |_| {
            Mutex::new(Sequence {
                prefix: format!("{:032x}", rand::random::<u128>()),
                next: 1,
                open: BTreeSet::new(),
            })
        };
        Self((0..SEQUENCES).map(fresh).collect())
    }

    /// A name for a write that is about to be sent.
    pub(crate) fn name(&self) -> Named {
        let width = |index: &usize| self.with(*index, |sequence| sequence.next - sequence.done());
        // A number by chance would do, too, but for a sequence that is held up.
        let start = rand::random_range(0..SEQUENCES);
        let around = (0..SEQUENCES).map(|offset| (start + offset) % SEQUENCES);
        let narrowest = around.min_by_key(width).unwrap_or(start);
        self.with(narrowest, |sequence| {
            let number = sequence.next;
            sequence.next += 1;
            sequence.open.insert(number);
            Named {
                names: self.clone(),
                sequence: narrowest,
                number,
                key: format!("{}/{number}", sequence.prefix),
                done: sequence.done(),
            }
        })
    }

    fn with<T>(&self, index: usize, look: impl FnOnce(&mut Sequence) -> T) -> T {
        // What is done under the lock can't panic half-way.
        look(&mut self.0[index].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Sequence {
    fn done(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let number = self.number;
        self.names
            .with(self.sequence, |sequence| sequence.open.remove(&number));
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Names")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_write_under_way_is_never_said_to_be_done() {
        let names = Names::fresh();
        let mut open: Vec<Named> = Vec::new();
        let mut all = std::collections::HashSet::new();
        for step in 0..2_000 {
            let named = names.name();
            assert!(all.insert(named.key.clone()), "a name is given once");
            assert!((1..=named.number).contains(&named.done));
            let same = open.iter().filter(|other| other.sequence == named.sequence);
            for other in same {
                assert!(named.done <= other.number);
            }
            open.push(named);
            if open.len() > 40 {
                open.swap_remove(step * 7 % open.len());
            }
        }
    }

    #[test]
    fn a_write_that_takes_long_holds_up_few_others() {
        let names = Names::fresh();
        let slow = names.name();
        let mut behind: HashMap<usize, u64> = HashMap::new();
        for _ in 0..1_000 {
            let named = names.name();
            behind.insert(named.sequence, named.number - named.done);
        }
        assert_eq!(behind.get(&slow.sequence), None, "the others are chosen");
        assert!(behind.values().all(|behind| *behind == 0));
    }
}
