//! Holds what the schedulers want against the limits.

use std::collections::{BTreeMap, HashMap, HashSet};

use holdfast_common::ids::{RangeId, StoreId};

use super::{Idea, Scheduler, all};
use crate::operator::{Intent, Kind, Operator, Status};
use crate::view::{Millis, View};

/// How long a scheduler leaves a range alone after an operator of its own there went wrong.
const BACK_OFF_MS: Millis = 60_000;

/// An idea, and whether it may be carried out.
#[derive(Debug)]
pub struct Weighed {
    /// Whose.
    pub scheduler: &'static str,
    /// The idea.
    pub idea: Idea,
    /// The operator to start, or why none is.
    pub verdict: Result<Intent, String>,
}

/// Runs the schedulers.
pub struct Driver {
    schedulers: Vec<Box<dyn Scheduler>>,
    /// Until when a scheduler leaves a range alone.
    back_off: HashMap<(String, RangeId), Millis>,
}

impl Default for Driver {
    fn default() -> Self {
        Self {
            schedulers: all(),
            back_off: HashMap::new(),
        }
    }
}

impl Driver {
    /// What the schedulers want now, weighed. Nothing before every store has said what it has.
    pub fn weigh(&mut self, view: &View<'_>) -> Vec<Weighed> {
        self.back_off.retain(|_, until| *until > view.now);
        if !view.is_settled() {
            return Vec::new();
        }
        let mut limits = Limits::of(view);
        let mut weighed = Vec::new();
        for scheduler in self
            .schedulers
            .iter()
            .filter(|scheduler| scheduler.is_enabled(&view.state.settings))
        {
            for idea in scheduler.propose(view) {
                let verdict = match (
                    &idea.change,
                    self.back_off
                        .contains_key(&(scheduler.name().to_owned(), idea.range)),
                ) {
                    (None, _) => Err("nothing can be done".to_owned()),
                    (Some(_), true) => Err("the last attempt went wrong; waiting before another".to_owned()),
                    (Some(kind), false) => {
                        let intent = Intent {
                            range: idea.range,
                            kind: kind.clone(),
                            source: scheduler.name().to_owned(),
                            why: idea.why.clone(),
                        };
                        limits.admit(&intent, view).map(|()| intent)
                    }
                };
                weighed.push(Weighed {
                    scheduler: scheduler.name(),
                    idea,
                    verdict,
                });
            }
        }
        weighed
    }

    /// Learns how an operator ended.
    pub fn ended(&mut self, operator: &Operator, status: &Status, now: Millis) {
        if matches!(status, Status::Failed(_) | Status::TimedOut(_)) {
            self.back_off.insert(
                (operator.intent.source.clone(), operator.range()),
                now + BACK_OFF_MS,
            );
        }
    }
}

/// What is left of the limits while ideas are weighed.
struct Limits {
    operators: usize,
    taken: HashSet<RangeId>,
    moving: BTreeMap<StoreId, usize>,
}

impl Limits {
    fn of(view: &View<'_>) -> Self {
        let most = view.state.settings.max_operators as usize;
        let operators = most.saturating_sub(view.state.operators.running_len());
        Self {
            operators,
            taken: HashSet::new(),
            moving: BTreeMap::new(),
        }
    }

    fn admit(&mut self, intent: &Intent, view: &View<'_>) -> Result<(), String> {
        if self.operators == 0 {
            return Err(format!(
                "{} operators are under way",
                view.state.operators.running_len()
            ));
        }
        for range in intent.ranges() {
            if self.taken.contains(&range) || view.is_busy(range) {
                return Err(format!("another operator is under way for range {range}"));
            }
            if view.leader(range).is_none() {
                return Err(format!("range {range} has no leader"));
            }
        }
        let stores = moved(intent, view);
        let most = view.state.settings.max_operators_per_store as usize;
        for store in &stores {
            let moving = view.moving_on(*store) + self.moving.get(store).copied().unwrap_or(0);
            if moving >= most {
                return Err(format!("{moving} operators move data to or from store {store}"));
            }
        }
        for store in stores {
            *self.moving.entry(store).or_default() += 1;
        }
        self.operators -= 1;
        self.taken.extend(intent.ranges());
        Ok(())
    }
}

/// The stores that a change moves data to or from.
fn moved(intent: &Intent, view: &View<'_>) -> Vec<StoreId> {
    match &intent.kind {
        Kind::Merge { into } => {
            let stores = |range| -> HashSet<StoreId> {
                let range = view.state.map.get(range);
                let replicas = range.into_iter().flat_map(|range| &range.replicas);
                replicas.map(|replica| replica.store).collect()
            };
            let (from, to) = (stores(intent.range), stores(*into));
            from.symmetric_difference(&to).copied().collect()
        }
        Kind::MoveReplica { from, to } => vec![*from, *to],
        Kind::AddReplica { to } => vec![*to],
        Kind::Scatter { moves, .. } => moves.iter().flat_map(|way| [way.from, way.to]).collect(),
        Kind::CreateFirst { .. }
        | Kind::Split { .. }
        | Kind::RemoveReplica { .. }
        | Kind::TransferLeader { .. }
        | Kind::Recover(_) => Vec::new(),
    }
}

#[cfg(test)]
#[path = "driver_test.rs"]
mod tests;
