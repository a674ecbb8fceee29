//! A bound on the bytes of bodies that are in memory at a time, over all requests. Whoever finds no room is turned away at
//! once: waiting for it would only move the queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bound, shared by all requests.
#[derive(Clone, Debug)]
pub(crate) struct Budget(Arc<State>);

#[derive(Debug)]
struct State {
    limit: usize,
    taken: AtomicUsize,
}

impl Budget {
    /// Room for `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(State {
            limit,
            taken: AtomicUsize::new(0),
        }))
    }

    /// Takes room for `bytes`, if there is.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation {
            budget: self.clone(),
            bytes: 0,
        };
        reservation.grow(bytes).then_some(reservation)
    }
}

/// Room taken, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Reservation {
    /// How much was taken.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes room for `more` bytes; false, and nothing taken, if there is none.
    #[must_use]
    pub(crate) fn grow(&mut self, more: usize) -> bool {
        let State { limit, taken } = &*self.budget.0;
        let fits = |taken: usize| taken.checked_add(more).filter(|sum| sum <= limit);
        let grown = taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .is_ok();
        if grown {
            self.bytes += more;
        }
        grown
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let budget = Budget::new(10);
        let mut first = budget.reserve(6).expect("room");
        assert!(budget.reserve(5).is_none());
        assert!(first.grow(4));
        assert!(!first.grow(1));
        assert!(budget.reserve(0).is_some());
        drop(first);
        assert!(budget.reserve(10).is_some());
        assert!(budget.reserve(usize::MAX).is_none());
    }
}
