//! The names of writes: which session and sequence number each goes out under, and which are finished.
//!
//! A range remembers the outcome of a write under its (session, sequence), so that the write can be sent again when the
//! answer was lost, until the session declares it finished (RIFL; see
//! [`WriteRequest`](holdfast_common::proto::kv::WriteRequest)). A session's numbers are handed out in order and finish in
//! any order; the smallest unfinished one is its floor, which travels with every write.
//!
//! One slow write holds its session's floor down, and with it what ranges must remember. So a router runs a number of
//! sessions side by side, chosen by range, and a session that has grown too wide is left for a fresh one: its unfinished
//! writes keep their numbers, and whoever retries one still finds its outcome.

use std::collections::VecDeque;

use holdfast_common::clock;
use holdfast_common::ids::{RangeId, SessionId};
use parking_lot::Mutex;

/// Sessions of a router that are current at a time. A range that does not answer holds up the floors of 1/64 of the rest.
const WINDOWS: usize = 64;

/// Most numbers between a session's floor and its next number: a bound on this process's memory, one byte a number. (A range
/// bounds its own by retiring the oldest numbers.) It is generous because a session that is left still counts among those
/// that ranges remember, and they remember few.
const MAX_WIDTH: usize = 65_536;

/// The sessions of this process.
#[derive(Debug)]
pub(crate) struct Sessions {
    windows: Box<[Mutex<Window>]>,
}

impl Sessions {
    /// Fresh sessions, under random names.
    pub(crate) fn new() -> Self {
        Self {
            windows: (0..WINDOWS).map(|_| Mutex::new(Window::new(fresh()))).collect(),
        }
    }

    /// Names a write that is about to be sent to `range`. It is finished when the ticket is dropped, so the ticket lives
    /// until no further attempt will be made.
    pub(crate) fn begin(&self, range: RangeId) -> Ticket<'_> {
        let window = &self.windows[(range.0 % WINDOWS as u64) as usize];
        let name = window.lock().begin(fresh);
        Ticket { window, name }
    }
}

fn fresh() -> SessionId {
    SessionId(clock::random_id())
}

/// The name of a write under way.
#[derive(Debug)]
pub(crate) struct Ticket<'a> {
    window: &'a Mutex<Window>,
    name: Name,
}

impl Ticket<'_> {
    /// The name.
    pub(crate) fn name(&self) -> Name {
        self.name
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.window.lock().finish(self.name);
    }
}

/// What a write is known by to its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// The session.
    pub session: SessionId,
    /// The write's number in it.
    pub sequence: u64,
    /// Every smaller number is finished.
    pub finished_below: u64,
}

/// One session: its numbers from the floor on, and which of them are finished. Pure.
///
/// Invariant: the first number is unfinished, or there is none.
#[derive(Debug)]
struct Window {
    session: SessionId,
    floor: u64,
    finished: VecDeque<bool>,
}

impl Window {
    fn new(session: SessionId) -> Self {
        Self {
            session,
            floor: 1,
            finished: VecDeque::new(),
        }
    }

    fn begin(&mut self, fresh: impl FnOnce() -> SessionId) -> Name {
        if self.finished.len() >= MAX_WIDTH {
            *self = Self::new(fresh());
        }
        let sequence = self.floor + self.finished.len() as u64;
        self.finished.push_back(false);
        Name {
            session: self.session,
            sequence,
            finished_below: self.floor,
        }
    }

    fn finish(&mut self, name: Name) {
        // A session that was left has no floor to raise any more.
        if name.session != self.session {
            return;
        }
        let Some(offset) = name.sequence.checked_sub(self.floor) else {
            return;
        };
        if let Some(finished) = self.finished.get_mut(offset as usize) {
            *finished = true;
        }
        while self.finished.front() == Some(&true) {
            self.finished.pop_front();
            self.floor += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_floor_is_the_smallest_unfinished_number() {
        let sessions = Sessions::new();
        let range = RangeId(7);
        let (first, second, third) = (
            sessions.begin(range),
            sessions.begin(range),
            sessions.begin(range),
        );
        assert_eq!(
            [&first, &second, &third].map(|ticket| ticket.name().sequence),
            [1, 2, 3]
        );
        drop(second);
        assert_eq!(
            sessions.begin(range).name().finished_below,
            1,
            "the first is under way"
        );
        drop(first);
        assert_eq!(sessions.begin(range).name().finished_below, 3);
        drop(third);
        let next = sessions.begin(range).name();
        assert_eq!((next.sequence, next.finished_below), (6, 6));
    }

    #[test]
    fn ranges_do_not_hold_each_other_up() {
        let sessions = Sessions::new();
        let stuck = sessions.begin(RangeId(1));
        let other = sessions.begin(RangeId(2));
        assert_ne!(stuck.name().session, other.name().session);
    }

    #[test]
    fn a_session_held_up_for_long_is_left() {
        let sessions = Sessions::new();
        let stuck = sessions.begin(RangeId(1));
        for _ in 1..MAX_WIDTH {
            assert_eq!(sessions.begin(RangeId(1)).name().session, stuck.name().session);
        }
        let next = sessions.begin(RangeId(1)).name();
        assert_ne!(next.session, stuck.name().session);
        assert_eq!((next.sequence, next.finished_below), (1, 1));
        drop(stuck);
        assert_eq!(
            sessions.begin(RangeId(1)).name().finished_below,
            2,
            "the old session's end moves no other floor"
        );
    }

    proptest! {
        /// Against a set of unfinished names: no name is given twice, and no unfinished write lies below its floor.
        #[test]
        fn behaves_like_a_set(steps in prop::collection::vec(prop::option::of(any::<prop::sample::Index>()), 0..300)) {
            let mut next_session = 1;
            let mut window = Window::new(SessionId(1));
            let mut unfinished: Vec<Name> = Vec::new();
            let mut given = HashSet::new();
            for step in steps {
                match step {
                    Some(which) if !unfinished.is_empty() => {
                        let name = unfinished.remove(which.index(unfinished.len()));
                        window.finish(name);
                    }
                    _ => {
                        let name = window.begin(|| { next_session += 1; SessionId(next_session) });
                        prop_assert!(given.insert((name.session, name.sequence)));
                        prop_assert!(name.finished_below <= name.sequence);
                        unfinished.push(name);
                    }
                }
                let current = unfinished.iter().filter(|name| name.session == window.session);
                let smallest = current.map(|name| name.sequence).min();
                prop_assert_eq!(window.floor, smallest.unwrap_or(window.floor));
                prop_assert!(window.finished.len() <= MAX_WIDTH);
            }
        }
    }
}
