//! Revisions: hybrid logical timestamps.
//!
//! A revision is 64 bits: milliseconds of the Unix epoch in the upper 44 and a counter in the lower 20. A leader stamps a
//! batch with the wall clock; apply then makes it larger than any revision that the range has given, so revisions grow
//! even when clocks step back and across leaders (Kulkarni et al., "Logical Physical Clocks", 2014).

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Bits of the counter below the milliseconds.
const COUNTER_BITS: u32 = 20;

/// A hybrid logical timestamp; see the module.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl Revision {
    /// Before every revision that is given.
    pub const ZERO: Self = Self(0);

    /// The smallest revision of a millisecond since the Unix epoch.
    pub fn at_millis(unix_ms: u64) -> Self {
        Self(unix_ms << COUNTER_BITS)
    }

    /// Milliseconds since the Unix epoch: the wall clock's, or ahead of it where the counter carried.
    pub fn millis(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// The next one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The smallest revision that is at least `proposed` and larger than `self`.
    pub fn advance_to(self, proposed: Revision) -> Self {
        proposed.max(self.next())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Revision({}ms+{})",
            self.millis(),
            self.0 & ((1 << COUNTER_BITS) - 1)
        )
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_grow_when_the_clock_steps_back() {
        let last = Revision::at_millis(2_000);
        assert_eq!(last.advance_to(Revision::at_millis(1_000)), last.next());
        assert_eq!(
            last.advance_to(Revision::at_millis(3_000)),
            Revision::at_millis(3_000)
        );
        assert_eq!(last.advance_to(last), last.next());
    }

    #[test]
    fn a_decimal_string_is_the_outside_form() {
        let revision = Revision::at_millis(1_790_000_000_000).next();
        assert_eq!(revision.to_string().parse(), Ok(revision));
        assert_eq!(revision.millis(), 1_790_000_000_000);
    }
}
