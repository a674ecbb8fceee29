//! An independent check of one key's history: a search for an order of its operations that fits their times and what they saw, after
//! Wing and Gong with Lowe's memory of what was tried. It knows values alone: no revision is looked at, but to tell which value a
//! compare-and-set asked for.
//!
//! The search is exponential at worst. It counts its steps, and giving up is a finding.

use std::collections::{HashMap, HashSet};

use super::{Act, Condition, Event, Lifetime, Micros, Outcome};

/// Longest history that is searched.
const MAX_OPERATIONS: usize = 1_000;

/// Most steps of one search; a history of 1,000 operations by 8 clients takes some thousands.
const MAX_STEPS: usize = 300_000;

/// Values by number; 0 is absence.
type Value = usize;

#[derive(Clone, Copy, Debug)]
enum Step {
    Read(Value),
    Put(Value),
    /// Applied if the first is there.
    Swap(Value, Value),
    /// Gone, if it is there: its time is up.
    Expire(Value),
    /// Not applied: something other than this was there, and it is not known what.
    Other(Value),
}

impl Step {
    /// The state after it, unless it can't be in this state.
    fn apply(self, state: Value) -> Option<Value> {
        match self {
            Self::Read(value) => (state == value).then_some(state),
            Self::Put(value) => Some(value),
            Self::Swap(expected, value) => (state == expected).then_some(value),
            Self::Expire(value) => Some(if state == value { 0 } else { state }),
            Self::Other(expected) => (state != expected).then_some(state),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    start: Micros,
    /// The last moment at which it may have taken effect; `Micros::MAX` for one that need not have.
    end: Micros,
    step: Step,
}

/// Whether a history is short enough to be searched.
pub fn fits(events: &[Event]) -> bool {
    (1..=MAX_OPERATIONS).contains(&events.len())
}

/// What is wrong with the history of one key; empty when an order was found.
pub fn check(events: &[Event]) -> Vec<String> {
    match operations(events) {
        Err(wrong) => vec![wrong],
        Ok(operations) => match find_order(&operations, MAX_STEPS) {
            Some(true) => Vec::new(),
            Some(false) => vec!["no order of its operations is linearizable".to_owned()],
            None => vec![format!("the search gave up after {MAX_STEPS} steps")],
        },
    }
}

/// Values by number, and what is known of them.
#[derive(Default)]
struct Values<'a> {
    numbers: HashMap<&'a str, Value>,
    revisions: HashMap<u64, Value>,
    /// When the first reader that saw it was answered.
    seen: HashMap<Value, Micros>,
}

impl<'a> Values<'a> {
    fn of(events: &'a [Event]) -> Self {
        let mut values = Self::default();
        for event in events {
            match &event.act {
                Act::Read(None) | Act::Delete { .. } => {}
                Act::Read(Some(version)) => {
                    let number = values.number(&version.value);
                    values.revisions.insert(version.revision, number);
                    let seen = values.seen.entry(number).or_insert(event.end);
                    *seen = event.end.min(*seen);
                }
                Act::Write { value, outcome, .. } => {
                    let number = values.number(value);
                    if let Outcome::Done(revision) = outcome {
                        values.revisions.insert(*revision, number);
                    }
                }
            }
        }
        values
    }

    fn number(&mut self, value: &'a str) -> Value {
        let next = self.numbers.len() + 1;
        *self.numbers.entry(value).or_insert(next)
    }

    fn asked_for(&self, condition: Condition) -> Result<Option<Value>, String> {
        match condition {
            Condition::None => Ok(None),
            Condition::Absent => Ok(Some(0)),
            Condition::Revision(revision) => match self.revisions.get(&revision) {
                Some(value) => Ok(Some(*value)),
                None => Err(format!("nobody saw the revision {revision} that was asked for")),
            },
        }
    }

    /// What a write of a value, or of absence, did and until when it did it; `None` for nothing.
    fn write(
        &self,
        number: Value,
        condition: Condition,
        outcome: Outcome,
        end: Micros,
    ) -> Result<Option<(Step, Micros)>, String> {
        let asked = self.asked_for(condition)?;
        let applied = asked.map_or(Step::Put(number), |asked| Step::Swap(asked, number));
        Ok(match outcome {
            Outcome::Refused => None,
            Outcome::Done(_) => Some((applied, end)),
            Outcome::Maybe => Some((applied, self.seen.get(&number).copied().unwrap_or(Micros::MAX))),
            Outcome::Failed(None) => Some((Step::Read(0), end)),
            Outcome::Failed(Some(present)) => match (self.revisions.get(&present), asked) {
                (Some(present), _) => Some((Step::Read(*present), end)),
                (None, Some(asked)) => Some((Step::Other(asked), end)),
                (None, None) => return Err("a write failed without a condition".to_owned()),
            },
        })
    }
}

/// The history without revisions, in the order of starts.
fn operations(events: &[Event]) -> Result<Vec<Operation>, String> {
    let values = Values::of(events);
    let mut operations = Vec::with_capacity(events.len());
    for event in events {
        let (step, end) = match &event.act {
            Act::Read(found) => {
                let value = found
                    .as_ref()
                    .map_or(0, |version| values.numbers[&*version.value]);
                (Step::Read(value), event.end)
            }
            Act::Write {
                value,
                lifetime,
                condition,
                outcome,
            } => {
                let number = values.numbers[&**value];
                let Some(written) = values.write(number, *condition, *outcome, event.end)? else {
                    continue;
                };
                let is_failure = matches!(outcome, Outcome::Failed(_));
                if let Some(lifetime) = lifetime.filter(|_| !is_failure) {
                    operations.push(expiry(number, event.start, written.1, lifetime));
                }
                written
            }
            Act::Delete { condition, outcome } => match values.write(0, *condition, *outcome, event.end)? {
                Some(deleted) => deleted,
                None => continue,
            },
        };
        operations.push(Operation {
            start: event.start,
            end,
            step,
        });
    }
    // One that nobody saw may be left out, unless something unknown was met, or it may be why nothing is there.
    if !operations.iter().any(|op| matches!(op.step, Step::Other(_))) {
        let lent: HashSet<Value> = operations
            .iter()
            .filter_map(|op| match op.step {
                Step::Expire(value) => Some(value),
                _ => None,
            })
            .collect();
        operations.retain(|op| {
            op.end != Micros::MAX
                || match op.step {
                    Step::Put(value) | Step::Swap(_, value) => value == 0 || lent.contains(&value),
                    Step::Expire(_) => true,
                    Step::Read(_) | Step::Other(_) => false,
                }
        });
    }
    operations.sort_by_key(|op| op.start);
    Ok(operations)
}

/// The end of a value that was written between `start` and `end`. If it is not there any more by then, that changes nothing.
fn expiry(value: Value, start: Micros, end: Micros, lifetime: Lifetime) -> Operation {
    Operation {
        start: start.saturating_add(lifetime.least),
        end: end.saturating_add(lifetime.most),
        step: Step::Expire(value),
    }
}

/// Whether there is an order; `None` after so many steps.
fn find_order(operations: &[Operation], max_steps: usize) -> Option<bool> {
    let mut left = operations.iter().filter(|op| op.end != Micros::MAX).count();
    let mut done = Done::new(operations.len());
    let mut tried: HashSet<(Done, Value)> = HashSet::new();
    // What was chosen, with the state before it.
    let mut chosen: Vec<(usize, Value)> = Vec::new();
    let (mut state, mut from) = (0, 0);
    for _ in 0..max_steps {
        if left == 0 {
            return Some(true);
        }
        let horizon = horizon(operations, &done);
        let next = (from..operations.len())
            .take_while(|at| operations[*at].start <= horizon)
            .filter(|at| !done.has(*at))
            .find_map(|at| {
                let after = operations[at].step.apply(state)?;
                let mut with = done.clone();
                with.add(at);
                tried.insert((with.clone(), after)).then_some((at, after, with))
            });
        match next {
            Some((at, after, with)) => {
                chosen.push((at, state));
                left -= usize::from(operations[at].end != Micros::MAX);
                (state, done) = (after, with);
                from = done.first;
            }
            None => {
                let Some((at, before)) = chosen.pop() else {
                    return Some(false);
                };
                left += usize::from(operations[at].end != Micros::MAX);
                done.remove(at);
                (state, from) = (before, at + 1);
            }
        }
    }
    None
}

/// The earliest end of those that are left: whatever comes next had begun by then.
fn horizon(operations: &[Operation], done: &Done) -> Micros {
    let mut earliest = Micros::MAX;
    for (at, op) in operations.iter().enumerate().skip(done.first) {
        if op.start > earliest {
            break;
        }
        if !done.has(at) {
            earliest = earliest.min(op.end);
        }
    }
    earliest
}

/// Which operations are done: all before the first that is not, and some beyond.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Done {
    first: usize,
    /// In order.
    beyond: Vec<usize>,
    length: usize,
}

impl Done {
    fn new(length: usize) -> Self {
        Self {
            first: 0,
            beyond: Vec::new(),
            length,
        }
    }

    fn has(&self, at: usize) -> bool {
        at < self.first || self.beyond.binary_search(&at).is_ok()
    }

    fn add(&mut self, at: usize) {
        if let Err(place) = self.beyond.binary_search(&at) {
            self.beyond.insert(place, at);
        }
        let mut passed = 0;
        while self.first < self.length && self.beyond.get(passed) == Some(&self.first) {
            self.first += 1;
            passed += 1;
        }
        self.beyond.drain(..passed);
    }

    fn remove(&mut self, at: usize) {
        if at < self.first {
            let later = at + 1..self.first;
            self.beyond.splice(0..0, later);
            self.first = at;
        } else if let Ok(place) = self.beyond.binary_search(&at) {
            self.beyond.remove(place);
        }
    }
}

#[cfg(test)]
#[path = "search_test.rs"]
mod tests;
