//! What the schedulers decided, and why: a bounded memory that the admin API serves.

use std::collections::VecDeque;

use holdfast_common::ids::{OperatorId, RangeId};

use super::{Idea, Score};
use crate::operator::Kind;

/// Most decisions that are remembered.
const MAX_DECISIONS: usize = 500;

/// One decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Its number; grows.
    pub id: u64,
    /// Wall time, milliseconds, when it was last made.
    pub at_ms: u64,
    /// How often it was made in a row.
    pub times: u64,
    /// The scheduler.
    pub scheduler: &'static str,
    /// The range.
    pub range: RangeId,
    /// What was to be done, if anything could be.
    pub change: Option<Kind>,
    /// Why.
    pub why: String,
    /// What the choice was made by.
    pub scores: Vec<Score>,
    /// What became of it.
    pub verdict: Verdict,
}

/// What became of an idea.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An operator was started.
    Taken(OperatorId),
    /// It was not, because of this.
    Rejected(String),
}

/// The last decisions.
#[derive(Debug, Default)]
pub struct Decisions {
    last: VecDeque<Decision>,
    next: u64,
}

impl Decisions {
    /// Notes a decision. One that was made before in the same words is counted, not repeated: schedulers look again every
    /// moment, and what can't be done stays so for long.
    pub fn note(&mut self, scheduler: &'static str, idea: Idea, verdict: Verdict, now_ms: u64) {
        let same = |known: &&mut Decision| {
            known.scheduler == scheduler
                && known.range == idea.range
                && is_alike(known.change.as_ref(), idea.change.as_ref())
                && known.verdict == verdict
        };
        if let Some(known) = self.last.iter_mut().rev().find(same) {
            (known.at_ms, known.times, known.why) = (now_ms, known.times + 1, idea.why);
            (known.change, known.scores) = (idea.change, idea.scores);
            return;
        }
        self.next += 1;
        let Idea {
            range,
            change,
            why,
            scores,
        } = idea;
        self.last.push_back(Decision {
            id: self.next,
            at_ms: now_ms,
            times: 1,
            scheduler,
            range,
            change,
            why,
            scores,
            verdict,
        });
        if self.last.len() > MAX_DECISIONS {
            self.last.pop_front();
        }
    }

    /// Latest first.
    pub fn iter(&self) -> impl Iterator<Item = &Decision> {
        self.last.iter().rev()
    }
}

/// Whether two changes are the same wish. The place of a split follows the load from look to look.
fn is_alike(one: Option<&Kind>, other: Option<&Kind>) -> bool {
    match (one, other) {
        (Some(Kind::Split { .. }), Some(Kind::Split { .. })) => true,
        _ => one == other,
    }
}
