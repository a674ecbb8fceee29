//! Damages the directory of a stopped store in ways that a seed decides, opens it as a start does, and reads everything: either the
//! damage is found, or what is read is what was written. `HOLDFAST_MUTANTS` sets how many mutants there are, `HOLDFAST_SEED` where
//! they begin.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::raft::journal;
use holdfast_common::raft::log::{self, LocalWrite, LogBounds, LogEngine};
use holdfast_common::raft::types::{Command, Entry, LogId, Payload, Vote};
use openraft::storage::{IOFlushed, RaftLogStorage};
use tempfile::TempDir;

use crate::engine::{self, Batch, Engine};

const GROUPS: [(RangeId, ReplicaId); 3] = [
    (RangeId(1), ReplicaId(11)),
    (RangeId(2), ReplicaId(12)),
    (RangeId(3), ReplicaId(13)),
];

const PAGE: u64 = 4096;

/// Splitmix64: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound.max(1)
    }

    fn bytes(&mut self, len: usize) -> Bytes {
        (0..len).map(|_| self.roll() as u8).collect()
    }
}

fn log_options() -> log::Options {
    log::Options {
        memtable_bytes: 256 << 10,
        ..log::Options::default()
    }
}

fn engine_options() -> engine::Options {
    engine::Options {
        cache_bytes: 1 << 20,
        row_cache_bytes: 0,
        memtable_bytes: 1 << 20,
        ..engine::Options::default()
    }
}

type Rows = BTreeMap<Bytes, Bytes>;

/// All that can be read from a store's databases.
#[derive(Debug, PartialEq)]
struct Content {
    rows: Rows,
    locals: Vec<(Bytes, Bytes)>,
    logs: Vec<(LogBounds, Vec<Entry>)>,
}

/// A store's databases with tables and journals, and what is in them.
struct Original {
    dir: TempDir,
    content: Content,
}

fn id(index: u64) -> LogId {
    LogId::new_term_index(1, index)
}

async fn write_log(dir: &Path, dice: &mut Dice) {
    let log = LogEngine::open(&dir.join("raft"), log_options()).unwrap();
    for (number, (range, replica)) in GROUPS.into_iter().enumerate() {
        let mut group = log.group(range, replica, None);
        group.save_vote(&Vote::new(1, replica)).await.unwrap();
        for batch in 0..40 {
            let entries = (1..=10).map(|of| Entry {
                log_id: id(batch * 10 + of),
                payload: Payload::Normal(Command(dice.bytes(1_500))),
            });
            group
                .append(entries.collect::<Vec<_>>(), IOFlushed::noop())
                .await
                .unwrap();
        }
        group.purge(id(50 * number as u64 + 1)).await.unwrap();
        let record = LocalWrite::Put(Bytes::from(format!("tombstone/{replica}")), dice.bytes(9));
        log.local_commit(vec![record]).await.unwrap();
    }
    log.close().await;
}

async fn write_data(dir: &Path, dice: &mut Dice) {
    let engine = Engine::open(&dir.join("data"), engine_options()).unwrap();
    let key = |number: u64| Bytes::from(format!("\u{2}key{number:05}"));
    // Until some of it is in tables, and more waits in the journal.
    let mut number = 0;
    while engine.usage().tables < 3 {
        let mut batch = Batch::default();
        for _ in 0..20 {
            let len = 200 + dice.below(3_000) as usize;
            batch.put(key(number), dice.bytes(len));
            batch.delete(key(number / 2 + 1));
            number += 1;
        }
        engine.write(batch);
        engine.persist().await.unwrap();
    }
    engine.close().await;
}

impl Original {
    async fn new(dice: &mut Dice) -> Self {
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), dice).await;
        write_data(dir.path(), dice).await;
        let content = read(dir.path()).await.unwrap();
        assert!(content.rows.len() > 100 && content.logs.iter().all(|(_, log)| log.len() > 100));
        Self { dir, content }
    }
}

async fn rows(engine: &Engine) -> Result<Rows, engine::Error> {
    let view = engine.view().await?;
    let rows: Rows = view.range(b"\x01", b"\xff").collect::<Result<_, _>>()?;
    for (key, value) in &rows {
        assert_eq!(
            engine.get(key)?.as_ref(),
            Some(value),
            "a point read finds the same"
        );
    }
    Ok(rows)
}

/// Reads everything, or says what is damaged.
async fn read(dir: &Path) -> Result<Content, String> {
    let log = LogEngine::open(&dir.join("raft"), log_options()).map_err(|error| error.to_string())?;
    let engine = Engine::open(&dir.join("data"), engine_options()).map_err(|error| error.to_string())?;
    let read = async {
        let mut logs = Vec::new();
        for (range, replica) in GROUPS {
            let mut entries = Vec::new();
            log.read_entries(range, replica, |entry| entries.push(entry.clone()))
                .map_err(|error| error.to_string())?;
            let bounds = log
                .log_bounds(range, replica)
                .map_err(|error| error.to_string())?;
            logs.push((bounds, entries));
        }
        Ok(Content {
            rows: rows(&engine).await.map_err(|error| error.to_string())?,
            locals: log.local_scan(b"").map_err(|error| error.to_string())?,
            logs,
        })
    };
    let content = read.await;
    engine.close().await;
    log.close().await;
    content
}

/// All files under `dir` that have content, relative to it, in order.
fn files(dir: &Path) -> Vec<PathBuf> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if path.metadata().unwrap().len() > 0 {
                found.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

fn is_table(file: &Path) -> bool {
    file.parent().is_some_and(|parent| parent.ends_with("tables"))
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in files(from) {
        let to = to.path().join(&file);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from.join(file), to).unwrap();
    }
    // Fjall wants its lock, which is empty.
    for database in ["raft", "data"] {
        File::create(to.path().join(database).join("lock")).unwrap();
    }
    to
}

/// Where the content ends: journals are allocated ahead with zeroes.
fn content_end(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at as u64 + 1)
}

/// Damages one file; the answer says how.
fn mutate(dir: &Path, dice: &mut Dice) -> (PathBuf, String) {
    let files = files(dir);
    // Half of the time a journal or a table, which are most of what a disk holds.
    let is_large =
        |file: &&PathBuf| is_table(file) || file.extension().is_some_and(|extension| extension == "jnl");
    let large: Vec<_> = files.iter().filter(is_large).collect();
    let file = match dice.below(2) {
        0 => large[dice.below(large.len() as u64) as usize].clone(),
        _ => files[dice.below(files.len() as u64) as usize].clone(),
    };
    let path = dir.join(&file);
    let bytes = fs::read(&path).unwrap();
    let end = content_end(&bytes);
    let opened = OpenOptions::new().write(true).open(&path).unwrap();
    let how = match dice.below(10) {
        0 => {
            fs::remove_file(&path).unwrap();
            "removed".to_owned()
        }
        1 | 2 => {
            let at = dice.below(end);
            opened.set_len(at).unwrap();
            format!("cut to {at} of {end}")
        }
        3..=5 => {
            let page = dice.below(end.div_ceil(PAGE)) * PAGE;
            let len = PAGE.min(bytes.len() as u64 - page);
            opened.write_all_at(&vec![0; len as usize], page).unwrap();
            format!("page at {page} of {end} zeroed")
        }
        _ => {
            let (at, bit) = (dice.below(end), dice.below(8));
            opened
                .write_all_at(&[bytes[at as usize] ^ (1 << bit)], at)
                .unwrap();
            format!("bit {bit} of byte {at} of {end} flipped")
        }
    };
    (file, how)
}

/// Whether a table is not what its manifest says.
fn scrub(dir: &Path) -> Result<bool, journal::OpenError> {
    let mut found = false;
    for database in ["raft", "data"] {
        for table in journal::tables(&dir.join(database))? {
            found |= journal::verify(&table, |_| {})?.is_some();
        }
    }
    Ok(found)
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_or_what_is_read_is_what_was_written() {
    let seed = number("HOLDFAST_SEED", 1);
    let mut dice = Dice(seed);
    let original = Original::new(&mut dice).await;
    let whole = copy(original.dir.path());
    assert_eq!(
        read(whole.path()).await.as_ref(),
        Ok(&original.content),
        "a copy is as good"
    );
    let (mut found, mut harmless) = (0, Vec::new());
    for mutant in 0..number("HOLDFAST_MUTANTS", 60) {
        let dir = copy(original.dir.path());
        let (file, how) = mutate(dir.path(), &mut dice);
        let what = format!("seed {seed}, mutant {mutant}: {}: {how}", file.display());
        let is_changed =
            fs::read(dir.path().join(&file)).ok() != fs::read(original.dir.path().join(&file)).ok();
        if is_table(&file) && is_changed {
            assert!(
                scrub(dir.path()).unwrap_or(true),
                "{what}: its checksum does not tell"
            );
        }
        let opened = dir.path().to_owned();
        let read = tokio::spawn(async move { read(&opened).await }).await;
        match read.unwrap_or_else(|panic| panic!("{what}: {panic}")) {
            Err(_) => found += 1,
            Ok(content) if content == original.content => harmless.push(what),
            Ok(_) => panic!("{what}: not found, and what is read is wrong"),
        }
    }
    eprintln!(
        "{found} found, {} harmless:\n{}",
        harmless.len(),
        harmless.join("\n")
    );
    assert!(found > 0);
}
