use std::fs;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use tempfile::TempDir;

use super::super::Outcome;
use super::*;

/// A database as fjall leaves it: one keyspace, some of it in tables, the rest in the journal.
fn database() -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let fjall = Database::builder(dir.path()).open().expect("opened");
    let rows = fjall
        .keyspace("rows", KeyspaceCreateOptions::default)
        .expect("created");
    for part in 0..3_u32 {
        for row in 0..100_u32 {
            rows.insert([part.to_be_bytes(), row.to_be_bytes()].concat(), [b'v'; 300])
                .expect("inserted");
        }
        if part < 2 {
            rows.rotate_memtable_and_wait().expect("flushed");
        }
    }
    fjall.persist(PersistMode::SyncData).expect("synced");
    dir
}

fn keyspace(dir: &TempDir) -> PathBuf {
    dir.path().join("keyspaces/1")
}

/// What the check finds, if it finds damage.
fn found(dir: &TempDir) -> Option<String> {
    match super::super::check(dir.path(), 1).expect("checked") {
        Outcome::Damaged { file, why, .. } => Some(format!("{}: {why}", file.display())),
        Outcome::Clean => None,
        Outcome::TornTail { .. } => panic!("nothing was torn"),
    }
}

fn version(dir: &TempDir) -> PathBuf {
    let current = fs::read(keyspace(dir).join(CURRENT)).expect("read");
    let version = u64::from_le_bytes(*current.first_chunk().expect("a version"));
    keyspace(dir).join(format!("v{version}"))
}

fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).expect("read");
    content[at] ^= 1 << (at % 8);
    fs::write(path, content).expect("written");
}

#[test]
fn what_fjall_writes_is_sound_and_all_of_it_is_found() {
    let dir = database();
    assert_eq!(found(&dir), None);
    let tables = tables(dir.path()).expect("read");
    let ours = tables
        .iter()
        .filter(|table| table.path.starts_with(keyspace(&dir)));
    assert_eq!(ours.count(), 2);
    for table in &tables {
        let mut bytes = 0;
        assert_eq!(verify(table, |read| bytes += read).expect("read"), None);
        assert_eq!(bytes, table.path.metadata().expect("metadata").len());
    }
}

#[test]
fn every_flipped_bit_in_a_manifest_is_damage_and_nothing_is_deleted() {
    let dir = database();
    let tables = tables(dir.path()).expect("read");
    for file in [keyspace(&dir).join(CURRENT), version(&dir)] {
        let whole = fs::read(&file).expect("read");
        for at in 0..whole.len() {
            flip(&file, at);
            assert!(found(&dir).is_some(), "byte {at} of {}", file.display());
            fs::write(&file, &whole).expect("written");
        }
        fs::remove_file(&file).expect("removed");
        assert!(found(&dir).is_some(), "without {}", file.display());
        fs::write(&file, &whole).expect("written");
    }
    assert_eq!(found(&dir), None);
    assert!(tables.iter().all(|table| table.path.exists()));
}

#[test]
fn a_table_is_whole_or_damaged() {
    let dir = database();
    let table = tables(dir.path()).expect("read").pop().expect("a table");
    let whole = fs::read(&table.path).expect("read");
    for at in (0..whole.len()).step_by(97) {
        flip(&table.path, at);
        assert!(verify(&table, |_| {}).expect("read").is_some(), "byte {at}");
        fs::write(&table.path, &whole).expect("written");
    }
    fs::write(&table.path, &whole[..whole.len() - 1]).expect("cut");
    assert!(verify(&table, |_| {}).expect("read").is_some());
    fs::remove_file(&table.path).expect("removed");
    assert!(verify(&table, |_| {}).expect("read").is_some());
    assert!(found(&dir).is_some_and(|found| found.contains("missing")));
}

#[test]
fn a_keyspace_that_is_gone_is_missed() {
    let dir = database();
    fs::remove_dir_all(keyspace(&dir)).expect("removed");
    assert!(found(&dir).is_some_and(|found| found.contains("a keyspace is missing")));
    let dir = database();
    fs::remove_dir_all(dir.path().join("keyspaces/0")).expect("removed");
    assert!(found(&dir).is_some_and(|found| found.contains("a keyspace is missing")));
    let dir = database();
    fs::remove_file(dir.path().join("version")).expect("removed");
    assert!(found(&dir).is_some());
}

#[test]
fn the_names_of_keyspaces_are_read_whole() {
    let dir = database();
    let meta = tables(dir.path()).expect("read");
    let meta = meta
        .iter()
        .find(|table| table.path.starts_with(dir.path().join("keyspaces/0")))
        .expect("a table");
    flip(&meta.path, 40);
    assert!(found(&dir).is_some_and(|found| found.contains("checksum")));
}

#[test]
fn a_keyspace_whose_creation_was_cut_short_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(Database::builder(dir.path()).open().expect("opened"));
    assert_eq!(found(&dir), None);
    fs::create_dir_all(keyspace(&dir).join(TABLES)).expect("created");
    fs::write(keyspace(&dir).join("v0"), "cut").expect("written");
    assert_eq!(found(&dir), None);
    fs::write(keyspace(&dir).join("v1"), "whole").expect("written");
    assert!(found(&dir).is_some(), "it was created, and has lost its manifest");
}
