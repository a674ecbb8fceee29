use tempfile::TempDir;

use super::*;
use crate::keys;
use crate::row::RangeRow;
use holdfast_common::ids::ReplicaId;
use holdfast_common::key::Span;
use holdfast_common::raft::types::{LogId, StoredMembership};
use holdfast_common::revision::Revision;

use crate::state::Merge;

fn range_row() -> RangeRow {
    RangeRow {
        replica: ReplicaId(11),
        applied: Some(LogId::new_term_index(3, 77)),
        membership: StoredMembership::default(),
        bounds: 4,
        span: Span::everything(),
        last_revision: Revision(99),
        size_bytes: 1_000,
        keys: 10,
        floors: Vec::new(),
        merge: Merge::No,
    }
}

fn rows() -> Vec<Row> {
    let row = |at: usize| {
        let length = if at == 70 { 300_000 } else { at * 10 };
        let key = keys::RecordKey::new(format!("{at:05}").as_bytes())
            .as_ref()
            .to_vec();
        (Bytes::from(key), Bytes::from(vec![at as u8; length]))
    };
    (0..200).map(row).collect()
}

fn write(path: &Path) -> u64 {
    let mut writer = Writer::create(path, RangeId(5), &range_row().encode()).unwrap();
    for (key, value) in rows() {
        writer.row(&key, &value).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_snapshot_reads_back() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("snapshot");
    let length = write(&path);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    let (header, reader) = Reader::open(&path).unwrap();
    assert_eq!(
        header,
        Header {
            range: RangeId(5),
            row: range_row()
        }
    );
    assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), rows());
    assert_eq!(verify(&path).unwrap().1.rows, 200);
    assert!(
        Writer::create(&path, RangeId(5), &[]).is_err(),
        "an existing file is never overwritten"
    );
}

#[test]
fn every_flipped_bit_and_every_cut_is_found() {
    let dir = TempDir::new().unwrap();
    let (path, bad) = (dir.path().join("snapshot"), dir.path().join("bad"));
    write(&path);
    let whole = std::fs::read(&path).unwrap();
    for at in (0..whole.len())
        .step_by(whole.len() / 300)
        .chain(whole.len() - 40..whole.len())
        .chain(0..120)
    {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&bad, flipped).unwrap();
        assert!(verify(&bad).is_err(), "a bit flipped in byte {at}");
        std::fs::write(&bad, &whole[..at]).unwrap();
        assert!(matches!(verify(&bad), Err(Error::Damaged(_))), "cut to {at}");
    }
    std::fs::write(&bad, [&whole[..], &[0]].concat()).unwrap();
    assert!(verify(&bad).is_err(), "bytes behind the end");
}

#[test]
fn lost_and_repeated_blocks_are_found() {
    let dir = TempDir::new().unwrap();
    let (path, bad) = (dir.path().join("snapshot"), dir.path().join("bad"));
    write(&path);
    let whole = std::fs::read(&path).unwrap();
    let mut blocks = vec![12];
    while let Some(length) = whole
        .get(blocks[blocks.len() - 1]..)
        .and_then(|rest| rest.first_chunk::<4>())
    {
        blocks.push(blocks[blocks.len() - 1] + 13 + u32::from_le_bytes(*length) as usize);
    }
    assert!(blocks.len() > 5);
    for pair in blocks.windows(2) {
        let (start, end) = (pair[0], pair[1]);
        std::fs::write(&bad, [&whole[..start], &whole[end..]].concat()).unwrap();
        assert!(verify(&bad).is_err(), "the block at {start} is missing");
        std::fs::write(&bad, [&whole[..end], &whole[start..]].concat()).unwrap();
        assert!(verify(&bad).is_err(), "the block at {start} comes twice");
    }
}

#[test]
fn unordered_rows_are_found() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("snapshot");
    let mut writer = Writer::create(&path, RangeId(5), &range_row().encode()).unwrap();
    writer.row(b"\x02b", b"").unwrap();
    writer.row(b"\x02a", b"").unwrap();
    writer.finish().unwrap();
    assert!(matches!(verify(&path), Err(Error::Damaged(_))));
}
