//! What clients of a cluster did and were told, and the checkers that hold it to the promises.
//!
//! Every value that is written is unique and every answer carries a revision, so the order in which writes took effect is known, and
//! most promises are checked by comparing that order with the order in time ([`revisions`]). What the values say by themselves is
//! checked apart ([`lists`], [`counters`], [`scans`]), and a sample of keys once more by a search that knows of no revision
//! ([`search`]).
//!
//! An operation whose outcome is unknown is *maybe*, never *failed*: it may take effect at any later time, or never. A checker that
//! gives up has found something.

pub mod counters;
pub mod lists;
pub mod revisions;
pub mod scans;
pub mod search;

#[cfg(test)]
pub(crate) mod stories;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Microseconds on the one clock of the process that recorded the history.
pub type Micros = u64;

/// A value with the revision of the write that made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The revision.
    pub revision: u64,
    /// The value.
    pub value: String,
}

/// On what a write depended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// Nothing.
    None,
    /// The key did not exist.
    Absent,
    /// The key had this revision.
    Revision(u64),
}

/// What a writer was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Applied, with this revision.
    Done(u64),
    /// Not applied: the condition did not hold. The revision that was there, if the key existed.
    Failed(Option<u64>),
    /// Certainly not applied.
    Refused,
    /// Applied, or not, or at some later time.
    Maybe,
}

/// For how long a value that was written stays, if nothing else happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// Counted from the start of the write: until then it must be there.
    pub least: Micros,
    /// Counted from the end of the write: from then on it must be gone.
    pub most: Micros,
}

/// An operation on one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// A linearizable read, and what it found.
    Read(Option<Version>),
    /// A write.
    Write {
        /// What was to be written; no other write has the same.
        value: String,
        /// For how long; none for ever, or for longer than the history lasts.
        lifetime: Option<Lifetime>,
        /// On what condition.
        condition: Condition,
        /// What came of it.
        outcome: Outcome,
    },
    /// A deletion. It has no revision: one that was applied says 0.
    Delete {
        /// On what condition.
        condition: Condition,
        /// What came of it.
        outcome: Outcome,
    },
}

impl Act {
    /// Whether it may make the key absent, now or later.
    pub fn ends_values(&self) -> bool {
        matches!(
            self,
            Self::Delete { .. }
                | Self::Write {
                    lifetime: Some(_),
                    ..
                }
        )
    }
}

/// An operation and when it took place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Who did it.
    pub client: u32,
    /// The key.
    pub key: String,
    /// Before it was sent.
    pub start: Micros,
    /// After its answer came, or was given up.
    pub end: Micros,
    /// The operation.
    pub act: Act,
}

/// One page of a scan: every key of its span was read at some moment between its start and its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Who scanned.
    pub client: u32,
    /// Before it was asked for.
    pub start: Micros,
    /// After it came.
    pub end: Micros,
    /// The first key that it covers.
    pub from: String,
    /// Behind the last key that it covers; empty for the end of the key space.
    pub to: String,
    /// Descending instead of ascending.
    pub reverse: bool,
    /// What was there.
    pub rows: Vec<(String, Version)>,
}

impl Page {
    /// Whether it covers a key.
    pub fn covers(&self, key: &str) -> bool {
        *key >= *self.from && (self.to.is_empty() || *key < *self.to)
    }
}

/// Everything that was done.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// Operations on one key.
    pub events: Vec<Event>,
    /// Pages of scans.
    pub pages: Vec<Page>,
}

impl History {
    /// Takes another client's history in.
    pub fn merge(&mut self, other: History) {
        self.events.extend(other.events);
        self.pages.extend(other.pages);
    }

    /// The operations by key, pages of scans as reads of every key that they cover; each in the order of their starts.
    pub fn by_key(&self) -> BTreeMap<String, Vec<Event>> {
        let mut keys: BTreeMap<String, Vec<Event>> = BTreeMap::new();
        for event in &self.events {
            keys.entry(event.key.clone()).or_default().push(event.clone());
        }
        for page in &self.pages {
            let mut rows: BTreeMap<&str, &Version> =
                page.rows.iter().map(|(key, version)| (&**key, version)).collect();
            let read = |key: &str, found: Option<&Version>| Event {
                client: page.client,
                key: key.to_owned(),
                start: page.start,
                end: page.end,
                act: Act::Read(found.cloned()),
            };
            for (key, events) in keys.range_mut(page.from.clone()..) {
                if !page.covers(key) {
                    break;
                }
                events.push(read(key, rows.remove(&**key)));
            }
            // Keys that nobody ever wrote: the checkers will tell.
            for (key, version) in rows {
                keys.entry(key.to_owned())
                    .or_default()
                    .push(read(key, Some(version)));
            }
        }
        for events in keys.values_mut() {
            events.sort_by_key(|event| event.start);
        }
        keys
    }
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The key, or the span, that shows it.
    pub key: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.key, self.what)
    }
}

/// What was checked, and what was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verdict {
    /// Keys whose history was checked by revision.
    pub keys: usize,
    /// Keys whose history was searched as well.
    pub searched: usize,
    /// What is wrong; empty when every promise was kept.
    pub violations: Vec<Violation>,
}

/// Checks everything. What a key is for is told by its name: see [`is_list`], [`is_counter`].
pub fn check(history: &History) -> Verdict {
    let mut verdict = Verdict::default();
    let mut note = |key: &str, found: Vec<String>| {
        verdict.violations.extend(found.into_iter().map(|what| Violation {
            key: key.to_owned(),
            what,
        }));
    };
    for page in &history.pages {
        note(&format!("{}..{}", page.from, page.to), scans::check_order(page));
    }
    for (key, what) in scans::check_members(&history.events, &history.pages) {
        note(&key, vec![what]);
    }
    let (mut keys, mut searched) = (0, 0);
    for (key, events) in history.by_key() {
        keys += 1;
        note(&key, revisions::check(&events));
        if is_list(&key) {
            note(&key, lists::check(&events));
        }
        if is_counter(&key) {
            note(&key, counters::check(&events));
        }
        if search::fits(&events) {
            searched += 1;
            note(&key, search::check(&events));
        }
    }
    verdict.keys = keys;
    verdict.searched = searched;
    verdict
}

/// Whether the values under a key are lists that writers append to.
pub fn is_list(key: &str) -> bool {
    key.contains("list")
}

/// Whether the values under a key are counts that writers increment.
pub fn is_counter(key: &str) -> bool {
    key.contains("count")
}
