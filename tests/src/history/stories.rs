//! Short histories, for the tests of the checkers.

use super::{Act, Condition, Event, Lifetime, Micros, Outcome, Version};

/// A read between two instants, and what it found.
pub(crate) fn read(start: Micros, end: Micros, found: Option<(u64, &str)>) -> Event {
    event(
        start,
        end,
        Act::Read(found.map(|(revision, value)| Version {
            revision,
            value: value.to_owned(),
        })),
    )
}

/// An unconditional write.
pub(crate) fn put(start: Micros, end: Micros, value: &str, outcome: Outcome) -> Event {
    write(start, end, value, Condition::None, outcome)
}

/// A compare-and-set.
pub(crate) fn cas(start: Micros, end: Micros, expected: u64, value: &str, outcome: Outcome) -> Event {
    write(start, end, value, Condition::Revision(expected), outcome)
}

/// Any write.
pub(crate) fn write(
    start: Micros,
    end: Micros,
    value: &str,
    condition: Condition,
    outcome: Outcome,
) -> Event {
    event(
        start,
        end,
        Act::Write {
            value: value.to_owned(),
            lifetime: None,
            condition,
            outcome,
        },
    )
}

/// A write of something that stays between `least` and `most`.
pub(crate) fn lend(
    start: Micros,
    end: Micros,
    value: &str,
    (least, most): (Micros, Micros),
    outcome: Outcome,
) -> Event {
    let (value, lifetime) = (value.to_owned(), Some(Lifetime { least, most }));
    let condition = Condition::None;
    event(
        start,
        end,
        Act::Write {
            value,
            lifetime,
            condition,
            outcome,
        },
    )
}

/// A deletion.
pub(crate) fn delete(start: Micros, end: Micros, condition: Condition, outcome: Outcome) -> Event {
    event(start, end, Act::Delete { condition, outcome })
}

/// The history is refused by the checker, for this reason.
pub(crate) fn refused(check: fn(&[Event]) -> Vec<String>, events: &[Event], why: &str) {
    let wrong = check(events);
    assert!(wrong.iter().any(|what| what.contains(why)), "{why}: {wrong:?}");
}

fn event(start: Micros, end: Micros, act: Act) -> Event {
    Event {
        client: 0,
        key: "k".to_owned(),
        start,
        end,
        act,
    }
}
