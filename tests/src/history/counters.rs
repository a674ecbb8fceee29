//! A key whose values are counts, `N TAG` with a tag that makes it unique: each writer reads one and puts back the next, if it is still
//! there. Checked by what the counts say.

use std::collections::BTreeMap;

use super::{Act, Event, Outcome};

fn count(value: &str) -> Option<usize> {
    value.split(' ').next()?.parse().ok()
}

/// What is wrong with the history of one counter; empty when nothing is.
pub fn check(events: &[Event]) -> Vec<String> {
    let mut wrong = Vec::new();
    let (mut versions, mut acknowledged, mut unknown) = (BTreeMap::new(), Vec::new(), 0);
    for event in events {
        match &event.act {
            Act::Read(Some(version)) => drop(versions.insert(version.revision, &*version.value)),
            Act::Write { value, outcome, .. } => match outcome {
                Outcome::Done(revision) => {
                    versions.insert(*revision, value);
                    acknowledged.push(*revision);
                }
                Outcome::Maybe => unknown += 1,
                Outcome::Failed(_) | Outcome::Refused => {}
            },
            Act::Read(None) | Act::Delete { .. } => {}
        }
    }
    acknowledged.sort_unstable();
    let mut before = None;
    for (revision, value) in versions {
        let Some(counted) = count(value) else {
            wrong.push(format!("{value:?} is not a count"));
            continue;
        };
        let least = acknowledged.partition_point(|earlier| *earlier <= revision);
        if !(least..=least + unknown).contains(&counted) {
            wrong.push(format!(
                "{revision} counts {counted}; {least} were acknowledged by then, {unknown} are unknown"
            ));
        }
        if before.is_some_and(|before| counted <= before) {
            wrong.push(format!("{revision} counts {counted}, no more than before it"));
        }
        before = Some(counted);
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::stories::{cas, put, read, refused};
    use Outcome::{Done, Maybe, Refused};

    #[test]
    fn a_count_within_what_is_known_is_accepted() {
        let events = [
            put(0, 1, "1 a", Done(1)),
            cas(2, 3, 1, "2 b", Maybe),
            cas(4, 5, 2, "3 c", Done(3)),
            cas(6, 7, 3, "4 d", Refused),
            read(8, 9, Some((3, "3 c"))),
        ];
        assert_eq!(check(&events), Vec::<String>::new());
    }

    #[test]
    fn a_lost_increment_is_found() {
        let events = [put(0, 1, "1 a", Done(1)), put(2, 3, "1 b", Done(2))];
        refused(check, &events, "were acknowledged by then");
        refused(check, &events, "no more than before");
    }

    #[test]
    fn an_increment_counted_twice_is_found() {
        let events = [put(0, 1, "1 a", Done(1)), read(2, 3, Some((2, "2 a")))];
        refused(check, &events, "were acknowledged by then");
    }
}
