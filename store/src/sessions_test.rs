use holdfast_common::revision::Revision;

use super::*;

fn name(session: u64, sequence: u64, finished_below: u64) -> WriteName {
    WriteName {
        session: SessionId(session),
        sequence,
        finished_below,
    }
}

/// The table, its rows on disk, and what a restart would make of both.
#[derive(Default)]
struct Table {
    sessions: Sessions,
    rows: BTreeMap<u64, Bytes>,
}

impl Table {
    /// Applies one entry of writes that all succeed as new ones; returns what each was admitted as.
    fn entry(&mut self, index: u64, now_ms: u64, names: &[WriteName]) -> Vec<Admission> {
        let mut forgotten = Vec::new();
        let mut admissions = Vec::new();
        for name in names {
            let admission = self.sessions.admit(*name, index, now_ms, &mut forgotten);
            if admission == Admission::New {
                self.sessions
                    .remember(*name, index, created(index, name.sequence), &mut forgotten);
            }
            admissions.push(admission);
        }
        for index in forgotten {
            self.rows.remove(&index);
        }
        if let Some(row) = self.sessions.row(index) {
            self.rows.insert(index, row);
        }
        self.sessions.validate().unwrap();
        assert_eq!(self.reloaded(), self.sessions, "a restart remembers the same");
        admissions
    }

    fn reloaded(&self) -> Sessions {
        let floors: Vec<_> = self.sessions.floors().collect();
        let reloaded = Sessions::rebuild(floors, self.rows.clone()).unwrap();
        reloaded.validate().unwrap();
        reloaded
    }
}

fn created(index: u64, sequence: u64) -> WriteOutcome {
    WriteOutcome::Created(Revision(index << 32 | sequence))
}

#[test]
fn a_repeated_write_gets_its_outcome() {
    let mut table = Table::default();
    assert_eq!(
        table.entry(1, 0, &[name(7, 1, 0), name(7, 2, 0)]),
        [Admission::New, Admission::New]
    );
    assert_eq!(
        table.entry(2, 0, &[name(7, 1, 0)]),
        [Admission::Repeated(created(1, 1))]
    );
    assert_eq!(
        table.entry(3, 0, &[name(8, 1, 0)]),
        [Admission::New],
        "sessions do not mix"
    );
    assert_eq!(
        table.entry(4, 0, &[name(7, 5, 0), name(7, 5, 0)]),
        [Admission::New, Admission::Repeated(created(4, 5))]
    );
}

#[test]
fn finished_writes_are_forgotten_and_refused() {
    let mut table = Table::default();
    table.entry(1, 0, &[name(7, 1, 0), name(7, 2, 0)]);
    table.entry(2, 0, &[name(7, 3, 0)]);
    assert_eq!(table.rows.len(), 2);
    table.entry(3, 0, &[name(7, 4, 3)]);
    assert_eq!(
        table.rows.keys().collect::<Vec<_>>(),
        [&2, &3],
        "the row went with its last outcome"
    );
    assert_eq!(table.entry(4, 0, &[name(7, 1, 0)]), [Admission::Retired]);
    assert_eq!(
        table.entry(5, 0, &[name(7, 3, 0)]),
        [Admission::Repeated(created(2, 3))]
    );
    // Below the floor and never seen: a late copy of something that the session gave up.
    assert_eq!(table.entry(6, 0, &[name(7, 0, 0)]), [Admission::Retired]);
}

#[test]
fn a_write_cannot_finish_itself() {
    let mut table = Table::default();
    assert_eq!(table.entry(1, 0, &[name(7, 5, 100)]), [Admission::New]);
    assert_eq!(
        table.entry(2, 0, &[name(7, 5, 100)]),
        [Admission::Repeated(created(1, 5))]
    );
    assert_eq!(
        table.entry(3, 0, &[name(7, u64::MAX, u64::MAX)]),
        [Admission::Retired]
    );
}

#[test]
fn an_entry_that_forgets_its_own_outcomes_leaves_no_row() {
    let mut table = Table::default();
    table.entry(1, 0, &[name(7, 1, 0), name(7, 2, 2)]);
    assert_eq!(table.rows.len(), 1);
    table.entry(2, 0, &[name(7, 3, 3), name(8, 1, 0), name(8, 2, 2)]);
    table.entry(3, 0, &[name(7, 4, 4), name(8, 3, 3)]);
    assert_eq!(table.rows.keys().collect::<Vec<_>>(), [&3]);
}

#[test]
fn nameless_writes_are_not_remembered() {
    let mut table = Table::default();
    assert_eq!(
        table.entry(1, 0, &[name(0, 1, 0), name(0, 1, 0)]),
        [Admission::New, Admission::New]
    );
    assert!(table.rows.is_empty());
    assert_eq!(table.sessions.floors().len(), 0);
}

#[test]
fn the_oldest_outcomes_make_room_and_their_writes_are_retired() {
    let mut table = Table::default();
    let per_entry = 1_024;
    for entry in 0..(MAX_OUTCOMES as u64 / per_entry) {
        let names: Vec<_> = (0..per_entry)
            .map(|at| name(7, entry * per_entry + at, 0))
            .collect();
        table.entry(entry + 1, 0, &names);
    }
    assert_eq!(table.sessions.outcomes, MAX_OUTCOMES);
    assert_eq!(table.entry(100, 0, &[name(8, 1, 0)]), [Admission::New]);
    assert_eq!(table.sessions.outcomes, MAX_OUTCOMES + 1 - per_entry as usize);
    assert_eq!(
        table.entry(101, 0, &[name(7, per_entry - 1, 0)]),
        [Admission::Retired]
    );
    assert_eq!(
        table.entry(102, 0, &[name(7, per_entry, 0)]),
        [Admission::Repeated(created(2, per_entry))]
    );
}

#[test]
fn the_longest_idle_session_makes_room() {
    let mut table = Table::default();
    for session in 1..=MAX_SESSIONS as u64 {
        table.entry(session, 1_000 + session, &[name(session, 1, 0)]);
    }
    table.entry(900, 2_000, &[name(1, 2, 0)]);
    table.entry(901, 2_001, &[name(9_999, 1, 0)]);
    let known: Vec<_> = table.sessions.floors().map(|floor| floor.session.0).collect();
    assert!(known.contains(&1) && known.contains(&9_999) && !known.contains(&2));
    // Session 2 comes back as a stranger; its earlier outcomes must not be found on disk either.
    assert_eq!(table.entry(902, 2_002, &[name(2, 1, 0)]), [Admission::New]);
}

#[test]
fn idle_sessions_leave_when_room_is_needed() {
    let mut table = Table::default();
    for session in 1..=MAX_SESSIONS as u64 {
        table.entry(session, 1_000, &[name(session, 1, 0)]);
    }
    table.entry(900, 1_000 + SESSION_IDLE_MS - 1, &[name(1, 2, 0)]);
    table.entry(901, 1_000 + SESSION_IDLE_MS, &[name(9_999, 1, 0)]);
    assert_eq!(
        table.sessions.floors().len(),
        2,
        "all but the one that wrote lately"
    );
}

#[test]
fn a_child_takes_everything_over() {
    let mut table = Table::default();
    table.entry(11, 5, &[name(7, 1, 0), name(8, 4, 3)]);
    table.entry(12, 6, &[name(7, 2, 0)]);
    let mut child = table.sessions.reborn(5);
    child.validate().unwrap();
    let floors: Vec<_> = child.floors().collect();
    let reloaded = Sessions::rebuild(floors, [(5, table.sessions.whole_row().unwrap())]).unwrap();
    assert_eq!(reloaded, child);
    let mut forgotten = Vec::new();
    assert_eq!(
        child.admit(name(7, 1, 0), 6, 9, &mut forgotten),
        Admission::Repeated(created(11, 1))
    );
    assert_eq!(
        child.admit(name(8, 2, 0), 6, 9, &mut forgotten),
        Admission::Retired
    );
    assert_eq!(child.admit(name(7, 9, 9), 6, 9, &mut forgotten), Admission::New);
    assert_eq!(child.admit(name(8, 9, 9), 6, 9, &mut forgotten), Admission::New);
    assert_eq!(
        forgotten,
        [5],
        "the row of its birth goes with the last outcome in it"
    );
}

#[test]
fn damaged_rows_are_refused() {
    let row = encode_row(1, [(SessionId(1), 2, created(3, 4))].into_iter());
    for cut in 0..row.len() {
        assert_eq!(decode_row(row.slice(..cut)).is_ok(), cut == 1, "cut to {cut}");
    }
    assert!(decode_row(Bytes::from_static(&[2])).is_err());
}

mod random {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever comes, in memory and on disk say the same, and nothing is admitted twice.
        #[test]
        fn nothing_is_applied_twice(entries in prop::collection::vec(
            prop::collection::vec((1u64..4, 0u64..30, 0u64..30), 1..6), 1..60,
        )) {
            let mut table = Table::default();
            let mut admitted = std::collections::BTreeSet::new();
            for (index, entry) in entries.iter().enumerate() {
                let names: Vec<_> = entry.iter().map(|(session, sequence, below)| name(*session, *sequence, *below)).collect();
                for (admission, write) in table.entry(index as u64 + 1, index as u64, &names).into_iter().zip(&names) {
                    if admission == Admission::New {
                        prop_assert!(admitted.insert((write.session, write.sequence)), "{:?} admitted twice", write);
                    }
                }
            }
        }
    }
}

/// What both tables remember after the second went into the first at `index`.
fn absorbed(mut left: Table, right: &Table, index: u64) -> Table {
    let mut forgotten = Vec::new();
    left.sessions.absorb(&right.sessions, index, &mut forgotten);
    for index in forgotten {
        left.rows.remove(&index);
    }
    if let Some(row) = left.sessions.row(index) {
        left.rows.insert(index, row);
    }
    left.sessions.validate().unwrap();
    assert_eq!(left.reloaded(), left.sessions, "a restart remembers the same");
    left
}

#[test]
fn a_neighbours_outcomes_are_taken_over_and_its_floors() {
    let (mut left, mut right) = (Table::default(), Table::default());
    left.entry(1, 10, &[name(7, 1, 0), name(7, 4, 0)]);
    right.entry(90, 20, &[name(7, 2, 0), name(7, 3, 0), name(8, 1, 0)]);
    right.entry(91, 30, &[name(7, 5, 3)]);
    let mut both = absorbed(left, &right, 12);
    // The right side heard that all below 3 is finished.
    let admissions = both.entry(13, 40, &[name(7, 1, 0), name(7, 2, 0)]);
    assert_eq!(admissions, [Admission::Retired, Admission::Retired]);
    let known = [(7, 3, 90), (7, 4, 1), (7, 5, 91), (8, 1, 90)];
    for (session, sequence, index) in known {
        let repeated = Admission::Repeated(created(index, sequence));
        assert_eq!(both.entry(14, 40, &[name(session, sequence, 0)]), [repeated]);
    }
}

#[test]
fn what_both_inherited_is_counted_once() {
    let mut left = Table::default();
    left.entry(1, 10, &[name(7, 1, 0)]);
    let right = Table {
        sessions: left.sessions.reborn(5),
        ..Table::default()
    };
    let mut both = absorbed(left, &right, 9);
    let repeated = Admission::Repeated(created(1, 1));
    assert_eq!(both.entry(10, 10, &[name(7, 1, 0)]), [repeated]);
}

#[test]
fn two_full_tables_make_one_within_its_bounds() {
    let full = |first: u64| {
        let mut table = Table::default();
        for n in 0..MAX_SESSIONS as u64 {
            table.entry(1 + n, n, &[name(first + n, 1, 0), name(first + n, 2, 0)]);
        }
        table
    };
    let (left, right) = (full(1), full(10_000));
    let both = absorbed(left, &right, 1_000);
    assert_eq!(both.sessions.sessions.len(), MAX_SESSIONS);
    let kept = both.sessions.sessions.values().map(|session| session.used_ms);
    assert!(kept.min() >= Some(MAX_SESSIONS as u64 / 2 - 1), "the idlest went");
}

/// Each was counted, and one of them never forgotten: a range with too many looked for outcomes to forget for ever.
#[test]
fn two_outcomes_of_one_write_are_damage() {
    let mut table = Table::default();
    table.entry(1, 0, &[name(7, 1, 0)]);
    let floors: Vec<_> = table.sessions.floors().collect();
    let row = table.rows[&1].clone();
    let twice = [row.clone(), row.slice(1..)].concat().into();
    assert!(Sessions::rebuild(floors.clone(), [(1, twice)]).is_err());
    assert!(Sessions::rebuild(floors.clone(), [(1, row.clone()), (2, row.clone())]).is_err());
    let mut unnumbered = row.to_vec();
    unnumbered[9..17].fill(0xff);
    assert!(Sessions::rebuild(floors, [(1, unnumbered.into())]).is_err());
}

#[test]
fn a_session_of_the_far_future_is_not_idle() {
    let floors = (1..=MAX_SESSIONS as u64).map(|session| Floor {
        session: SessionId(session),
        floor: 0,
        since: 1,
        used_ms: u64::MAX,
    });
    let mut sessions = Sessions::rebuild(floors, []).unwrap();
    let admitted = sessions.admit(name(1_000, 1, 0), 2, 5, &mut Vec::new());
    assert_eq!(admitted, Admission::New);
    assert_eq!(sessions.floors().len(), MAX_SESSIONS);
}
