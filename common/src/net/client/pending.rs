//! The calls of one connection that wait for an answer: a slab, pure but for telling the waiters.
//!
//! An id is the index of a slot and the generation of its use, so that a late answer to a call that was given up never
//! meets the call that has its slot now. Deadlines cost nothing per call: the table keeps one alarm, no later than
//! the earliest deadline, and looks at all waiting calls when it rings. With deadlines far longer than answers take,
//! that is once a deadline's length.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::stream::Inbox;
use crate::clock::Instant;
use crate::net::error::{Error, ErrorCode};

/// How a call ends.
pub(super) type Outcome = Result<Bytes, Error>;

/// The alarm rings at most this often, so that many calls with scattered deadlines don't make it look all the time.
/// A call may outlast its deadline by as much.
const ALARM_GRAIN: Duration = Duration::from_millis(5);

/// Who waits for an answer.
pub(super) enum Waiter {
    /// A [`Call`](super::Call).
    Call(oneshot::Sender<Outcome>),
    /// A function.
    Callback(Box<dyn FnOnce(Outcome) + Send>),
    /// A stream: an answer is its only item, an error its end.
    Stream(Arc<Inbox>),
}

impl Waiter {
    /// Tells the outcome. Runs code of the caller: hold no lock.
    pub(super) fn finish(self, outcome: Outcome) {
        match self {
            // The caller may have lost interest.
            Self::Call(sender) => drop(sender.send(outcome)),
            Self::Callback(done) => done(outcome),
            Self::Stream(inbox) => inbox.finish(outcome),
        }
    }

    /// The peer answered with a stream, and that is complete.
    pub(super) fn complete(self) {
        match self {
            Self::Stream(inbox) => inbox.complete(),
            call => call.finish(Err(Error::Remote {
                code: ErrorCode::Internal,
                message: "a call was answered with a stream".into(),
            })),
        }
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Call(_) => "Call",
            Self::Callback(_) => "Callback",
            Self::Stream(_) => "Stream",
        })
    }
}

/// A call to be made.
#[derive(Debug)]
pub(super) struct NewCall {
    pub(super) method: u16,
    pub(super) body: Bytes,
    pub(super) deadline: Instant,
    pub(super) waiter: Waiter,
}

/// A call that was made.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) waiter: Waiter,
    /// None for a stream that has begun.
    pub(super) deadline: Option<Instant>,
}

/// The table. Invariants: `len` slots are taken and all others are in `free`; `alarm` is set and no later than any
/// deadline while one is pending.
#[derive(Debug, Default)]
pub(super) struct Pending {
    slots: Vec<Slot>,
    free: Vec<u32>,
    alarm: Option<Instant>,
}

#[derive(Debug)]
struct Slot {
    /// Counts the uses, from 1, so that no id is 0.
    generation: u32,
    entry: Option<Entry>,
}

impl Pending {
    /// Calls waiting.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// When to call [`expire`](Self::expire) next.
    pub(super) fn alarm(&self) -> Option<Instant> {
        self.alarm
    }

    /// Takes a call in; tells its id, and whether the alarm is earlier for it.
    pub(super) fn insert(&mut self, waiter: Waiter, deadline: Instant) -> (u64, bool) {
        let entry = Some(Entry {
            waiter,
            deadline: Some(deadline),
        });
        let index = match self.free.pop() {
            Some(index) => {
                self.slots[index as usize].entry = entry;
                index
            }
            None => {
                self.slots.push(Slot { generation: 1, entry });
                (self.slots.len() - 1) as u32
            }
        };
        let earlier = self.alarm.is_none_or(|alarm| deadline < alarm);
        if earlier {
            self.alarm = Some(deadline);
        }
        let generation = self.slots[index as usize].generation;
        (u64::from(generation) << 32 | u64::from(index), earlier)
    }

    /// The call with this id, if it still waits.
    pub(super) fn get_mut(&mut self, id: u64) -> Option<&mut Entry> {
        self.slot(id)?.entry.as_mut()
    }

    /// Takes the call with this id out, if it still waits.
    pub(super) fn remove(&mut self, id: u64) -> Option<Entry> {
        let slot = self.slot(id)?;
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1).max(1);
        self.free.push(id as u32);
        Some(entry)
    }

    /// Takes all calls out whose deadline has passed, and sets the alarm for the others.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(u64, Entry)> {
        let mut due = Vec::new();
        let mut earliest: Option<Instant> = None;
        for (index, slot) in self.slots.iter().enumerate() {
            let Some(deadline) = slot.entry.as_ref().and_then(|entry| entry.deadline) else {
                continue;
            };
            if deadline <= now {
                due.push(u64::from(slot.generation) << 32 | index as u64);
            } else if earliest.is_none_or(|earliest| deadline < earliest) {
                earliest = Some(deadline);
            }
        }
        self.alarm = earliest.map(|deadline| deadline.max(now + ALARM_GRAIN));
        due.into_iter()
            .filter_map(|id| Some((id, self.remove(id)?)))
            .collect()
    }

    /// Takes all calls out.
    pub(super) fn drain(&mut self) -> Vec<Entry> {
        self.alarm = None;
        self.free.clear();
        std::mem::take(&mut self.slots)
            .into_iter()
            .filter_map(|slot| slot.entry)
            .collect()
    }

    fn slot(&mut self, id: u64) -> Option<&mut Slot> {
        let (generation, index) = ((id >> 32) as u32, id as u32);
        self.slots
            .get_mut(index as usize)
            .filter(|slot| slot.generation == generation)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    fn waiter() -> Waiter {
        Waiter::Callback(Box::new(|_| {}))
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert { deadline_ms: u64 },
        Remove(prop::sample::Index),
        Expire { at_ms: u64 },
    }

    fn steps() -> impl Strategy<Value = Step> {
        prop_oneof![
            (1u64..1_000).prop_map(|deadline_ms| Step::Insert { deadline_ms }),
            any::<prop::sample::Index>().prop_map(Step::Remove),
            (0u64..1_000).prop_map(|at_ms| Step::Expire { at_ms }),
        ]
    }

    proptest! {
        /// Against a plain map: every id is answered once, none is used twice, no deadline is slept through.
        #[test]
        fn behaves_like_a_map_of_deadlines(steps in prop::collection::vec(steps(), 0..200)) {
            let start = clock::now();
            let at = |ms: u64| start + Duration::from_millis(ms);
            let mut pending = Pending::default();
            let mut model: HashMap<u64, u64> = HashMap::new();
            let mut used = Vec::new();
            for step in steps {
                match step {
                    Step::Insert { deadline_ms } => {
                        let (id, _) = pending.insert(waiter(), at(deadline_ms));
                        prop_assert!(id != 0 && !used.contains(&id));
                        used.push(id);
                        model.insert(id, deadline_ms);
                    }
                    Step::Remove(which) if !used.is_empty() => {
                        let id = *which.get(&used);
                        prop_assert_eq!(pending.remove(id).is_some(), model.remove(&id).is_some());
                    }
                    Step::Remove(_) => {}
                    Step::Expire { at_ms } => {
                        let expired = pending.expire(at(at_ms));
                        let before = model.len();
                        model.retain(|_, deadline_ms| *deadline_ms > at_ms);
                        prop_assert_eq!(expired.len(), before - model.len());
                        prop_assert!(expired.iter().all(|(id, _)| !model.contains_key(id)));
                        let grain = at(at_ms) + ALARM_GRAIN;
                        let earliest = model.values().min().map(|ms| at(*ms).max(grain));
                        prop_assert_eq!(pending.alarm(), earliest);
                    }
                }
                prop_assert_eq!(pending.len(), model.len());
            }
            prop_assert_eq!(pending.drain().len(), model.len());
            prop_assert_eq!(pending.len(), 0);
        }
    }

    #[test]
    fn a_late_answer_does_not_meet_the_next_user_of_the_slot() {
        let mut pending = Pending::default();
        let (first, _) = pending.insert(waiter(), clock::now());
        pending.remove(first).expect("waiting");
        let (second, _) = pending.insert(waiter(), clock::now());
        assert_eq!(first as u32, second as u32);
        assert!(pending.remove(first).is_none());
        assert!(pending.remove(second).is_some());
    }

    #[test]
    fn the_alarm_is_told_only_when_it_moves_forward() {
        let now = clock::now();
        let mut pending = Pending::default();
        let mut moves = |ms| pending.insert(waiter(), now + Duration::from_millis(ms)).1;
        assert!(moves(50));
        assert!(!moves(60));
        assert!(moves(40));
    }
}
