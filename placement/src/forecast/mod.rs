//! What would happen if: the very schedulers, on a copy of everything that the leading member knows. Pure, and changes nothing.
//!
//! A forecast goes by rounds. In each the driver weighs what the schedulers want, as it would in earnest, and everything that
//! it admits is done at once, by what its steps come to ([`effect`]). The rounds end when nobody wants anything any more, or at a
//! bound. Time is estimated from the bytes that each store has to send or take in a round. Splits and merges are left out: they
//! change what there is, not where it is.

mod effect;
mod findings;
mod mirror;
mod scenario;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::{RangeId, StoreId};

pub use self::findings::{Load, Violation};
use self::mirror::Mirror;
pub use self::scenario::{Fail, Scenario};
use crate::command::Command;
use crate::operator::{Intent, Kind, Status};
use crate::schedule::Driver;
use crate::state::StoreIntent;
use crate::view::{Health, View};

/// Most rounds of a forecast.
pub const MAX_ROUNDS: usize = 2_000;

/// Most changes of a forecast.
pub const MAX_CHANGES: usize = 50_000;

/// Longest time that a forecast may be worked on.
const WORK_AT_MOST: Duration = Duration::from_secs(10);

/// A change that would be made.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// In which round, from one.
    pub round: usize,
    /// Who would want it.
    pub scheduler: String,
    /// Of which range.
    pub range: RangeId,
    /// What.
    pub kind: Kind,
    /// Bytes that would travel, about.
    pub bytes: u64,
    /// Why.
    pub why: String,
}

impl Change {
    /// Whether a replica goes somewhere.
    pub fn is_move(&self) -> bool {
        matches!(self.kind, Kind::MoveReplica { .. } | Kind::AddReplica { .. })
    }
}

/// What would happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlook {
    /// Whether it came to rest within the bounds.
    pub rests: bool,
    /// Rounds until then.
    pub rounds: usize,
    /// What would be changed, in order.
    pub changes: Vec<Change>,
    /// How long the moves would take.
    pub takes: Duration,
    /// Stores before and after.
    pub before: BTreeMap<StoreId, Load>,
    /// See `before`.
    pub after: BTreeMap<StoreId, Load>,
    /// What would be wrong right after the scenario, before anything is done about it.
    pub at_first: Vec<Violation>,
    /// What would be wrong in the end.
    pub in_the_end: Vec<Violation>,
    /// What the schedulers would like to do and could not, the last time that they looked.
    pub stuck: Vec<String>,
}

impl Outlook {
    /// Bytes that would travel, about.
    pub fn bytes(&self) -> u64 {
        self.changes.iter().map(|change| change.bytes).sum()
    }
}

/// A copy of what is, in which things can happen.
pub struct Forecast {
    copy: Mirror,
    bytes_per_second: u64,
    began: Instant,
    changes: Vec<Change>,
    takes: Duration,
}

impl Forecast {
    /// Copies what there is. Data moves at `bytes_per_second` to or from each store.
    pub fn of(view: &View<'_>, bytes_per_second: u64) -> Self {
        Self {
            copy: Mirror::of(view),
            bytes_per_second: bytes_per_second.max(1),
            began: clock::now(),
            changes: Vec::new(),
            takes: Duration::ZERO,
        }
    }

    /// Lets the scenario come true, and everything that follows from it.
    ///
    /// # Errors
    /// The scenario makes no sense as things are.
    pub fn play(mut self, scenario: &Scenario) -> Result<Outlook, scenario::Error> {
        self.copy.finish_what_is_under_way();
        let before = findings::loads(&self.copy.view());
        scenario::happen(scenario, &mut self.copy)?;
        let at_first = findings::violations(&self.copy.view());
        let mut driver = Driver::default();
        let (mut rounds, mut rests, mut stuck) = (0, false, Vec::new());
        while !rests && rounds < MAX_ROUNDS && self.is_within_bounds() {
            rounds += 1;
            (rests, stuck) = self.round(rounds, &mut driver);
        }
        let view = self.copy.view();
        Ok(Outlook {
            rests,
            rounds,
            takes: self.takes,
            before,
            after: findings::loads(&view),
            at_first,
            in_the_end: findings::violations(&view),
            stuck,
            changes: self.changes,
        })
    }

    fn is_within_bounds(&self) -> bool {
        self.changes.len() < MAX_CHANGES && self.began.elapsed() < WORK_AT_MOST
    }

    /// One look of the driver, and all that comes of it. Whether there was nothing to do, and what could not be done.
    fn round(&mut self, round: usize, driver: &mut Driver) -> (bool, Vec<String>) {
        let weighed = driver.weigh(&self.copy.view());
        let mut stuck = BTreeSet::new();
        let mut moved: BTreeMap<StoreId, u64> = BTreeMap::new();
        let before = self.changes.len();
        for weighed in weighed {
            match weighed.verdict {
                Ok(intent) => self.carry_out(round, intent, driver, &mut moved),
                Err(why) if weighed.idea.change.is_none() => {
                    stuck.insert(format!(
                        "range {}: {} ({why})",
                        weighed.idea.range, weighed.idea.why
                    ));
                }
                Err(_) => {}
            }
        }
        let left = self.remove_what_is_empty();
        let most = moved.values().copied().max().unwrap_or(0);
        self.takes += Duration::from_secs_f64(most as f64 / self.bytes_per_second as f64);
        self.copy.pass_time();
        let nothing = self.changes.len() == before && !left;
        (nothing, stuck.into_iter().collect())
    }

    fn carry_out(
        &mut self,
        round: usize,
        intent: Intent,
        driver: &mut Driver,
        moved: &mut BTreeMap<StoreId, u64>,
    ) {
        let size = self.copy.size(intent.range);
        let Some(operator) = self.copy.start(&intent) else {
            return;
        };
        if !self.copy.complete(&operator) {
            // Not a change of places: it is not looked at again for a while.
            let why = Status::Failed("not part of a forecast".to_owned());
            driver.ended(&operator, &why, self.copy.now());
            return;
        }
        let mut change = Change {
            round,
            scheduler: intent.source,
            range: intent.range,
            kind: intent.kind,
            bytes: 0,
            why: intent.why,
        };
        if change.is_move() {
            change.bytes = size;
            for store in operator.stores() {
                *moved.entry(store).or_default() += size;
            }
        }
        self.changes.push(change);
    }

    /// Stores that were to be emptied and are leave, as they would.
    fn remove_what_is_empty(&mut self) -> bool {
        let view = self.copy.view();
        let leaving = view.state.stores.values();
        let empty: Vec<StoreId> = leaving
            .filter(|store| store.is_leaving() && !view.state.map.is_on(store.id))
            .map(|store| store.id)
            .collect();
        for store in &empty {
            self.copy.apply(&Command::Retire {
                store: *store,
                intent: StoreIntent::Removed,
            });
        }
        !empty.is_empty()
    }
}

/// Whether a store is there, in short.
fn is_up(store: StoreId, view: &View<'_>) -> bool {
    view.health(store) == Health::Up
}

#[cfg(test)]
#[path = "forecast_test.rs"]
mod tests;
