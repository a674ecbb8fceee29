//! Damages a directory in every way that we could think of, and opens it. Whatever was acknowledged must be there, or the
//! log must not open, or reading must fail: anything but a log that quietly lost something.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use openraft::storage::RaftLogStorage;

use super::*;
use crate::raft::types::Vote;

/// What the undamaged directory was acknowledged to hold.
const LAST: u64 = 119;
const PURGED: u64 = 19;

/// Two groups with votes, truncations, purges, large entries, some of it flushed to tables, and a journal that ends in
/// the middle of things.
async fn original() -> TempDir {
    let dir = directory();
    let engine = open(dir.path());
    for n in [1, 2] {
        let mut log = group(&engine, n);
        append_range(&mut log, 1, 0..=39).await;
        log.save_vote(&Vote::new(2, ReplicaId(n))).await.expect("saved");
        log.truncate_after(Some(id(1, 29))).await.expect("truncated");
        append_range(&mut log, 2, 30..=59).await;
        log.purge(id(1, PURGED)).await.expect("purged");
        if n == 1 {
            engine.shared.database.rotate().expect("flushed");
        }
        for index in 60..=LAST {
            append(&mut log, vec![entry_of(2, index, (index % 5 * 3000) as usize)]).await;
        }
    }
    crash_copy(dir.path())
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Not opened: damaged.
    Refused,
    /// Opened, and a read said that it is damaged.
    Unreadable,
    /// Opened, and everything acknowledged is there.
    Harmless,
}

/// Opens a damaged directory; panics if anything that was acknowledged is missing without a word.
async fn judge(dir: &Path, mutant: &str) -> Verdict {
    let engine = match try_open(dir) {
        Ok(engine) => engine,
        Err(OpenError::Damaged { .. } | OpenError::Foreign { .. }) => return Verdict::Refused,
        Err(other) => panic!("{mutant}: {other}"),
    };
    for n in [1, 2] {
        let mut log = group(&engine, n);
        let Ok(state) = log.get_log_state().await else {
            return Verdict::Unreadable;
        };
        assert_eq!(
            state.last_log_id,
            Some(id(2, LAST)),
            "{mutant}: group {n} lost its end"
        );
        assert_eq!(
            state.last_purged_log_id,
            Some(id(1, PURGED)),
            "{mutant}: group {n} lost its bounds"
        );
        let vote = log.read_vote().await.expect("a vote");
        assert_eq!(
            vote,
            Some(Vote::new(2, ReplicaId(n))),
            "{mutant}: group {n} lost its vote"
        );
        let Ok(entries) = log.try_get_log_entries(0..u64::MAX).await else {
            return Verdict::Unreadable;
        };
        assert_eq!(
            entries.len() as u64,
            LAST - PURGED,
            "{mutant}: group {n} lost entries"
        );
        let expected = [span(1, 20..=29), span(2, 30..=LAST)].concat();
        assert_eq!(
            read(&log, 0..u64::MAX).await,
            expected,
            "{mutant}: group {n} has other entries"
        );
    }
    Verdict::Harmless
}

fn journal_of(dir: &Path) -> PathBuf {
    let mut journals: Vec<_> = files_of(dir)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "jnl"))
        .collect();
    journals.sort();
    journals.pop().expect("a journal")
}

/// All files with content, but for locks.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for item in fs::read_dir(dir)
        .expect("a directory")
        .map(|item| item.expect("an entry").path())
    {
        if item.is_dir() {
            files.extend(files_of(&item));
        } else if item.metadata().expect("metadata").len() > 0 {
            files.push(item);
        }
    }
    files.sort();
    files
}

fn open_for_damage(path: &Path) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("opened")
}

/// Where the journal's content ends and its zeroes begin.
fn content_end(path: &Path) -> u64 {
    let content = fs::read(path).expect("read");
    content
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |last| last as u64 + 1)
}

fn flip(path: &Path, at: u64, bit: u64) {
    let file = open_for_damage(path);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    byte[0] ^= 1 << (bit % 8);
    file.write_all_at(&byte, at).expect("written");
}

/// Offsets of the journal's batches, by their trailers.
fn batches(path: &Path) -> Vec<u64> {
    let content = fs::read(path).expect("read");
    let ends = content
        .windows(4)
        .enumerate()
        .filter(|(_, window)| window == b"FJL\x03")
        .map(|(at, _)| at as u64 + 4);
    let mut starts: Vec<_> = std::iter::once(0).chain(ends).collect();
    starts.pop();
    starts
}

#[tokio::test]
async fn the_original_is_fine() {
    let dir = original().await;
    assert_eq!(judge(dir.path(), "original").await, Verdict::Harmless);
    assert_eq!(judge(dir.path(), "original, again").await, Verdict::Harmless);
}

#[tokio::test]
async fn flipped_bits_in_the_journal_never_lose_anything_quietly() {
    let original = original().await;
    let end = content_end(&journal_of(original.path()));
    for step in 0..40_u64 {
        let mutant = crash_copy(original.path());
        let at = end * step / 40 + step % 13;
        flip(&journal_of(mutant.path()), at.min(end - 1), step);
        let verdict = judge(mutant.path(), &format!("bit {} of byte {at} flipped", step % 8)).await;
        assert_eq!(verdict, Verdict::Refused, "byte {at} of {end}");
    }
}

#[tokio::test]
async fn flipped_bits_in_a_batchs_start_never_lose_anything_quietly() {
    let original = original().await;
    let starts = batches(&journal_of(original.path()));
    let [first, .., last] = starts[..] else {
        panic!("batches")
    };
    // Tag, item count and sequence number are outside fjall's checksum: each byte of them in turn.
    for start in [first, starts[starts.len() / 2], last] {
        for bit in (0..13 * 8).step_by(3) {
            let mutant = crash_copy(original.path());
            flip(&journal_of(mutant.path()), start + bit / 8, bit);
            judge(
                mutant.path(),
                &format!("bit {bit} of the batch at {start} flipped"),
            )
            .await;
        }
    }
}

#[tokio::test]
async fn zeroed_pages_in_the_journal_never_lose_anything_quietly() {
    let original = original().await;
    let pages = content_end(&journal_of(original.path())).div_ceil(4096);
    for page in (0..pages)
        .step_by((pages / 16).max(1) as usize)
        .chain([pages - 1])
    {
        let mutant = crash_copy(original.path());
        open_for_damage(&journal_of(mutant.path()))
            .write_all_at(&[0; 4096], page * 4096)
            .expect("written");
        let verdict = judge(mutant.path(), &format!("page {page} of {pages} zeroed")).await;
        assert_eq!(verdict, Verdict::Refused, "page {page} of {pages}");
    }
}

#[tokio::test]
async fn a_cut_journal_never_loses_anything_quietly() {
    let original = original().await;
    let end = content_end(&journal_of(original.path()));
    for step in 0..12_u64 {
        let mutant = crash_copy(original.path());
        let journal = journal_of(mutant.path());
        open_for_damage(&journal).set_len(end * step / 12).expect("cut");
        let verdict = judge(mutant.path(), &format!("journal cut to {}", end * step / 12)).await;
        assert_eq!(verdict, Verdict::Refused);
        let verdict = judge(mutant.path(), "the same, opened again").await;
        assert_eq!(verdict, Verdict::Refused, "what is damaged stays damaged");
    }
}

#[tokio::test]
async fn a_missing_journal_is_noticed() {
    let mutant = original().await;
    fs::remove_file(journal_of(mutant.path())).expect("removed");
    assert_eq!(judge(mutant.path(), "journal removed").await, Verdict::Refused);
}

#[tokio::test]
async fn an_unacknowledged_tail_is_cut_and_the_log_goes_on() {
    let original = original().await;
    let end = content_end(&journal_of(original.path()));
    let torn: [&[u8]; 5] = [
        b"\x01",
        b"\x01\x02\0\0\0",
        b"garbage that is no batch",
        &[0, 0, 0, 7],
        &[2; 3000],
    ];
    for tail in torn {
        let mutant = crash_copy(original.path());
        open_for_damage(&journal_of(mutant.path()))
            .write_all_at(tail, end)
            .expect("written");
        assert_eq!(
            judge(mutant.path(), "torn tail").await,
            Verdict::Harmless,
            "{tail:?}"
        );
        let engine = open(mutant.path());
        append_range(&mut group(&engine, 1), 3, LAST + 1..=LAST + 5).await;
        drop(engine);
        let (_, last) = bounds(&group(&open(mutant.path()), 1)).await;
        assert_eq!(last, Some(id(3, LAST + 5)));
    }
}

/// The disk may write the pages of several batches in any order before an fsync. A whole batch behind a broken one is
/// then no damage, if neither was acknowledged.
#[tokio::test]
async fn unacknowledged_batches_may_be_torn_out_of_order() {
    let dir = directory();
    let engine = open(dir.path());
    let mut log = group(&engine, 1);
    append_range(&mut log, 1, 0..=9).await;
    let before = crash_copy(dir.path());
    let end = content_end(&journal_of(before.path()));
    // Three batches that nobody waited for to be durable: one for each purge.
    for index in 0..3 {
        log.purge(id(1, index)).await.expect("purged");
        let rows = vec![super::super::database::Row::raft(b"\x10none", None)];
        engine.shared.write(rows, false, None).await.expect("committed");
    }
    let after = crash_copy(dir.path());
    let journal = journal_of(after.path());
    assert!(batches(&journal).iter().filter(|&&start| start > end).count() >= 2);
    flip(&journal, end + 20, 3);
    let survivor = open(after.path());
    assert_eq!(bounds(&group(&survivor, 1)).await, (None, Some(id(1, 9))));
}

#[tokio::test]
async fn damage_anywhere_else_never_loses_anything_quietly() {
    let original = original().await;
    let mut verdicts = Vec::new();
    for (number, path) in files_of(original.path()).into_iter().enumerate() {
        if path.extension().is_some_and(|extension| extension == "jnl") {
            continue;
        }
        let file = path.strip_prefix(original.path()).expect("inside");
        let len = path.metadata().expect("metadata").len();
        for step in 0..4 {
            let mutant = crash_copy(original.path());
            flip(&mutant.path().join(file), len * step / 4, step + number as u64);
            verdicts.push(
                judge(
                    mutant.path(),
                    &format!("{} flipped at {}", file.display(), len * step / 4),
                )
                .await,
            );
        }
        let mutant = crash_copy(original.path());
        open_for_damage(&mutant.path().join(file))
            .set_len(len / 2)
            .expect("cut");
        verdicts.push(judge(mutant.path(), &format!("{} cut in half", file.display())).await);
    }
    assert!(
        verdicts.iter().any(|verdict| *verdict != Verdict::Harmless),
        "some of it mattered"
    );
}
