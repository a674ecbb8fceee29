use std::os::unix::fs::FileExt;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use tempfile::TempDir;

use super::*;

/// A database as fjall leaves it after `batches` batches of three rows, sealed or not, synced and closed.
fn database(batches: u64, sealed: bool, value: &[u8]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let fjall = Database::builder(dir.path()).open().expect("opened");
    let rows = fjall
        .keyspace("rows", KeyspaceCreateOptions::default)
        .expect("created");
    for commit in 1..=batches {
        let mut batch = fjall.batch();
        if sealed {
            let seal = Seal {
                commit,
                durable: commit - 1,
                floor: fjall.seqno(),
            };
            batch.insert(&rows, SEAL_KEY, seal.encode());
        }
        batch.insert(&rows, commit.to_be_bytes(), value);
        batch.remove(&rows, [1, 2, 3]);
        batch.commit().expect("committed");
        fjall.persist(PersistMode::SyncData).expect("synced");
    }
    dir
}

fn journal(dir: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(dir.join("0.jnl"))
        .expect("opened")
}

fn content(dir: &Path) -> Vec<u8> {
    let mut content = std::fs::read(dir.join("0.jnl")).expect("read");
    content.truncate(
        content
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1),
    );
    content
}

/// Where the last batch ends, and the one before it.
fn ends(dir: &Path) -> (u64, u64) {
    let content = content(dir);
    let mut ends = content
        .windows(4)
        .enumerate()
        .filter(|(_, window)| window == b"FJL\x03")
        .map(|(at, _)| at as u64 + 4);
    let last = ends.next_back().expect("a batch");
    (last, ends.next_back().expect("a batch before it"))
}

#[test]
fn a_directory_without_a_database_is_clean() {
    let dir = tempfile::tempdir().expect("a directory");
    assert_eq!(check(dir.path(), 1).expect("checked"), Outcome::Clean);
    assert_eq!(
        check(&dir.path().join("none"), 1).expect("checked"),
        Outcome::Clean
    );
}

#[test]
fn what_fjall_writes_is_clean() {
    for sealed in [true, false] {
        // Small and plain, large and compressed, empty; larger than the read buffer.
        for value in [&b"v"[..], &[b'z'; 9000], b"", &[b'q'; 300_000]] {
            let dir = database(5, sealed, value);
            assert_eq!(check(dir.path(), 1).expect("checked"), Outcome::Clean);
        }
    }
}

#[test]
fn a_reopened_database_is_clean() {
    let dir = database(3, true, b"v");
    let fjall = Database::builder(dir.path()).open().expect("opened");
    let rows = fjall
        .keyspace("rows", KeyspaceCreateOptions::default)
        .expect("opened");
    let mut batch = fjall.batch();
    batch.insert(
        &rows,
        SEAL_KEY,
        Seal {
            commit: 4,
            durable: 3,
            floor: fjall.seqno(),
        }
        .encode(),
    );
    batch.commit().expect("committed");
    drop((rows, fjall));
    assert_eq!(check(dir.path(), 1).expect("checked"), Outcome::Clean);
}

#[test]
fn an_open_database_is_left_alone() {
    let dir = database(2, true, b"v");
    let fjall = Database::builder(dir.path()).open().expect("opened");
    assert!(matches!(check(dir.path(), 1), Err(OpenError::Locked { .. })));
    drop(fjall);
}

#[test]
fn a_torn_tail_is_cut_to_the_last_whole_batch() {
    let whole = database(4, true, b"value");
    let (last, before) = ends(whole.path());
    for cut in before + 1..last {
        let dir = database(4, true, b"value");
        journal(dir.path()).set_len(cut).expect("cut");
        let file = dir.path().join("0.jnl");
        assert_eq!(
            check(dir.path(), 1).expect("checked"),
            Outcome::TornTail {
                file: file.clone(),
                offset: before
            }
        );
        assert_eq!(file.metadata().expect("metadata").len(), before);
        assert_eq!(check(dir.path(), 1).expect("checked"), Outcome::Clean);
    }
}

#[test]
fn every_flipped_bit_before_the_last_batch_is_damage() {
    let dir = database(4, true, b"value");
    let (_, before) = ends(dir.path());
    let original = content(dir.path());
    for (at, &byte) in original
        .iter()
        .enumerate()
        .take(usize::try_from(before).expect("small"))
    {
        let file = journal(dir.path());
        file.write_all_at(&[byte ^ (1 << (at % 8))], at as u64)
            .expect("written");
        let outcome = check(dir.path(), 1).expect("checked");
        assert!(
            is_damage_or_harmless(&outcome, at, &original),
            "byte {at}: {outcome:?}"
        );
        file.write_all_at(&[byte], at as u64).expect("written");
    }
    assert_eq!(check(dir.path(), 1).expect("checked"), Outcome::Clean);
}

/// A sequence number that still lies between its neighbours changes nothing: fjall only compares them.
fn is_damage_or_harmless(outcome: &Outcome, at: usize, original: &[u8]) -> bool {
    let in_seqno = (0..=at).rev().take(13).any(|start| {
        original[start] == 1
            && (5..13).contains(&(at - start))
            && (start == 0 || original[..start].ends_with(b"FJL\x03"))
    });
    matches!(outcome, Outcome::Damaged { .. }) || (in_seqno && *outcome == Outcome::Clean)
}

#[test]
fn a_large_batch_is_not_read_into_memory_and_its_damage_is_found() {
    let dir = database(2, true, &vec![b'x'; 20 << 20]);
    // Compressed to almost nothing by default, so damage its header instead of its body.
    let mut batch = content(dir.path());
    batch[40] ^= 0xff;
    journal(dir.path()).write_all_at(&batch, 0).expect("written");
    assert!(matches!(
        check(dir.path(), 1).expect("checked"),
        Outcome::Damaged { offset: 0, .. }
    ));
}

#[test]
fn without_seals_a_whole_batch_behind_a_broken_one_is_damage() {
    let dir = database(3, false, b"value");
    journal(dir.path()).write_all_at(b"?", 40).expect("written");
    assert!(matches!(
        check(dir.path(), 1).expect("checked"),
        Outcome::Damaged { offset: 0, .. }
    ));
}

#[test]
fn a_batch_that_is_cut_out_is_damage() {
    let dir = database(4, true, b"value");
    let content = content(dir.path());
    let (_, before) = ends(dir.path());
    let first_end = content
        .windows(4)
        .position(|window| window == b"FJL\x03")
        .expect("a batch")
        + 4;
    let mut without = content[..first_end].to_vec();
    without.extend_from_slice(&content[usize::try_from(before).expect("small")..]);
    let file = journal(dir.path());
    file.set_len(0).expect("emptied");
    file.write_all_at(&without, 0).expect("written");
    let outcome = check(dir.path(), 1).expect("checked");
    assert!(
        matches!(&outcome, Outcome::Damaged { why, .. } if why.contains("missing")),
        "{outcome:?}"
    );
}

#[test]
fn missing_files_are_damage() {
    let dir = database(2, true, b"v");
    std::fs::copy(dir.path().join("0.jnl"), dir.path().join("2.jnl")).expect("copied");
    let outcome = check(dir.path(), 1).expect("checked");
    assert!(
        matches!(&outcome, Outcome::Damaged { why, .. } if why.contains("1.jnl")),
        "{outcome:?}"
    );
    std::fs::remove_file(dir.path().join("0.jnl")).expect("removed");
    std::fs::remove_file(dir.path().join("2.jnl")).expect("removed");
    assert!(matches!(
        check(dir.path(), 1).expect("checked"),
        Outcome::Damaged { .. }
    ));
}

#[test]
fn damage_in_a_journal_that_was_synced_is_never_a_torn_tail() {
    let dir = database(2, true, b"v");
    let (last, _) = ends(dir.path());
    journal(dir.path())
        .write_all_at(b"\x01torn", last)
        .expect("written");
    std::fs::write(dir.path().join("1.jnl"), [0; 100]).expect("written");
    assert!(
        matches!(check(dir.path(), 1).expect("checked"), Outcome::Damaged { offset, .. } if offset == last)
    );
}

#[test]
fn a_creation_that_was_cut_short_is_forgotten() {
    for marker in [None, Some(&b""[..]), Some(b"FJ")] {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("0.jnl"), [0; 4096]).expect("written");
        if let Some(marker) = marker {
            std::fs::write(dir.path().join("version"), marker).expect("written");
        }
        assert_eq!(check(dir.path(), 1).expect("checked"), Outcome::Clean);
        drop(
            Database::builder(dir.path())
                .open()
                .expect("fjall can create it now"),
        );
    }
}

#[test]
fn a_lost_version_marker_is_damage() {
    let dir = database(2, true, b"v");
    std::fs::remove_file(dir.path().join("version")).expect("removed");
    assert!(matches!(
        check(dir.path(), 1).expect("checked"),
        Outcome::Damaged { .. }
    ));
}
