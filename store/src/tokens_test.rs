use holdfast_common::key::Span;
use holdfast_common::proto::kv::Committed;
use holdfast_common::revision::Revision;
use proptest::prelude::*;

use super::*;

/// The table, its rows on disk, and what a restart would make of them.
#[derive(Default)]
struct Table {
    tokens: Tokens,
    rows: BTreeMap<Bytes, Bytes>,
}

impl Table {
    fn write(&mut self, now_ms: u64, key: &str, token: &str, window_ms: u64, fingerprint: u128) -> Admission {
        let once = Once {
            token: token.to_owned().into(),
            window_ms,
            done: 0,
        };
        self.write_once(now_ms, key, &once, fingerprint)
    }

    /// Number `number` of a client that is done with those below `done`.
    fn number(&mut self, now_ms: u64, key: &str, number: u64, done: u64) -> Admission {
        let once = Once {
            token: format!("client/{number}").into(),
            window_ms: 100,
            done,
        };
        self.write_once(now_ms, key, &once, 7)
    }

    fn write_once(&mut self, now_ms: u64, key: &str, once: &Once, fingerprint: u128) -> Admission {
        let mut rows = Batch::default();
        self.tokens.expire(now_ms, &mut rows);
        let admission = self
            .tokens
            .admit(key.as_bytes(), once, fingerprint, now_ms, &mut rows);
        if admission == Admission::New {
            let outcome = WriteOutcome::Created(Revision(now_ms));
            self.tokens
                .remember(key.as_bytes(), once, fingerprint, now_ms, &outcome, &mut rows);
        }
        self.keep(&rows);
        admission
    }

    fn keep(&mut self, rows: &Batch) {
        for row in rows.rows() {
            match &row.value {
                Some(value) => drop(self.rows.insert(row.key.clone(), value.clone())),
                None => drop(self.rows.remove(&row.key)),
            }
        }
        self.tokens.validate(&Span::everything()).unwrap();
        assert_eq!(Tokens::rebuild(self.rows.clone()).unwrap(), self.tokens);
    }
}

fn repeated(ms: u64) -> Admission {
    Admission::Repeated(WriteOutcome::Created(Revision(ms)))
}

#[test]
fn a_token_stands_for_the_first_write_of_its_key() {
    let mut table = Table::default();
    assert_eq!(table.write(1, "k", "t", 100, 7), Admission::New);
    assert_eq!(table.write(2, "k", "t", 100, 7), repeated(1));
    assert_eq!(table.write(3, "k", "t", 100, 8), Admission::Reused);
    assert_eq!(table.write(4, "k", "u", 100, 8), Admission::New);
    assert_eq!(table.write(5, "l", "t", 100, 8), Admission::New);
    assert_eq!(table.write(6, "k", "t", 100, 7), repeated(1));
}

#[test]
fn after_its_window_a_token_is_new_again() {
    let mut table = Table::default();
    assert_eq!(table.write(1_000, "k", "t", 50, 7), Admission::New);
    assert_eq!(table.write(1_049, "k", "t", 50, 7), repeated(1_000));
    assert_eq!(table.write(1_050, "k", "t", 50, 8), Admission::New);
    assert_eq!(table.write(1_051, "k", "t", 50, 8), repeated(1_050));
    assert_eq!(table.write(2_000, "other", "t", 50, 8), Admission::New);
    assert_eq!(
        table.rows.len(),
        1,
        "what is over is forgotten when another comes"
    );
}

#[test]
fn a_full_table_forgets_what_is_old_enough_and_else_turns_away() {
    let mut table = Tokens::default();
    let mut rows = Batch::default();
    let mut write = |now_ms: u64, token: usize| {
        let once = Once {
            token: token.to_string().into(),
            window_ms: 10 * LEAST_MS,
            done: 0,
        };
        let admission = table.admit(b"k", &once, 0, now_ms, &mut rows);
        if admission == Admission::New {
            table.remember(b"k", &once, 0, now_ms, &WriteOutcome::WasAbsent, &mut rows);
        }
        assert!(table.known.len() <= MAX_TOKENS && table.bytes <= MAX_BYTES);
        admission
    };
    for token in 0..MAX_TOKENS {
        assert_eq!(write(1_000 + token as u64 / 1_000, token), Admission::New);
    }
    assert_eq!(write(2_000, MAX_TOKENS), Admission::Full);
    assert_eq!(write(2_000, 0), Admission::Repeated(WriteOutcome::WasAbsent));
    assert_eq!(
        write(1_000 + LEAST_MS, MAX_TOKENS),
        Admission::New,
        "the oldest went"
    );
    assert_eq!(write(1_000 + LEAST_MS, MAX_TOKENS + 1), Admission::New);
}

#[test]
fn bytes_are_bounded_too() {
    let mut table = Tokens::default();
    let mut rows = Batch::default();
    let key = vec![b'k'; 4_096];
    let mut turned_away = 0;
    for token in 0..5_000u32 {
        let once = Once {
            token: token.to_string().into(),
            window_ms: LEAST_MS,
            done: 0,
        };
        match table.admit(&key, &once, 0, 1, &mut rows) {
            Admission::New => table.remember(&key, &once, 0, 1, &WriteOutcome::WasAbsent, &mut rows),
            other => {
                assert_eq!(other, Admission::Full);
                turned_away += 1;
            }
        }
    }
    assert!(table.bytes <= MAX_BYTES && turned_away > 0);
}

#[test]
fn a_split_and_a_merge_keep_every_token_with_its_key() {
    let mut table = Table::default();
    for key in ["a", "b", "c", "d"] {
        assert_eq!(table.write(1, key, "t", 100, 7), Admission::New);
    }
    let whole = table.tokens.clone();
    let mut rows = Batch::default();
    let right = table.tokens.split_off(b"", b"c", &mut rows);
    assert!(rows.rows().is_empty(), "no row moves");
    table.tokens.validate(&Span::new("", "c").unwrap()).unwrap();
    right.validate(&Span::new("c", "").unwrap()).unwrap();
    assert_eq!((table.tokens.known.len(), right.known.len()), (2, 2));
    table.tokens.absorb(right);
    assert_eq!(table.tokens, whole);
    table.tokens.validate(&Span::everything()).unwrap();
    assert_eq!(table.write(2, "d", "t", 100, 7), repeated(1));
}

#[test]
fn what_a_client_is_done_with_is_forgotten_and_refused_when_it_comes_late() {
    let mut table = Table::default();
    for number in 1..=10 {
        assert_eq!(table.number(1, "k", number, 1), Admission::New);
    }
    assert_eq!(table.number(2, "k", 4, 1), repeated(1), "it is not done yet");
    assert_eq!(table.number(3, "l", 11, 9), Admission::New);
    assert_eq!(
        table.rows.len(),
        3,
        "9, 10 and 11 may be sent again, under whatever key"
    );
    assert_eq!(table.number(4, "k", 4, 1), Admission::Reused, "a late copy");
    assert_eq!(table.number(4, "k", 8, 8), Admission::Reused);
    assert_eq!(table.number(4, "k", 9, 1), repeated(1));
    assert_eq!(
        table.number(5, "k", 12, 10),
        Admission::New,
        "numbers finish in any order"
    );
    // Another client, and a token that is no number, are not concerned.
    assert_eq!(table.write(6, "k", "other/4", 100, 7), Admission::New);
    assert_eq!(table.write(6, "k", "client", 100, 7), Admission::New);
    // Nobody can be done with the write that says so.
    assert_eq!(table.number(7, "k", 13, 1_000), Admission::New);
    assert_eq!(table.number(7, "k", 13, 1_000), repeated(7));
    assert_eq!(table.number(8, "k", 14, 14), Admission::New);
}

#[test]
fn a_client_that_writes_without_end_is_not_turned_away() {
    let mut table = Tokens::default();
    let mut rows = Batch::default();
    for number in 1..3 * MAX_TOKENS as u64 {
        let once = Once {
            token: format!("client/{number}").into(),
            window_ms: 10 * LEAST_MS,
            done: number.saturating_sub(50).max(1),
        };
        assert_eq!(table.admit(b"k", &once, 0, 1, &mut rows), Admission::New);
        table.remember(b"k", &once, 0, 1, &WriteOutcome::WasAbsent, &mut rows);
        rows = Batch::default();
    }
    assert_eq!(table.known.len(), 51);
}

#[test]
fn both_parts_of_a_split_know_what_clients_are_done_with() {
    let mut table = Table::default();
    for number in 1..=6 {
        assert_eq!(table.number(1, "a", number, 1), Admission::New);
    }
    assert_eq!(
        table.number(2, "x", 7, 6),
        Admission::New,
        "its row lies right of the cut"
    );
    let mut rows = Batch::default();
    let right = table.tokens.split_off(b"", b"m", &mut rows);
    right.validate(&Span::new("m", "").unwrap()).unwrap();
    table
        .rows
        .retain(|key, _| keys::token_of_row(key).unwrap().0 < "m");
    table.keep(&rows);
    assert_eq!(table.number(3, "a", 3, 1), Admission::Reused, "a late copy");
    assert_eq!(
        table.number(3, "a", 6, 1),
        repeated(1),
        "number 6 may still be sent again"
    );
    // Together again they know it once.
    table.tokens.absorb(right);
    let x = keys::token(b"x", b"client/7");
    table
        .rows
        .insert(x, encode(&table.tokens.known[&name(b"x", b"client/7")]));
    assert_eq!(table.number(4, "x", 8, 8), Admission::New);
    assert_eq!(table.tokens.known.len(), 1);
    assert_eq!(table.number(5, "b", 5, 1), Admission::Reused);
}

#[test]
fn of_a_transaction_is_remembered_what_the_row_holds() {
    let mut table = Table::default();
    let once = Once {
        token: "t".into(),
        window_ms: 100,
        done: 0,
    };
    let outcome = WriteOutcome::Committed(Box::new(Committed {
        held: true,
        revision: Revision(5),
        reads: vec![None],
    }));
    let mut rows = Batch::default();
    table.tokens.remember(b"k", &once, 7, 1, &outcome, &mut rows);
    table.keep(&rows);
}

#[test]
fn damage_is_told() {
    let mut table = Table::default();
    table.write(1, "k", "t", 100, 7);
    let (key, row) = table.rows.pop_first().unwrap();
    for cut in 0..row.len() {
        assert!(
            Tokens::rebuild([(key.clone(), row.slice(..cut))]).is_err(),
            "{cut}"
        );
    }
    assert!(Tokens::rebuild([(key.slice(1..), row.clone())]).is_err());
    let other_version = [&[3], &row[1..]].concat();
    assert!(Tokens::rebuild([(key.clone(), other_version.into())]).is_err());
    // It would be written back as another version.
    let done_with_nothing = [&[NUMBERED_ROW_VERSION], &row[1..], &[0; 8]].concat();
    assert!(Tokens::rebuild([(key, done_with_nothing.into())]).is_err());
}

proptest! {
    /// What a restart reads equals what was in memory, at every step.
    #[test]
    fn memory_and_rows_agree(steps in prop::collection::vec((0u64..40, 0u8..4, 0u8..4, 1u64..60, 0u128..2, 0u64..9), 0..60)) {
        let mut table = Table::default();
        let (mut now_ms, mut number) = (0, 0);
        for (wait, key, token, window_ms, fingerprint, open) in steps {
            now_ms += wait;
            table.write(now_ms, &key.to_string(), &token.to_string(), window_ms, fingerprint);
            number += 1;
            table.number(now_ms, &key.to_string(), number, (number + 1).saturating_sub(open));
        }
    }
}
