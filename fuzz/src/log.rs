//! The records of the Raft log.

use bytes::Bytes;
use holdfast_common::raft::log::records;

use crate::input::Input;

pub(crate) const ENTRY: u8 = 0;
pub(crate) const VOTE: u8 = 1;
pub(crate) const PURGED: u8 = 2;
pub(crate) const SWEPT: u8 = 3;

pub(crate) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        ENTRY => entry(input.number(), input.rest()),
        VOTE => {
            if let Ok(vote) = records::decode_vote(input.rest()) {
                assert_eq!(records::decode_vote(&records::encode_vote(&vote)), Ok(vote));
            }
        }
        PURGED => {
            if let Ok(purged) = records::decode_purged(input.rest()) {
                assert_eq!(
                    records::decode_purged(&records::encode_purged(purged)),
                    Ok(purged)
                );
            }
        }
        _ => {
            if let Ok(swept) = records::decode_swept(input.rest()) {
                assert_eq!(records::decode_swept(&records::encode_swept(swept)), Ok(swept));
            }
        }
    }
}

fn entry(index: u64, row: &[u8]) {
    let row = Bytes::copy_from_slice(row);
    let Ok(entry) = records::decode_entry(index, &row) else {
        return;
    };
    let mut written = Vec::new();
    records::encode_entry(&entry, &mut written);
    let again = records::decode_entry(index, &written.into()).expect("what was written is read");
    assert_eq!(again, entry);
}
