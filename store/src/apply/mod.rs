//! What a committed entry does to a range: a function of the range's state, the entry, and the rows it reads. No clock,
//! no IO of its own, nothing that could differ between replicas.
//!
//! Every write of an entry is decided by itself, in order, and sees those before it. Whatever can be wrong with a write
//! is its answer; an error from here is one of this store's (its disk, or bytes that do not decode), and ends the process.

mod answer;
pub(crate) mod merge;
mod split;
mod txn;
mod writes;

use bytes::Bytes;

pub use answer::{Answer, MergeAnswer, MergeRefused, SplitAnswer, SplitRefused, WriteAnswers};
pub(crate) use split::outcomes_row as split_outcomes_row;
pub use split::{BIRTH_INDEX, ChildSeed};

use crate::command::{Absorb, Command};
use crate::damage::Damage;
use crate::engine::{self, Batch, Engine};
use crate::state::RangeState;

/// The newest rows, those of the entry under way excepted.
pub trait Reads {
    /// The row under a stored key.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, engine::Error>;
}

impl Reads for Engine {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, engine::Error> {
        Engine::get(self, key)
    }
}

/// What applying an entry comes to, beside the changes of the state.
#[derive(Debug)]
pub struct Applied {
    /// The rows to write, together with the range's row.
    pub rows: Batch,
    /// What to tell the proposer.
    pub answer: Answer,
    /// What must happen outside of the range's own rows.
    pub effects: Vec<Effect>,
}

/// See [`Applied::effects`].
#[derive(Debug)]
pub enum Effect {
    /// The right part of the range is a range of its own from here on. Its first rows belong into the same batch as
    /// [`Applied::rows`].
    Split(Box<ChildSeed>),
    /// The range is to take over its right neighbour: what that was on this store has to be found out first, and then
    /// goes into [`merge::absorb`].
    Absorb(Absorb),
    /// What the range holds at this entry is to be found out.
    Check(u64),
}

/// Applies the entry at `index`.
pub fn apply(
    state: &mut RangeState,
    index: u64,
    command: &Command,
    reads: &impl Reads,
) -> Result<Applied, ApplyError> {
    match command {
        Command::Writes { stamp, writes } => writes::apply(state, index, *stamp, writes, reads),
        Command::Split(split) => Ok(split::apply(state, split)),
        Command::Freeze { bounds } => Ok(merge::freeze(state, index, *bounds)),
        Command::Thaw { bounds } => Ok(merge::thaw(state, *bounds)),
        Command::Yield { bounds } => Ok(merge::give_up(state, *bounds)),
        Command::Absorb(absorb) => Ok(match merge::may_absorb(state, absorb) {
            Ok(()) => Applied {
                effects: vec![Effect::Absorb(*absorb)],
                ..merge::answered(Ok(()))
            },
            Err(refused) => merge::answered(Err(refused)),
        }),
        Command::Check { check } => Ok(Applied {
            rows: Batch::with_capacity(1),
            answer: Answer::Check,
            effects: vec![Effect::Check(*check)],
        }),
    }
}

/// A failure of this store, not of a write: the process must exit.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Reading failed.
    #[error(transparent)]
    Engine(#[from] engine::Error),
    /// A stored record does not decode.
    #[error(transparent)]
    Damaged(#[from] Damage),
}

#[cfg(test)]
#[path = "apply_test.rs"]
mod tests;
