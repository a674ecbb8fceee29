//! Scans: rows in order, within the span, each key once; and sets, whose members are keys that are created and never removed: what was a
//! member before a scan began is in it.
//!
//! That each row is right at its time is checked with the reads of its key: see [`History::by_key`](super::History::by_key).

use std::collections::{HashMap, HashSet};

use super::{Act, Condition, Event, Micros, Outcome, Page};

/// What is wrong with the rows of one page by themselves; empty when nothing is.
pub fn check_order(page: &Page) -> Vec<String> {
    let mut wrong = Vec::new();
    for pair in page.rows.windows(2) {
        let (first, second) = (&pair[0].0, &pair[1].0);
        let ordered = if page.reverse {
            first > second
        } else {
            first < second
        };
        if !ordered {
            wrong.push(format!("{second} comes behind {first}"));
        }
    }
    for (key, _) in &page.rows {
        if !page.covers(key) {
            wrong.push(format!("{key} is outside of the span"));
        }
    }
    wrong
}

/// What is wrong with what pages say of sets: by key.
pub fn check_members(events: &[Event], pages: &[Page]) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    // When each was first known to be a member: its acknowledgement, or the end of a page that has it.
    let mut known: HashMap<&str, Micros> = HashMap::new();
    let mut begun: HashMap<&str, Micros> = HashMap::new();
    let removed: HashSet<&str> = events
        .iter()
        .filter(|event| event.act.ends_values())
        .map(|event| &*event.key)
        .collect();
    for event in events.iter().filter(|event| !removed.contains(&*event.key)) {
        if let Act::Write {
            condition: Condition::Absent,
            outcome,
            ..
        } = &event.act
        {
            let first = begun.entry(&event.key).or_insert(event.start);
            *first = event.start.min(*first);
            if let Outcome::Done(_) | Outcome::Failed(Some(_)) = outcome {
                let since = known.entry(&event.key).or_insert(event.end);
                *since = event.end.min(*since);
            }
        }
    }
    for page in pages {
        for (key, _) in &page.rows {
            if let Some(begun) = begun.get(&**key) {
                let since = known.entry(key).or_insert(page.end);
                *since = page.end.min(*since);
                if *begun > page.end {
                    wrong.push((key.clone(), format!("seen at {}, added at {begun}", page.end)));
                }
            }
        }
    }
    let mut members: Vec<(&str, Micros)> = known.into_iter().collect();
    members.sort_unstable();
    for page in pages {
        let rows: HashSet<&str> = page.rows.iter().map(|(key, _)| &**key).collect();
        let first = members.partition_point(|(key, _)| *key < &*page.from);
        let covered = members[first..].iter().take_while(|(key, _)| page.covers(key));
        for (key, since) in covered {
            if *since < page.start && !rows.contains(key) {
                let what = format!(
                    "a member since {since}, and not in the scan from {} to {}",
                    page.start, page.end
                );
                wrong.push(((*key).to_owned(), what));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::stories::write;
    use crate::history::{History, Version};

    fn page(start: Micros, end: Micros, keys: &[&str]) -> Page {
        let row = |key: &&str| {
            let version = Version {
                revision: 10,
                value: format!("{key}!"),
            };
            ((*key).to_owned(), version)
        };
        Page {
            client: 0,
            start,
            end,
            from: "a".to_owned(),
            to: "n".to_owned(),
            reverse: false,
            rows: keys.iter().map(row).collect(),
        }
    }

    fn add(start: Micros, end: Micros, key: &str, outcome: Outcome) -> Event {
        let mut event = write(start, end, &format!("{key}!"), Condition::Absent, outcome);
        event.key = key.to_owned();
        event
    }

    #[test]
    fn rows_out_of_order_twice_or_outside_are_found() {
        assert!(check_order(&page(0, 1, &["a", "b", "m"])).is_empty());
        assert!(!check_order(&page(0, 1, &["b", "a"])).is_empty());
        assert!(!check_order(&page(0, 1, &["b", "b"])).is_empty());
        assert!(!check_order(&page(0, 1, &["b", "n"])).is_empty());
        let backwards = Page {
            reverse: true,
            ..page(0, 1, &["b", "a"])
        };
        assert!(check_order(&backwards).is_empty());
    }

    #[test]
    fn a_member_that_a_scan_misses_is_found() {
        let events = [
            add(0, 1, "a", Outcome::Done(10)),
            add(0, 9, "b", Outcome::Maybe),
            add(9, 12, "c", Outcome::Done(10)),
        ];
        assert!(check_members(&events, &[page(2, 10, &["a"]), page(11, 14, &["a", "b"])]).is_empty());
        assert!(!check_members(&events, &[page(2, 3, &["b"])]).is_empty());
        assert!(!check_members(&events, &[page(2, 3, &["a", "b"]), page(4, 5, &["a"])]).is_empty());
        assert!(!check_members(&events, &[page(2, 3, &["a", "c"])]).is_empty());
    }

    #[test]
    fn a_page_counts_as_a_read_of_every_key_that_it_covers() {
        let mut history = History {
            events: vec![
                add(0, 1, "a", Outcome::Done(10)),
                add(0, 1, "x", Outcome::Done(10)),
            ],
            pages: vec![page(2, 3, &["b"])],
        };
        history.events[1].client = 1;
        let keys = history.by_key();
        assert_eq!(keys["a"].len(), 2);
        assert_eq!(keys["a"][1].act, Act::Read(None));
        assert_eq!(keys["x"].len(), 1);
        assert_eq!(keys["b"].len(), 1);
    }
}
