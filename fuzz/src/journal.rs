//! The check of a database's journal before it is opened.
//!
//! Few changes of a journal have a checksum that fits. So an input is either the journal itself or a list of batches, of which whole
//! ones are made.

use std::fs;
use std::io;
use std::path::Path;

use holdfast_common::raft::journal::{self, Outcome, SEAL_KEY, Seal};
use xxhash_rust::xxh3::xxh3_64;

use crate::input::{Input, in_a_directory};

pub(crate) const RAW: u8 = 0;
pub(crate) const BATCHES: u8 = 1;

pub(crate) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let journal = match input.byte() % 2 {
        RAW => input.rest().to_vec(),
        _ => batches(input),
    };
    in_a_directory(|dir| check(dir, &journal).expect("a file in memory"));
}

fn check(dir: &Path, journal: &[u8]) -> io::Result<()> {
    let file = dir.join("0.jnl");
    fs::write(&file, journal)?;
    let first = journal::check_journals(dir).map_err(io::Error::other)?;
    let left = fs::read(&file)?;
    match &first {
        Outcome::Clean | Outcome::Damaged { .. } => assert_eq!(left, journal, "nothing is changed"),
        Outcome::TornTail { offset, .. } => {
            assert_eq!(
                Some(&left[..]),
                journal.get(..usize::try_from(*offset).unwrap_or(usize::MAX))
            );
            let again = journal::check_journals(dir).map_err(io::Error::other)?;
            assert_eq!(again, Outcome::Clean, "what is left is whole");
        }
    }
    fs::remove_file(&file)
}

/// Set in the first byte of a batch: it has a seal; its checksum does not fit; it ends in the middle.
const SEALED: u8 = 0x10;
const BROKEN: u8 = 0x20;
const CUT: u8 = 0x40;

/// The journal that a list of batches makes.
pub(crate) fn written(list: &[u8]) -> Vec<u8> {
    batches(Input::new(list))
}

fn batches(mut input: Input<'_>) -> Vec<u8> {
    let mut journal = Vec::new();
    let mut seqno = input.number();
    while !input.is_empty() {
        let what = input.byte();
        seqno = seqno.wrapping_add(u64::from(input.byte()));
        let mut items = Vec::new();
        let mut count = 0u32;
        if what & SEALED != 0 {
            let seal = Seal {
                commit: input.number(),
                durable: input.number(),
                floor: seqno.wrapping_sub(u64::from(input.byte())),
            };
            item(&mut items, SEAL_KEY, &seal.encode());
            count += 1;
        }
        for _ in 0..what & 0x07 {
            item(&mut items, &input.section(), &input.section());
            count += 1;
        }
        let checksum = xxh3_64(&items) ^ u64::from(what & BROKEN);
        let begun = journal.len();
        journal.push(1);
        journal.extend(count.to_le_bytes());
        journal.extend(seqno.to_le_bytes());
        journal.extend(items);
        journal.push(3);
        journal.extend(checksum.to_le_bytes());
        journal.extend(b"FJL\x03");
        if what & CUT != 0 {
            journal.truncate(begun + (journal.len() - begun) / 2);
        }
    }
    journal
}

fn item(items: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    items.extend([2, 0, 0]);
    items.extend(7u64.to_le_bytes());
    items.extend((key.len() as u16).to_le_bytes());
    items.extend((value.len() as u32).to_le_bytes());
    items.extend((value.len() as u32).to_le_bytes());
    items.extend(key);
    items.extend(value);
}
