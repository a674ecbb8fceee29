//! Which numbers a member of the placement driver may have.

use holdfast_common::ids::MemberId;

/// The place of a member in `--members`, from one. The numbers that members at this place are given carry it, so that
/// every member finds the address of another in its own configuration before it has learned anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat(pub u64);

/// Most places; numbers count on in steps of this.
const SEATS: u64 = 100;

impl Seat {
    /// The place of a member with this number.
    pub fn of(number: MemberId) -> Self {
        Self(number.0 % SEATS)
    }

    /// The numbers of this place, in the order in which they are given.
    pub(crate) fn numbers(self) -> impl Iterator<Item = MemberId> {
        let generations = if (1..SEATS).contains(&self.0) { 10_000 } else { 0 };
        (0..generations).map(move |generation| MemberId(self.0 + SEATS * generation))
    }

    /// Its position in the list of members, from zero.
    pub fn position(self) -> Option<usize> {
        usize::try_from(self.0).ok()?.checked_sub(1)
    }
}
