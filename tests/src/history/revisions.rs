//! One key's history by revision: the revisions tell in which order its writes took effect, so that is compared with the order in
//! time, in O(n log n).
//!
//! Absence counts as revision 0 where a key is never deleted and never expires. Where it may be, absence has no place in the order:
//! what is there is checked all the same, and the search ([`super::search`]) checks what is not.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::Excluded;

use super::{Act, Condition, Event, Micros, Outcome};

/// What an attempt to write a value came to.
struct Attempt {
    start: Micros,
    condition: Condition,
    outcome: Outcome,
    /// The revision under which a reader saw it, if its writer was not told.
    seen: Option<(u64, Micros)>,
}

/// An operation as a place in the order of revisions.
struct Placed {
    start: Micros,
    end: Micros,
    revision: u64,
    is_write: bool,
}

/// What is wrong with the history of one key; empty when nothing is.
pub fn check(events: &[Event]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut attempts = attempts(events, &mut wrong);
    let mut values = acknowledged(&attempts, &mut wrong);
    for event in events {
        if let Act::Read(Some(version)) = &event.act {
            let found = (version.revision, &*version.value);
            see(&mut attempts, &mut values, found, event.end, &mut wrong);
        }
    }
    let revisions = values.keys().copied().collect();
    let vanishes = events.iter().any(|event| event.act.ends_values());
    check_conditions(&attempts, &revisions, vanishes, &mut wrong);
    check_failures(events, &attempts, &revisions, &mut wrong);
    let mut placed = placed(events, &attempts);
    placed.retain(|op| !vanishes || op.revision > 0);
    check_time(placed, &mut wrong);
    wrong
}

fn attempts<'a>(events: &'a [Event], wrong: &mut Vec<String>) -> HashMap<&'a str, Attempt> {
    let mut attempts = HashMap::new();
    for event in events {
        if let Act::Write {
            value,
            condition,
            outcome,
            ..
        } = &event.act
        {
            let attempt = Attempt {
                start: event.start,
                condition: *condition,
                outcome: *outcome,
                seen: None,
            };
            if attempts.insert(&**value, attempt).is_some() {
                wrong.push(format!(
                    "the history can't be checked: {value:?} was written twice"
                ));
            }
        }
    }
    attempts
}

/// The values by revision, as their writers were told.
fn acknowledged<'a>(attempts: &HashMap<&'a str, Attempt>, wrong: &mut Vec<String>) -> BTreeMap<u64, &'a str> {
    let mut values = BTreeMap::new();
    for (value, attempt) in attempts {
        if let Outcome::Done(revision) = attempt.outcome
            && let Some(other) = values.insert(revision, *value)
        {
            wrong.push(format!(
                "{value:?} and {other:?} were both given revision {revision}"
            ));
        }
    }
    values
}

/// A reader saw a value under a revision.
fn see<'a>(
    attempts: &mut HashMap<&'a str, Attempt>,
    values: &mut BTreeMap<u64, &'a str>,
    (revision, value): (u64, &'a str),
    end: Micros,
    wrong: &mut Vec<String>,
) {
    let Some(attempt) = attempts.get_mut(value) else {
        return wrong.push(format!("{value:?} was read, but never written"));
    };
    match attempt.outcome {
        Outcome::Done(told) if told == revision => return,
        Outcome::Done(told) => {
            return wrong.push(format!(
                "{value:?} was acknowledged as {told} and read as {revision}: applied twice"
            ));
        }
        Outcome::Failed(_) | Outcome::Refused => {
            return wrong.push(format!(
                "{value:?} was reported as not applied, and read as {revision}"
            ));
        }
        Outcome::Maybe => {}
    }
    match attempt.seen {
        Some((before, _)) if before != revision => {
            return wrong.push(format!(
                "{value:?} was read as {before} and as {revision}: applied twice"
            ));
        }
        Some((_, first)) => attempt.seen = Some((revision, first.min(end))),
        None => attempt.seen = Some((revision, end)),
    }
    match values.entry(revision) {
        Entry::Vacant(free) => drop(free.insert(value)),
        Entry::Occupied(taken) if *taken.get() == value => {}
        Entry::Occupied(taken) => wrong.push(format!(
            "revision {revision} is both {value:?} and {:?}",
            taken.get()
        )),
    }
}

/// A conditional write that was applied: nothing came between the revision that it asked for and its own.
fn check_conditions(
    attempts: &HashMap<&str, Attempt>,
    revisions: &BTreeSet<u64>,
    vanishes: bool,
    wrong: &mut Vec<String>,
) {
    for (value, attempt) in attempts {
        let revision = match (attempt.outcome, attempt.seen) {
            (Outcome::Done(revision), _) | (Outcome::Maybe, Some((revision, _))) => revision,
            _ => continue,
        };
        let expected = match attempt.condition {
            Condition::None => continue,
            Condition::Absent if vanishes => continue,
            Condition::Absent => 0,
            Condition::Revision(expected) => expected,
        };
        if expected >= revision {
            wrong.push(format!(
                "{value:?} asked for {expected} and was given {revision}, which is no later"
            ));
            continue;
        }
        let between = revisions.range((Excluded(expected), Excluded(revision))).next();
        if let Some(between) = between {
            wrong.push(format!(
                "{value:?} asked for {expected} and was given {revision}, but {between} lies between: a lost update"
            ));
        }
    }
}

/// Conditions that did not hold: not while the key was as asked for, and what was there instead was written by someone.
fn check_failures(
    events: &[Event],
    attempts: &HashMap<&str, Attempt>,
    revisions: &BTreeSet<u64>,
    wrong: &mut Vec<String>,
) {
    let mut unexplained = BTreeSet::new();
    for event in events {
        let (value, condition, present) = match &event.act {
            Act::Write {
                value,
                condition,
                outcome: Outcome::Failed(present),
                ..
            } => (&**value, condition, present),
            Act::Delete {
                condition,
                outcome: Outcome::Failed(present),
            } => ("a deletion", condition, present),
            _ => continue,
        };
        let as_asked = match condition {
            Condition::None => true,
            Condition::Absent => present.is_none(),
            Condition::Revision(expected) => *present == Some(*expected),
        };
        if as_asked {
            wrong.push(format!(
                "{value:?} failed, though the key was as asked for: {present:?}"
            ));
        }
        unexplained.extend(present.filter(|revision| !revisions.contains(revision)));
    }
    let unseen = attempts
        .values()
        .filter(|attempt| attempt.outcome == Outcome::Maybe && attempt.seen.is_none())
        .count();
    if unexplained.len() > unseen {
        wrong.push(format!(
            "revisions {unexplained:?} were reported, but only {unseen} writes of unknown outcome could be theirs"
        ));
    }
}

fn placed(events: &[Event], attempts: &HashMap<&str, Attempt>) -> Vec<Placed> {
    let mut placed: Vec<Placed> = events
        .iter()
        .filter_map(|event| {
            let (revision, is_write) = match &event.act {
                Act::Read(found) => (found.as_ref().map_or(0, |version| version.revision), false),
                Act::Write { outcome, .. } => match outcome {
                    Outcome::Done(revision) => (*revision, true),
                    Outcome::Failed(present) => (present.unwrap_or(0), false),
                    Outcome::Refused | Outcome::Maybe => return None,
                },
                Act::Delete { outcome, .. } => match outcome {
                    Outcome::Failed(present) => (present.unwrap_or(0), false),
                    Outcome::Done(_) | Outcome::Refused | Outcome::Maybe => return None,
                },
            };
            Some(Placed {
                start: event.start,
                end: event.end,
                revision,
                is_write,
            })
        })
        .collect();
    // One of unknown outcome took effect before the first reader that saw it was answered.
    placed.extend(attempts.values().filter_map(|attempt| {
        let (revision, end) = attempt.seen?;
        Some(Placed {
            start: attempt.start,
            end,
            revision,
            is_write: true,
        })
    }));
    placed
}

/// What began after another had ended comes after it in revision.
fn check_time(mut placed: Vec<Placed>, wrong: &mut Vec<String>) {
    let mut ended: Vec<(Micros, u64)> = placed.iter().map(|op| (op.end, op.revision)).collect();
    ended.sort_unstable();
    placed.sort_by_key(|op| op.start);
    let (mut next, mut newest) = (0, (0, 0));
    for op in &placed {
        while let Some((end, revision)) = ended.get(next).filter(|(end, _)| *end < op.start) {
            newest = newest.max((*revision, *end));
            next += 1;
        }
        let (revision, end) = newest;
        if op.is_write && op.revision <= revision {
            wrong.push(format!(
                "a write that began at {} was given {}, but {revision} was known at {end}",
                op.start, op.revision
            ));
        } else if op.revision < revision {
            wrong.push(format!(
                "stale: a read from {} to {} found {}, but {revision} was known at {end}",
                op.start, op.end, op.revision
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::stories::{cas, delete, lend, put, read, refused, write};
    use Outcome::{Done, Failed, Maybe, Refused};

    #[test]
    fn what_a_linearizable_register_does_is_accepted() {
        let events = [
            read(0, 1, None),
            put(2, 5, "a", Done(10)),
            read(3, 4, None),
            read(3, 6, Some((10, "a"))),
            put(7, 9, "b", Maybe),
            read(10, 11, Some((10, "a"))),
            cas(12, 13, 10, "c", Failed(Some(20))),
            read(14, 15, Some((20, "b"))),
            cas(16, 17, 20, "d", Done(30)),
            put(18, 19, "e", Refused),
            put(18, 19, "f", Maybe),
            cas(20, 21, 20, "g", Failed(Some(40))),
        ];
        assert_eq!(check(&events), Vec::<String>::new());
    }

    #[test]
    fn a_stale_read_is_found() {
        refused(
            check,
            &[
                put(0, 1, "a", Done(10)),
                put(2, 3, "b", Done(20)),
                read(4, 5, Some((10, "a"))),
            ],
            "stale",
        );
        refused(check, &[put(0, 1, "a", Done(10)), read(2, 3, None)], "stale");
    }

    #[test]
    fn two_reads_in_the_wrong_order_are_found_though_the_write_is_still_under_way() {
        let events = [
            put(0, 100, "a", Maybe),
            read(1, 2, Some((10, "a"))),
            read(3, 4, None),
        ];
        refused(check, &events, "stale");
    }

    #[test]
    fn a_write_applied_twice_is_found() {
        refused(
            check,
            &[put(0, 1, "a", Done(10)), read(0, 1, Some((9, "a")))],
            "applied twice",
        );
        let unknown = [
            put(0, 1, "a", Maybe),
            read(2, 3, Some((10, "a"))),
            read(4, 5, Some((12, "a"))),
        ];
        refused(check, &unknown, "applied twice");
    }

    #[test]
    fn a_refused_write_that_is_seen_is_found() {
        for outcome in [Refused, Failed(Some(9))] {
            refused(
                check,
                &[put(0, 1, "a", outcome), read(2, 3, Some((10, "a")))],
                "not applied",
            );
        }
    }

    #[test]
    fn a_value_that_nobody_wrote_is_found() {
        refused(check, &[read(0, 1, Some((10, "x")))], "never written");
        refused(check, &[cas(0, 1, 3, "a", Failed(Some(10)))], "could be theirs");
    }

    #[test]
    fn a_lost_update_is_found() {
        let events = [
            put(0, 1, "a", Done(10)),
            cas(2, 9, 10, "b", Done(20)),
            cas(2, 9, 10, "c", Done(30)),
        ];
        refused(check, &events, "a lost update");
        let created = [
            put(0, 9, "a", Done(10)),
            write(0, 9, "b", Condition::Absent, Done(20)),
        ];
        refused(check, &created, "a lost update");
    }

    #[test]
    fn a_failure_without_a_reason_is_found() {
        let events = [put(0, 1, "a", Done(10)), cas(2, 3, 10, "b", Failed(Some(10)))];
        refused(check, &events, "as asked for");
    }

    #[test]
    fn a_revision_given_twice_or_backwards_is_found() {
        refused(
            check,
            &[put(0, 1, "a", Done(10)), put(0, 1, "b", Done(10))],
            "both given",
        );
        refused(
            check,
            &[put(0, 1, "a", Done(10)), put(2, 3, "b", Done(9))],
            "was known at",
        );
    }

    #[test]
    fn absence_has_no_place_where_a_key_may_vanish_and_the_rest_is_checked() {
        let gone = delete(2, 3, Condition::None, Done(0));
        let events = [
            put(0, 1, "a", Done(10)),
            gone.clone(),
            read(4, 5, None),
            write(6, 7, "b", Condition::Absent, Done(20)),
            delete(8, 9, Condition::Revision(10), Failed(Some(20))),
            lend(10, 11, "c", (100, 200), Done(30)),
            read(900, 901, None),
            delete(902, 903, Condition::Revision(30), Failed(None)),
        ];
        assert_eq!(check(&events), Vec::<String>::new());
        let back = [
            put(0, 1, "a", Done(10)),
            put(0, 1, "b", Done(20)),
            gone.clone(),
            read(4, 5, Some((20, "b"))),
            read(6, 7, Some((10, "a"))),
        ];
        refused(check, &back, "stale");
        let failed = [
            gone,
            put(4, 5, "a", Done(10)),
            delete(6, 7, Condition::Revision(10), Failed(Some(10))),
        ];
        refused(check, &failed, "as asked for");
    }

    #[test]
    fn a_read_of_a_write_that_had_not_begun_is_found() {
        refused(
            check,
            &[read(0, 1, Some((10, "a"))), put(2, 3, "a", Done(10))],
            "was known at",
        );
        refused(
            check,
            &[read(0, 1, Some((10, "a"))), put(2, 3, "a", Maybe)],
            "was known at",
        );
    }
}
