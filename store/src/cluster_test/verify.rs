//! What a look at the directory of a stopped store finds.

use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;

use super::*;
use crate::engine::{self, Batch, Engine};
use crate::keys;
use crate::verify::{Report, examine};

/// A stopped store with some rows in its first range.
async fn written(rows: usize) -> Cluster {
    let mut cluster = Cluster::with_first_range(1).await;
    for row in 0..rows {
        cluster.write(&format!("k{row:03}"), "value").await;
    }
    cluster.stop(1).await;
    cluster
}

async fn look(cluster: &Cluster) -> Report {
    examine(cluster.members[0].dir.path(), Some(StoreId(1)), |_| {})
        .await
        .unwrap()
}

/// Writes rows as no store would.
async fn forge(dir: &Path, rows: &[(Bytes, &'static [u8])]) {
    let engine = Engine::open(&dir.join("data"), engine::Options::default()).unwrap();
    let mut batch = Batch::default();
    for (key, value) in rows {
        batch.put(key.clone(), Bytes::from_static(value));
    }
    engine.write(batch);
    engine.persist().await.unwrap();
    engine.close().await;
}

fn record(key: &str) -> Bytes {
    [&[keys::RECORD], key.as_bytes()].concat().into()
}

#[tokio::test]
async fn all_of_a_sound_store_is_read_and_nothing_is_changed() {
    let mut cluster = written(50).await;
    let report = look(&cluster).await;
    assert_eq!((report.damaged, report.strays), (0, 0), "{report:?}");
    assert_eq!((report.ranges, report.logs, report.records), (1, 1, 50));
    assert!(report.entries >= 50 && report.outcomes > 0, "{report:?}");
    assert_eq!(look(&cluster).await, report, "twice the same");
    cluster.start(1).await;
    assert_eq!(cluster.read("k049").await.as_deref(), Some("value"));
    cluster.stop_all().await;
}

#[tokio::test]
async fn what_does_not_read_back_is_told_and_the_rest_is_read() {
    let cluster = written(10).await;
    let rows: [(Bytes, &[u8]); 3] = [
        (record("k003"), b"\x09garbage"),
        (record("k004"), b"\x01"),
        (Bytes::copy_from_slice(&keys::range_row(RangeId(77))), b"\x01"),
    ];
    forge(cluster.members[0].dir.path(), &rows).await;
    let report = look(&cluster).await;
    assert_eq!((report.damaged, report.damage.len()), (3, 3), "{report:?}");
    for told in ["k003", "k004", "range 77"] {
        assert!(
            report.damage.iter().any(|damage| damage.contains(told)),
            "{report:?}"
        );
    }
    assert_eq!(report.records, 10);
}

#[tokio::test]
async fn rows_of_no_range_are_counted() {
    let cluster = written(10).await;
    let dir = cluster.members[0].dir.path();
    std::fs::remove_dir_all(dir.join("data")).unwrap();
    forge(dir, &[(record("k003"), b"\x09garbage")]).await;
    let report = look(&cluster).await;
    assert_eq!((report.ranges, report.strays), (0, 1), "{report:?}");
}

#[tokio::test]
async fn a_flipped_bit_in_the_log_is_found_and_nothing_is_cut() {
    let cluster = written(50).await;
    let dir = cluster.members[0].dir.path().join("raft");
    let journals = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let journals = journals.filter(|path| path.extension().is_some_and(|extension| extension == "jnl"));
    let active = journals.max().unwrap();
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&active)
        .unwrap();
    let middle = journal_end(&file) / 2;
    assert!(middle > 1_000);
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], middle).unwrap();
    let report = look(&cluster).await;
    assert_eq!((report.damaged, report.logs), (1, 0), "{report:?}");
    assert_eq!(report.records, 50, "the data is looked at all the same");
    file.write_all_at(&byte, middle).unwrap();
    assert_eq!(look(&cluster).await.damaged, 0);
}

/// Behind the last byte that is not zero: a journal is as long as it may become.
fn journal_end(file: &std::fs::File) -> u64 {
    let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at as u64 + 1)
}
