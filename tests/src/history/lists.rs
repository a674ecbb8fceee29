//! A key whose values are lists: each writer reads one and puts it back with an element of its own at the end, if it is still there.
//! Checked by what the lists say, whatever the revisions of elements may be.

use std::collections::{BTreeMap, HashSet};

use super::{Act, Event, Outcome};

/// The elements of a value.
fn elements(value: &str) -> Vec<&str> {
    value.split(' ').filter(|element| !element.is_empty()).collect()
}

/// What is wrong with the history of one list; empty when nothing is.
pub fn check(events: &[Event]) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut versions, mut acknowledged, mut refused) = (BTreeMap::new(), Vec::new(), HashSet::new());
    for event in events {
        match &event.act {
            Act::Read(Some(version)) => {
                versions.insert(version.revision, &*version.value);
            }
            Act::Read(None) | Act::Delete { .. } => {}
            Act::Write { value, outcome, .. } => {
                let last = elements(value).last().copied().unwrap_or_default();
                match outcome {
                    Outcome::Done(revision) => {
                        versions.insert(*revision, &**value);
                        acknowledged.push((*revision, last));
                    }
                    Outcome::Failed(_) | Outcome::Refused => drop(refused.insert(last)),
                    Outcome::Maybe => {}
                }
            }
        }
    }
    let mut before: Vec<&str> = Vec::new();
    for (revision, value) in &versions {
        let now = elements(value);
        if !now.starts_with(&before) {
            wrong.push(format!(
                "the list {revision} does not begin with the one before it"
            ));
        }
        let distinct: HashSet<&&str> = now.iter().collect();
        if distinct.len() < now.len() {
            wrong.push(format!("the list {revision} holds an element twice"));
        }
        if let Some(element) = now.iter().find(|element| refused.contains(**element)) {
            wrong.push(format!(
                "the list {revision} holds {element}, which was reported as not appended"
            ));
        }
        before = now;
    }
    if let Some((last, _)) = versions.last_key_value() {
        let held: HashSet<&str> = before.into_iter().collect();
        for (revision, element) in acknowledged {
            if !held.contains(element) {
                wrong.push(format!("{element}, appended by {revision}, is lost in {last}"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::stories::{cas, put, read, refused};
    use Outcome::{Done, Maybe, Refused};

    #[test]
    fn a_list_that_only_grows_is_accepted() {
        let events = [
            put(0, 1, "a", Done(1)),
            cas(2, 3, 1, "a b", Maybe),
            cas(4, 5, 2, "a b c", Done(3)),
            cas(6, 7, 3, "a b c d", Refused),
            read(8, 9, Some((3, "a b c"))),
        ];
        assert_eq!(check(&events), Vec::<String>::new());
    }

    #[test]
    fn a_lost_append_is_found() {
        let events = [
            put(0, 1, "a", Done(1)),
            cas(2, 3, 1, "a b", Done(2)),
            read(4, 5, Some((3, "a c"))),
        ];
        refused(check, &events, "does not begin with");
        refused(check, &events, "is lost");
    }

    #[test]
    fn a_repeated_append_is_found() {
        refused(
            check,
            &[put(0, 1, "a", Done(1)), read(2, 3, Some((2, "a a")))],
            "twice",
        );
    }

    #[test]
    fn a_refused_append_that_is_there_is_found() {
        let events = [cas(0, 1, 1, "a b", Refused), read(2, 3, Some((2, "a b")))];
        refused(check, &events, "not appended");
    }
}
