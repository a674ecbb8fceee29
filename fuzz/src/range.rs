//! A range whose rows and whose log are made up: whatever a store reads back, and whatever is in the log, is applied or refused, and
//! what a restart makes of the rows is what was in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::raft::types::{LogId, StoredMembership};
use holdfast_store::apply::{self, Applied, Effect, Reads};
use holdfast_store::command::Command;
use holdfast_store::engine;
use holdfast_store::keys;
use holdfast_store::row::{self, RangeRow};
use holdfast_store::sessions::Sessions;
use holdfast_store::state::RangeState;
use holdfast_store::tokens::Tokens;

use crate::input::Input;

pub(crate) const OUTCOMES: u8 = 0;
pub(crate) const TOKEN: u8 = 1;
pub(crate) const RECORD: u8 = 2;
pub(crate) const COMMAND: u8 = 3;

pub(crate) const RANGE: RangeId = RangeId(5);
pub(crate) const STORE: StoreId = StoreId(1);

/// Entries that one input may apply.
const MAX_ENTRIES: u64 = 64;

pub(crate) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let Ok(row) = RangeRow::decode(input.section()) else {
        return;
    };
    let applied = row.applied.map_or(0, |applied| applied.index);
    // No store has come so far, and none has outcomes or sessions of entries that it has not applied.
    if applied > 1 << 62 || row.floors.iter().any(|floor| floor.since > applied) {
        return;
    }
    let membership = row.membership.clone();
    let (rows, commands) = contents(&mut input, applied);
    let Some(state) = rows.state(row).filter(|state| state.validate().is_ok()) else {
        return;
    };
    let mut range = Range {
        state,
        rows,
        membership,
    };
    for (index, command) in (applied + 1..).zip(&commands) {
        if !range.apply(index, command) {
            return;
        }
    }
}

/// The rows of the range, and the commands of its log.
fn contents(input: &mut Input<'_>, applied: u64) -> (Rows, Vec<Command>) {
    let (mut rows, mut commands) = (BTreeMap::new(), Vec::new());
    while !input.is_empty() && (commands.len() as u64) < MAX_ENTRIES {
        match input.byte() % 4 {
            OUTCOMES => {
                let index = input.number() % (applied + 1);
                let key = Bytes::copy_from_slice(&keys::outcomes(RANGE, index));
                rows.insert(key, input.section());
            }
            TOKEN => drop(rows.insert(keys::token(&input.section(), &input.section()), input.section())),
            RECORD => {
                let key = Bytes::copy_from_slice(keys::RecordKey::new(&input.section()).as_ref());
                rows.insert(key, input.section());
            }
            _ => commands.extend(Command::decode(&input.section())),
        }
    }
    (Rows(RefCell::new(rows)), commands)
}

struct Rows(RefCell<BTreeMap<Bytes, Bytes>>);

impl Reads for Rows {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, engine::Error> {
        Ok(self.0.borrow().get(key).cloned())
    }
}

impl Rows {
    fn within(&self, interval: &keys::Interval) -> Vec<(Bytes, Bytes)> {
        let rows = self.0.borrow();
        let within = rows.range(interval.start.clone()..interval.end.clone());
        within.map(|(key, row)| (key.clone(), row.clone())).collect()
    }

    /// What a store makes of the rows when it starts.
    fn state(&self, row: RangeRow) -> Option<RangeState> {
        let outcomes = self.within(&keys::all_outcomes(RANGE)).into_iter();
        let outcomes = outcomes.filter_map(|(key, row)| Some((keys::index_of_outcomes(&key)?, row)));
        let sessions = Sessions::rebuild(row.floors.iter().copied(), outcomes).ok()?;
        let tokens = Tokens::rebuild(self.within(&keys::tokens(&row.span))).ok()?;
        Some(row.into_state(RANGE, STORE, sessions, tokens))
    }
}

struct Range {
    state: RangeState,
    rows: Rows,
    membership: StoredMembership,
}

impl Range {
    /// Whether the store goes on: a record that does not decode ends it, in the middle of whatever it was about.
    fn apply(&mut self, index: u64, command: &Command) -> bool {
        let Ok(Applied { rows, effects, .. }) = apply::apply(&mut self.state, index, command, &self.rows)
        else {
            return false;
        };
        for row in rows.rows() {
            let mut stored = self.rows.0.borrow_mut();
            match &row.value {
                Some(value) => drop(stored.insert(row.key.clone(), value.clone())),
                None => drop(stored.remove(&row.key)),
            }
        }
        assert_eq!(self.state.validate(), Ok(()));
        for effect in effects {
            if let Effect::Split(child) = effect
                && let Some(state) = child.state
            {
                assert_eq!(state.validate(), Ok(()));
                assert!(!state.descriptor.span.overlaps(&self.state.descriptor.span));
            }
        }
        let position = Some(LogId::new_term_index(1, index));
        let written = row::encode(&self.state, position, &self.membership);
        let row = RangeRow::decode(written).expect("what was written is read");
        let again = self.rows.state(row).expect("what was written is read");
        assert_eq!(again, self.state, "a restart remembers the same");
        true
    }
}
