//! Snapshot files of ranges, as a replica is sent them.
//!
//! Few changes of a file have checksums that fit. So an input is either the file itself or a list of blocks, of which whole ones are
//! made.

use std::fs;
use std::path::Path;

use holdfast_store::snapshot::{self, Reader, Writer};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::input::{Input, in_a_directory};

pub(crate) const RAW: u8 = 0;
pub(crate) const BLOCKS: u8 = 1;

pub(crate) fn target(data: &[u8]) {
    let mut input = Input::new(data);
    let file = match input.byte() % 2 {
        RAW => input.rest().to_vec(),
        _ => blocks(input),
    };
    in_a_directory(|dir| {
        let path = dir.join("snapshot");
        fs::write(&path, file).expect("a file in memory");
        read(&path, &dir.join("again"));
    });
}

fn read(path: &Path, again: &Path) {
    let Ok((header, totals)) = snapshot::verify(path) else {
        return;
    };
    let (_, rows) = Reader::open(path).expect("it has just been read");
    let mut writer = Writer::create(again, header.range, &header.row.encode()).expect("a file in memory");
    for row in rows {
        let (key, value) = row.expect("it has just been read");
        writer.row(&key, &value).expect("a file in memory");
    }
    writer.finish().expect("a file in memory");
    assert_eq!(snapshot::verify(again).expect("a snapshot"), (header, totals));
    fs::remove_file(again).expect("a file in memory");
}

/// The file that a list of blocks makes.
pub(crate) fn written(list: &[u8]) -> Vec<u8> {
    blocks(Input::new(list))
}

fn blocks(mut input: Input<'_>) -> Vec<u8> {
    let mut file = b"HOLDSNAP\x01\0\0\0".to_vec();
    let mut number = 0u64;
    while !input.is_empty() {
        let kind = input.byte();
        let payload = input.section();
        file.extend((payload.len() as u32).to_le_bytes());
        file.push(kind);
        file.extend(xxh3_64_with_seed(&payload, (number << 8) | u64::from(kind)).to_le_bytes());
        file.extend(&payload);
        number += 1;
    }
    file
}
