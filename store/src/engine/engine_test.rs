use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_common::raft::journal;
use tempfile::TempDir;

use super::*;
use crate::damage::Damage;
use crate::keys::Interval;

fn open(dir: &TempDir) -> Engine {
    Engine::open(
        dir.path(),
        Options {
            cache_bytes: 1 << 20,
            ..Options::default()
        },
    )
    .unwrap()
}

fn batch(rows: &[(&str, Option<&str>)]) -> Batch {
    let mut batch = Batch::default();
    for (key, value) in rows {
        match value {
            Some(value) => batch.put(bytes(key), bytes(value)),
            None => batch.delete(bytes(key)),
        }
    }
    batch
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn interval(start: &str, end: &str) -> Interval {
    Interval {
        start: bytes(start),
        end: bytes(end),
    }
}

fn texts(rows: Rows) -> Vec<(String, String)> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    rows.map(|row| row.map(|(key, value)| (text(key), text(value))).unwrap())
        .collect()
}

/// A copy of a live directory is what a killed process leaves.
fn killed(dir: &TempDir) -> TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &to)
            } else {
                drop(std::fs::copy(entry.path(), to))
            }
        }
    }
    let left = TempDir::new().unwrap();
    copy(dir.path(), left.path());
    left
}

#[tokio::test]
async fn writes_are_visible_at_once_and_last() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    engine.write(batch(&[("a", Some("1")), ("b", Some("1"))]));
    engine.write(batch(&[("a", Some("2")), ("b", None)]));
    assert_eq!(engine.get(b"a").unwrap(), Some(bytes("2")));
    assert_eq!(engine.get(b"b").unwrap(), None);
    assert_eq!(
        texts(engine.view().await.unwrap().range(b"\x01", b"z")),
        [("a".into(), "2".into())]
    );
    assert_eq!(
        engine.pressure().overlay_bytes,
        0,
        "the view made everything commit"
    );
    assert_eq!(
        engine.get(b"a").unwrap(),
        Some(bytes("2")),
        "the same from the database"
    );
    engine.write(batch(&[("c", Some("3"))]));
    engine.close().await;

    let engine = open(&dir);
    assert_eq!(
        texts(engine.view().await.unwrap().range(b"\x01", b"z")),
        [("a".into(), "2".into()), ("c".into(), "3".into())]
    );
}

#[tokio::test]
async fn a_view_stands_still() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    engine.write(batch(&[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]));
    let view = engine.view().await.unwrap();
    engine.write(batch(&[("a", Some("2")), ("b", None)]));
    engine.persist().await.unwrap();
    assert_eq!(view.get(b"a").unwrap(), Some(bytes("1")));
    assert_eq!(
        texts(view.range(b"a", b"c")),
        [("a".into(), "1".into()), ("b".into(), "1".into())]
    );
    let back: Vec<_> = view.range(b"a", b"z").rev().map(|row| row.unwrap().0).collect();
    assert_eq!(back, [bytes("c"), bytes("b"), bytes("a")]);
    assert_eq!(texts(view.range(b"z", b"a")), [], "an inverted interval is empty");
}

#[tokio::test]
async fn cached_rows_are_replaced_too() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    engine.write(batch(&[
        ("\u{2}a", Some("1")),
        ("\u{2}b", Some("1")),
        ("\u{2}z", Some("1")),
    ]));
    engine.persist().await.unwrap();
    let intervals = vec![interval("\u{2}a", "\u{2}c")];
    engine
        .replace(Replacement {
            intervals,
            rows: rows(&[("\u{2}a", "2")]),
        })
        .await
        .unwrap();
    assert_eq!(engine.get(b"\x02a").unwrap(), Some(bytes("2")));
    assert_eq!(engine.get(b"\x02b").unwrap(), None);
    assert_eq!(engine.get(b"\x02z").unwrap(), Some(bytes("1")));
}

/// Ends the readers also when the writer panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A writer counts in two keys of each batch; point readers never see a count go back or be missing, views never see the
/// keys differ.
#[test]
fn readers_never_miss_a_value_between_overlay_and_database() {
    const ROUNDS: u64 = 20_000;
    let dir = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let engine = open(&dir);
    let count = |value: Option<Bytes>| u64::from_be_bytes(value.expect("missing")[..].try_into().unwrap());
    let put = |batch: &mut Batch, key: &str, count: u64| {
        batch.put(bytes(key), Bytes::copy_from_slice(&count.to_be_bytes()));
    };
    let step = |at: u64| {
        let mut batch = Batch::default();
        put(&mut batch, "\u{2}left", at);
        put(&mut batch, "\u{2}right", at);
        batch
    };
    engine.write(step(0));
    let (done, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for key in ["\u{2}left", "\u{2}right"] {
            let (engine, done, written) = (engine.clone(), &done, &written);
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    let floor = written.load(Ordering::Acquire);
                    let seen = count(engine.get(key.as_bytes()).unwrap());
                    assert!(seen >= floor, "{seen} after {floor} was written");
                }
            });
        }
        let (views, done, written) = (engine.clone(), &done, &written);
        let handle = runtime.handle().clone();
        scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                let floor = written.load(Ordering::Acquire);
                let view = handle.block_on(views.view()).unwrap();
                let (left, right) = (
                    count(view.get(b"\x02left").unwrap()),
                    count(view.get(b"\x02right").unwrap()),
                );
                assert_eq!(left, right, "a torn view");
                assert!(left >= floor, "a view of {left} after {floor} was written");
            }
        });
        let _done = SetOnDrop(done);
        for at in 1..=ROUNDS {
            engine.write(step(at));
            written.store(at, Ordering::Release);
        }
    });
    runtime.block_on(engine.close());
}

#[tokio::test]
async fn a_killed_process_leaves_whole_batches_in_order() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    for at in 0..5_000u32 {
        let mut batch = Batch::default();
        batch.put(bytes(&format!("row/{at:05}")), bytes("x"));
        batch.put(bytes("applied"), bytes(&at.to_string()));
        engine.write(batch);
        if at % 1_000 == 999 {
            // Between commits only: copying files while one is being written would make a state no crash leaves.
            drop(engine.view().await.unwrap());
            let left = killed(&dir);
            let reopened = open(&left);
            let applied: usize = std::str::from_utf8(&reopened.get(b"applied").unwrap().unwrap())
                .unwrap()
                .parse()
                .unwrap();
            let rows = reopened.view().await.unwrap().range(b"row/", b"row0").count();
            assert_eq!(rows, applied + 1, "the position fits the rows");
            assert_eq!(applied, at as usize, "what was committed is there");
        }
    }
}

#[tokio::test]
async fn writers_wait_while_too_much_is_pending() {
    let dir = TempDir::new().unwrap();
    let engine = Engine::open(
        dir.path(),
        Options {
            overlay_bytes: 64 << 10,
            ..Options::default()
        },
    )
    .unwrap();
    let value = "v".repeat(10_000);
    for at in 0..500 {
        engine.admit().await;
        assert!(engine.pressure().overlay_bytes <= 64 << 10);
        engine.write(batch(&[(&format!("{at:03}"), Some(&value))]));
    }
    assert_eq!(engine.view().await.unwrap().range(b"\x01", b"z").count(), 500);
}

#[tokio::test]
async fn after_closing_everything_says_so() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    let other = engine.clone();
    engine.write(batch(&[("a", Some("1"))]));
    engine.close().await;
    assert!(matches!(other.view().await, Err(Error::Closed)));
    assert!(matches!(other.persist().await, Err(Error::Closed)));
    other.admit().await;
    assert!(other.failure().borrow().is_none(), "closing is no failure");
    assert!(matches!(
        Engine::open(dir.path(), Options::default()),
        Err(OpenError::Journal(journal::OpenError::Locked { .. }))
    ));
}

#[tokio::test]
async fn a_dropped_engine_commits_and_lets_go() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    engine.write(batch(&[("a", Some("1"))]));
    drop(engine);
    let engine = loop {
        match Engine::open(dir.path(), Options::default()) {
            Ok(engine) => break engine,
            Err(OpenError::Journal(journal::OpenError::Locked { .. })) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(engine.get(b"a").unwrap(), Some(bytes("1")));
}

fn rows(rows: &[(&str, &str)]) -> Box<dyn Iterator<Item = Result<(Bytes, Bytes), Error>> + Send> {
    let rows: Vec<_> = rows
        .iter()
        .map(|(key, value)| Ok((bytes(key), bytes(value))))
        .collect();
    Box::new(rows.into_iter())
}

#[tokio::test]
async fn a_replacement_changes_its_intervals_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    engine.write(batch(&[
        ("a", Some("1")),
        ("c", Some("1")),
        ("d", Some("1")),
        ("m", Some("1")),
        ("z", Some("1")),
    ]));
    let before = engine.view().await.unwrap();
    let intervals = vec![interval("b", "e"), interval("m", "p")];
    engine
        .replace(Replacement {
            intervals,
            rows: rows(&[("b", "2"), ("d", "2"), ("n", "2")]),
        })
        .await
        .unwrap();
    let expected = [("a", "1"), ("b", "2"), ("d", "2"), ("n", "2"), ("z", "1")];
    let expected = expected.map(|(key, value)| (key.to_string(), value.to_string()));
    assert_eq!(texts(engine.view().await.unwrap().range(b"\x01", b"~")), expected);
    assert_eq!(engine.get(b"c").unwrap(), None);
    assert_eq!(
        texts(before.range(b"\x01", b"~")).len(),
        5,
        "views keep their moment"
    );
    assert_eq!(before.get(b"c").unwrap(), Some(bytes("1")));

    let left = killed(&dir);
    let reopened = open(&left);
    assert_eq!(
        texts(reopened.view().await.unwrap().range(b"\x01", b"~")),
        expected,
        "it is durable when it returns"
    );
    engine.write(batch(&[("b", Some("3"))]));
    assert_eq!(engine.get(b"b").unwrap(), Some(bytes("3")), "later writes win");
}

#[tokio::test]
async fn a_bad_replacement_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    engine.write(batch(&[("a", Some("1")), ("b", Some("1"))]));
    let broken = rows(&[("a", "2")]).chain(std::iter::once(Err(Damage::new("test", "on purpose").into())));
    for (name, intervals, rows) in [
        (
            "unordered rows",
            vec![interval("a", "z")],
            rows(&[("c", "2"), ("b", "2")]),
        ),
        (
            "a row twice",
            vec![interval("a", "z")],
            rows(&[("c", "2"), ("c", "2")]),
        ),
        ("a row outside", vec![interval("a", "c")], rows(&[("c", "2")])),
        (
            "overlapping intervals",
            vec![interval("a", "c"), interval("b", "d")],
            rows(&[("a", "2")]),
        ),
        ("a damaged source", vec![interval("a", "z")], Box::new(broken)),
    ] {
        assert!(
            engine.replace(Replacement { intervals, rows }).await.is_err(),
            "{name}"
        );
        let view = engine.view().await.unwrap();
        assert_eq!(
            texts(view.range(b"\x01", b"z")),
            [("a".into(), "1".into()), ("b".into(), "1".into())],
            "{name}"
        );
    }
}

#[tokio::test]
async fn others_write_while_an_interval_is_replaced() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    let (writer, done) = (engine.clone(), Arc::new(AtomicBool::new(false)));
    let stop = done.clone();
    let runtime = tokio::runtime::Handle::current();
    let writing = tokio::task::spawn_blocking(move || {
        let mut at = 0u64;
        while !stop.load(Ordering::Acquire) {
            // Without this the writer outruns the disk, and the requests below wait behind ever more of its writes.
            runtime.block_on(writer.admit());
            at += 1;
            writer.write(batch(&[("other", Some(&at.to_string()))]));
            assert_eq!(writer.get(b"other").unwrap(), Some(bytes(&at.to_string())));
        }
        at
    });
    for round in 0..5 {
        let new: Vec<_> = (0..2_000)
            .map(|at| Ok((bytes(&format!("row/{at:05}")), bytes(&round.to_string()))))
            .collect();
        let rows = Box::new(new.into_iter());
        engine
            .replace(Replacement {
                intervals: vec![interval("row/", "row0")],
                rows,
            })
            .await
            .unwrap();
        let view = engine.view().await.unwrap();
        assert!(
            texts(view.range(b"row/", b"row0"))
                .iter()
                .all(|(_, value)| *value == round.to_string())
        );
    }
    done.store(true, Ordering::Release);
    let last = writing.await.unwrap();
    engine.persist().await.unwrap();
    let left = killed(&dir);
    assert_eq!(open(&left).get(b"other").unwrap(), Some(bytes(&last.to_string())));
}

/// The active journal of a database.
fn journal_of(dir: &TempDir) -> std::path::PathBuf {
    let files = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .max()
        .unwrap()
}

/// Where a text stands in a file.
fn position(file: &Path, text: &str) -> usize {
    let content = std::fs::read(file).unwrap();
    content
        .windows(text.len())
        .position(|window| window == text.as_bytes())
        .unwrap()
}

fn overwrite(file: &Path, at: usize) {
    let mut content = std::fs::read(file).unwrap();
    content[at..at + 4].fill(0);
    std::fs::write(file, content).unwrap();
}

#[tokio::test]
async fn a_journal_that_lost_synced_writes_is_refused_and_unsynced_ones_are_dropped() {
    let dir = TempDir::new().unwrap();
    let engine = open(&dir);
    for text in ["first", "second", "third"] {
        engine.write(batch(&[(text, Some(&format!("value of {text}")))]));
        engine.persist().await.unwrap();
    }
    for text in ["fourth", "fifth"] {
        engine.write(batch(&[(text, Some(&format!("value of {text}")))]));
        drop(engine.view().await.unwrap());
    }
    // The batch of the third was synced when the fourth was written, which says so.
    let damaged = killed(&dir);
    let journal = journal_of(&damaged);
    overwrite(&journal, position(&journal, "value of second"));
    let refused = Engine::open(damaged.path(), Options::default());
    assert!(matches!(
        refused,
        Err(OpenError::Journal(journal::OpenError::Damaged { .. }))
    ));

    // A power cut may lose the fourth and keep the fifth, for neither was synced.
    let torn = killed(&dir);
    let journal = journal_of(&torn);
    overwrite(&journal, position(&journal, "value of fourth"));
    let view = open(&torn).view().await.unwrap();
    let keys: Vec<_> = texts(view.range(b"\x01", b"z"))
        .into_iter()
        .map(|(key, _)| key)
        .collect();
    assert_eq!(keys, ["first", "second", "third"]);
}

#[tokio::test]
async fn what_was_fetched_is_in_memory_when_it_is_read() {
    let dir = TempDir::new().unwrap();
    let keys: Vec<Bytes> = (0..500).map(|key| bytes(&format!("{key:04}"))).collect();
    let value = bytes(&"x".repeat(1_000));
    let engine = open(&dir);
    let mut batch = Batch::default();
    for key in &keys {
        batch.put(key.clone(), value.clone());
    }
    engine.write(batch);
    engine.persist().await.unwrap();
    engine.0.shared.data.rotate_memtable_and_wait().unwrap();
    engine.close().await;

    let engine = open(&dir);
    let loaded = || {
        let Shared { data, tables, .. } = &*engine.0.shared;
        tables.lock().observe(data).blocks_loaded
    };
    loaded();
    let (even, odd): (Vec<_>, Vec<_>) = keys.iter().cloned().partition(|key| key[3] % 2 == 0);
    futures::future::join(engine.fetch(even), engine.fetch(odd)).await;
    assert!(loaded() > 50, "they came from the table");
    for key in &keys {
        assert_eq!(engine.get(key).unwrap(), Some(value.clone()));
    }
    assert_eq!(loaded(), 0, "nothing is left to load");
}

#[tokio::test]
async fn the_size_of_memtables_is_that_of_the_last_opening() {
    let dir = TempDir::new().unwrap();
    let value = "v".repeat(1 << 20);
    for (memtable_bytes, is_written_out) in [(64 << 20, false), (2 << 20, true)] {
        let options = Options {
            memtable_bytes,
            ..Options::default()
        };
        let engine = Engine::open(dir.path(), options).unwrap();
        engine.write(batch(&[
            ("a", Some(&value)),
            ("b", Some(&value)),
            ("c", Some(&value)),
        ]));
        let shared = engine.0.shared.clone();
        engine.close().await;
        let written = shared.data.table_count() + shared.data.sealed_memtable_count();
        assert_eq!(written > 0, is_written_out, "with {memtable_bytes} bytes");
    }
}
