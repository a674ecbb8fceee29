//! At most once: the outcomes of recent writes, remembered in the replicated state.
//!
//! A write is named by its session and sequence number. Its first application is remembered; a second one gets the same
//! outcome and changes nothing. The session says below which number all its writes are finished, and their outcomes are
//! forgotten; a late copy of one is refused ([`Admission::Retired`]), never applied (RIFL, Lee et al., SOSP 2015).
//!
//! Outcomes are kept on disk as one row for each entry, deleted once all of them are forgotten; floors are kept in the
//! range's row. Every decision here derives from entries alone, so that all replicas remember the same; what is rebuilt
//! from disk equals what was in memory.
//!
//! Bounds: [`MAX_OUTCOMES`] outcomes, beyond which the oldest entry's are forgotten and their sessions' floors raised;
//! [`MAX_SESSIONS`] sessions, beyond which those idle for [`SESSION_IDLE_MS`], else the one idle longest, are forgotten
//! whole. The latter opens a door for a copy of a write that outlives its session by so much; a router's deadlines end
//! it an hour earlier.

mod format;

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_common::ids::SessionId;
use holdfast_common::proto::kv::WriteOutcome;

use crate::damage::Damage;
use format::{decode_row, encode_row};
pub(crate) use format::{floors_len, outcome_code, outcome_of, put_floors, read_floors};

/// Most outcomes remembered for a range.
pub const MAX_OUTCOMES: usize = 16_384;
/// Most sessions remembered for a range.
pub const MAX_SESSIONS: usize = 256;
/// A session that wrote nothing for so long, by the range's revisions, makes room for others; milliseconds.
pub const SESSION_IDLE_MS: u64 = 60 * 60 * 1000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<SessionId, Session>,
    /// The outcomes of each entry that has live ones.
    entries: BTreeMap<u64, EntryOutcomes>,
    outcomes: usize,
}

#[derive(Clone, Debug, PartialEq)]
struct Session {
    floor: u64,
    /// The entry that made this session known. Outcomes of earlier entries belong to a session of the same name that was
    /// forgotten.
    since: u64,
    /// When it last wrote, milliseconds, by the range's revisions.
    used_ms: u64,
    outcomes: BTreeMap<u64, Remembered>,
}

#[derive(Clone, Debug, PartialEq)]
struct Remembered {
    index: u64,
    outcome: WriteOutcome,
}

#[derive(Clone, Debug, Default)]
struct EntryOutcomes {
    live: usize,
    /// In no order that matters; may name outcomes that are forgotten.
    writes: Vec<(SessionId, u64)>,
}

/// What may be done with a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is new: apply it and remember the outcome.
    New,
    /// It was applied, with this outcome.
    Repeated(WriteOutcome),
    /// Its session declared it finished.
    Retired,
}

/// A session as the range's row holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Floor {
    /// The session.
    pub session: SessionId,
    /// Every write below is finished.
    pub floor: u64,
    /// The entry that made the session known.
    pub since: u64,
    /// When it last wrote, milliseconds.
    pub used_ms: u64,
}

impl PartialEq for Sessions {
    /// The rest is derived from the sessions.
    fn eq(&self, other: &Self) -> bool {
        self.sessions == other.sessions
    }
}

impl Sessions {
    /// Decides about a write of the entry at `index`. `forgotten` receives the entries that have no live outcome left.
    ///
    /// A session cannot declare the very write that carries the declaration finished.
    pub fn admit(
        &mut self,
        write: WriteName,
        index: u64,
        now_ms: u64,
        forgotten: &mut Vec<u64>,
    ) -> Admission {
        if !write.session.is_some() {
            return Admission::New;
        }
        if write.sequence == u64::MAX {
            return Admission::Retired; // No floor could ever pass it.
        }
        if !self.sessions.contains_key(&write.session) {
            self.make_room_for_session(now_ms, forgotten);
            let session = Session {
                floor: 0,
                since: index,
                used_ms: now_ms,
                outcomes: BTreeMap::new(),
            };
            self.sessions.insert(write.session, session);
        }
        let Some(session) = self.sessions.get_mut(&write.session) else {
            return Admission::New;
        };
        session.used_ms = session.used_ms.max(now_ms);
        let floor = write.finished_below.min(write.sequence);
        if floor > session.floor {
            session.floor = floor;
            self.forget_below(write.session, floor, forgotten);
        }
        let Some(session) = self.sessions.get(&write.session) else {
            return Admission::New;
        };
        match session.outcomes.get(&write.sequence) {
            Some(remembered) => Admission::Repeated(remembered.outcome.clone()),
            None if write.sequence < session.floor => Admission::Retired,
            None => Admission::New,
        }
    }

    /// Remembers the outcome of a write that [`Self::admit`] found new; of a transaction not what it read.
    pub fn remember(
        &mut self,
        write: WriteName,
        index: u64,
        outcome: WriteOutcome,
        forgotten: &mut Vec<u64>,
    ) {
        let Some(session) = self.sessions.get_mut(&write.session) else {
            return;
        };
        session
            .outcomes
            .insert(write.sequence, Remembered { index, outcome });
        let entry = self.entries.entry(index).or_default();
        entry.live += 1;
        entry.writes.push((write.session, write.sequence));
        self.outcomes += 1;
        while self.outcomes > MAX_OUTCOMES && self.forget_oldest(index, forgotten) {}
    }

    /// The row of the entry at `index`, if it has live outcomes.
    pub fn row(&self, index: u64) -> Option<Bytes> {
        let entry = self.entries.get(&index)?;
        let outcomes = entry.writes.iter().filter_map(|(id, sequence)| {
            let remembered = self.sessions.get(id)?.outcomes.get(sequence)?;
            (remembered.index == index).then(|| (*id, *sequence, remembered.outcome.clone()))
        });
        Some(encode_row(entry.writes.len(), outcomes))
    }

    /// Every live outcome in one row: how a range born of a split takes them over.
    pub fn whole_row(&self) -> Option<Bytes> {
        let all = self.sessions.iter().flat_map(|(id, session)| {
            session
                .outcomes
                .iter()
                .map(|(sequence, remembered)| (*id, *sequence, remembered.outcome.clone()))
        });
        (self.outcomes > 0).then(|| encode_row(self.outcomes, all))
    }

    /// The same sessions and outcomes, as if the entry at `index` had made them all.
    pub fn reborn(&self, index: u64) -> Self {
        let mut reborn = self.clone();
        reborn.entries.clear();
        let mut entry = EntryOutcomes {
            live: self.outcomes,
            writes: Vec::with_capacity(self.outcomes),
        };
        for (id, session) in &mut reborn.sessions {
            session.since = session.since.min(index);
            for (sequence, remembered) in &mut session.outcomes {
                remembered.index = index;
                entry.writes.push((*id, *sequence));
            }
        }
        if entry.live > 0 {
            reborn.entries.insert(index, entry);
        }
        reborn
    }

    /// The entries that have live outcomes: each has a row.
    pub fn entries(&self) -> impl Iterator<Item = u64> + '_ {
        self.entries.keys().copied()
    }

    /// Takes over what another range remembers, as if the entry at `index` had made it all. What both remember of a write
    /// is one outcome, inherited from a common parent. `forgotten` receives the entries that have no live outcome left.
    pub fn absorb(&mut self, other: &Self, index: u64, forgotten: &mut Vec<u64>) {
        for (id, theirs) in &other.sessions {
            let ours = self.sessions.entry(*id).or_insert(Session {
                floor: 0,
                since: index,
                used_ms: 0,
                outcomes: BTreeMap::new(),
            });
            ours.used_ms = ours.used_ms.max(theirs.used_ms);
            let floor = ours.floor.max(theirs.floor);
            ours.floor = floor;
            self.forget_below(*id, floor, forgotten);
            let Some(ours) = self.sessions.get_mut(id) else {
                continue;
            };
            for (sequence, remembered) in theirs.outcomes.range(floor..) {
                if ours.outcomes.contains_key(sequence) {
                    continue;
                }
                let outcome = remembered.outcome.clone();
                ours.outcomes.insert(*sequence, Remembered { index, outcome });
                let entry = self.entries.entry(index).or_default();
                entry.live += 1;
                entry.writes.push((*id, *sequence));
                self.outcomes += 1;
            }
        }
        while self.sessions.len() > MAX_SESSIONS && self.forget_idlest(forgotten) {}
        while self.outcomes > MAX_OUTCOMES && self.forget_oldest(index, forgotten) {}
    }

    /// The sessions for the range's row, ordered by id.
    pub fn floors(&self) -> impl ExactSizeIterator<Item = Floor> + '_ {
        self.sessions.iter().map(|(id, session)| Floor {
            session: *id,
            floor: session.floor,
            since: session.since,
            used_ms: session.used_ms,
        })
    }

    /// Rebuilds the state from the floors and from the outcome rows, each with its index.
    pub fn rebuild(
        floors: impl IntoIterator<Item = Floor>,
        rows: impl IntoIterator<Item = (u64, Bytes)>,
    ) -> Result<Self, Damage> {
        let mut sessions = Self::default();
        for Floor {
            session,
            floor,
            since,
            used_ms,
        } in floors
        {
            sessions.sessions.insert(
                session,
                Session {
                    floor,
                    since,
                    used_ms,
                    outcomes: BTreeMap::new(),
                },
            );
        }
        for (index, row) in rows {
            sessions.load_row(index, row)?;
        }
        Ok(sessions)
    }

    fn load_row(&mut self, index: u64, row: Bytes) -> Result<(), Damage> {
        for (id, sequence, outcome) in decode_row(row)? {
            let Some(session) = self.sessions.get_mut(&id) else {
                continue;
            };
            if sequence < session.floor || index < session.since {
                continue;
            }
            if session
                .outcomes
                .insert(sequence, Remembered { index, outcome })
                .is_some()
            {
                let why = format!("session {id} has two outcomes of its write {sequence}");
                return Err(Damage::new("outcome row", why));
            }
            let entry = self.entries.entry(index).or_default();
            entry.live += 1;
            entry.writes.push((id, sequence));
            self.outcomes += 1;
        }
        Ok(())
    }

    fn forget_below(&mut self, id: SessionId, floor: u64, forgotten: &mut Vec<u64>) {
        let Some(session) = self.sessions.get_mut(&id) else {
            return;
        };
        while let Some(first) = session.outcomes.first_entry() {
            if *first.key() >= floor {
                break;
            }
            let index = first.remove().index;
            self.outcomes -= 1;
            release(&mut self.entries, index, forgotten);
        }
    }

    /// Forgets the oldest entry's outcomes, unless it is the present one. Its sessions can't repeat those writes any more.
    fn forget_oldest(&mut self, present: u64, forgotten: &mut Vec<u64>) -> bool {
        let Some((&oldest, entry)) = self.entries.first_key_value() else {
            return false;
        };
        if oldest == present {
            return false;
        }
        for (id, sequence) in entry.writes.clone() {
            let Some(session) = self.sessions.get_mut(&id) else {
                continue;
            };
            let live = session
                .outcomes
                .get(&sequence)
                .is_some_and(|remembered| remembered.index == oldest);
            if live {
                session.floor = sequence + 1;
                self.forget_below(id, sequence + 1, forgotten);
            }
        }
        true
    }

    fn make_room_for_session(&mut self, now_ms: u64, forgotten: &mut Vec<u64>) {
        if self.sessions.len() < MAX_SESSIONS {
            return;
        }
        let idle = self
            .sessions
            .iter()
            .filter(|(_, session)| session.used_ms.saturating_add(SESSION_IDLE_MS) <= now_ms);
        let leaving: Vec<SessionId> = idle.map(|(id, _)| *id).collect();
        if leaving.is_empty() {
            self.forget_idlest(forgotten);
        }
        for id in leaving {
            self.forget_session(id, forgotten);
        }
    }

    /// Forgets the session that has been idle longest.
    fn forget_idlest(&mut self, forgotten: &mut Vec<u64>) -> bool {
        let sessions = self.sessions.iter();
        let idlest = sessions.min_by_key(|(id, session)| (session.used_ms, **id));
        let Some(id) = idlest.map(|(id, _)| *id) else {
            return false;
        };
        self.forget_session(id, forgotten);
        true
    }

    fn forget_session(&mut self, id: SessionId, forgotten: &mut Vec<u64>) {
        self.forget_below(id, u64::MAX, forgotten);
        self.sessions.remove(&id);
    }

    /// What holds of every table.
    pub fn validate(&self) -> Result<(), String> {
        let mut live: BTreeMap<u64, usize> = BTreeMap::new();
        for (id, session) in &self.sessions {
            for (sequence, remembered) in &session.outcomes {
                if *sequence < session.floor || remembered.index < session.since {
                    return Err(format!(
                        "session {id}: outcome {sequence} should have been forgotten"
                    ));
                }
                *live.entry(remembered.index).or_default() += 1;
            }
        }
        let counted: BTreeMap<u64, usize> = self
            .entries
            .iter()
            .map(|(index, entry)| (*index, entry.live))
            .collect();
        if live != counted || live.values().sum::<usize>() != self.outcomes {
            return Err("outcomes are miscounted".into());
        }
        Ok(())
    }
}

/// The name of a write, and what its session says with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteName {
    /// The session; none for a write that is not remembered.
    pub session: SessionId,
    /// Its number.
    pub sequence: u64,
    /// Every write of the session below is finished.
    pub finished_below: u64,
}

/// One outcome of the entry at `index` is gone.
fn release(entries: &mut BTreeMap<u64, EntryOutcomes>, index: u64, forgotten: &mut Vec<u64>) {
    if let Some(entry) = entries.get_mut(&index) {
        entry.live -= 1;
        if entry.live == 0 {
            entries.remove(&index);
            forgotten.push(index);
        }
    }
}

#[cfg(test)]
#[path = "sessions_test.rs"]
mod tests;
