//! What a store has on disk: commands, rows, keys, its own small records.

use bytes::Bytes;
use holdfast_store::command::Command;
use holdfast_store::row::RangeRow;
use holdfast_store::sessions::{Floor, Sessions};
use holdfast_store::tokens::Tokens;
use holdfast_store::{decoding, keys, record};

use holdfast_common::ids::SessionId;

use crate::input::Input;

pub(crate) const COMMAND: u8 = 0;
pub(crate) const RANGE_ROW: u8 = 1;
pub(crate) const RECORD: u8 = 2;
pub(crate) const OUTCOMES: u8 = 3;
pub(crate) const TOKEN: u8 = 4;
pub(crate) const KEY: u8 = 5;
pub(crate) const TO_DESTROY: u8 = 6;
pub(crate) const TO_RECOVER: u8 = 7;
pub(crate) const IDENTITY: u8 = 8;

pub(crate) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 9 {
        COMMAND => command(&Bytes::copy_from_slice(input.rest())),
        RANGE_ROW => {
            if let Ok(row) = RangeRow::decode(Bytes::copy_from_slice(input.rest())) {
                assert_eq!(RangeRow::decode(row.encode()), Ok(row));
            }
        }
        RECORD => stored(&Bytes::copy_from_slice(input.rest())),
        OUTCOMES => outcomes(input),
        TOKEN => {
            if let Ok(tokens) = Tokens::rebuild([(input.section(), input.section())]) {
                assert_ne!(tokens, Tokens::default());
            }
        }
        KEY => key(&Bytes::copy_from_slice(input.rest())),
        TO_DESTROY => drop(decoding::intent_to_destroy(Bytes::copy_from_slice(input.rest()))),
        TO_RECOVER => drop(decoding::intent_to_recover(Bytes::copy_from_slice(input.rest()))),
        _ => drop(decoding::is_identity(input.rest())),
    }
}

fn command(bytes: &Bytes) {
    if let Ok(command) = Command::decode(bytes) {
        let written = command.encode();
        assert_eq!(Command::decode(&written), Ok(command));
        assert!(written.len() <= bytes.len(), "no command has two encodings");
    }
}

fn stored(bytes: &Bytes) {
    let Ok(record) = record::decode(bytes) else { return };
    let live = record::decode_live(bytes, 1_000).expect("a record");
    let has_expired = record.expires_ms != 0 && record.expires_ms <= 1_000;
    assert_eq!(live, (!has_expired).then_some(record));
}

fn outcomes(mut input: Input<'_>) {
    let floor = Floor {
        session: SessionId(input.number()),
        floor: input.number(),
        since: u64::from(input.byte()),
        used_ms: 0,
    };
    let rows = [(5, input.section()), (6, input.section())];
    let Ok(sessions) = Sessions::rebuild([floor], rows) else {
        return;
    };
    assert_eq!(sessions.validate(), Ok(()));
    let floors: Vec<_> = sessions.floors().collect();
    let rows = sessions
        .entries()
        .filter_map(|index| Some((index, sessions.row(index)?)));
    assert_eq!(Sessions::rebuild(floors, rows), Ok(sessions.clone()));
}

fn key(key: &Bytes) {
    if let Some((user_key, token)) = keys::token_of_row(key) {
        assert_eq!(keys::token(&user_key, &token), *key);
    }
    if let Some(range) = keys::range_of_row(key) {
        assert_eq!(keys::range_row(range)[..], key[..]);
    }
    if let Some(index) = keys::index_of_outcomes(key) {
        assert_eq!(key[9..], index.to_be_bytes());
    }
    if let Some(user_key) = keys::user_key(key) {
        assert_eq!(keys::RecordKey::new(&user_key).as_ref(), &key[..]);
    }
}
