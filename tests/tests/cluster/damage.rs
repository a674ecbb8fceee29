//! What stores have on disk is damaged: it is found, the store is quarantined, and rebuilt from the others under a new id.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use holdfast_tests::{Admin, Cluster, Options, Writers};
use serde_json::{Value, json};

use crate::cluster;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);
const PREFIXES: [&str; 3] = ["a", "b", "c"];
pub(crate) const PAGE: u64 = 4096;

/// A way to damage the directory of a store that does not run.
type Damage = fn(&Path) -> anyhow::Result<()>;

/// The newest journal of a database, and where its content ends.
fn journal(database: &Path) -> anyhow::Result<(PathBuf, u64)> {
    let mut journals = files(database)?;
    journals.retain(|path| path.extension().is_some_and(|is| is == "jnl"));
    let path = journals.pop().context("a journal")?;
    let content = fs::read(&path)?;
    let last = content.iter().rposition(|byte| *byte != 0).context("content")?;
    Ok((path, last as u64 + 1))
}

pub(crate) fn files(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let mut files: Vec<_> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    Ok(files)
}

pub(crate) fn flip(path: &Path, at: u64) -> anyhow::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    Ok(file.write_all_at(&[byte[0] ^ 0x20], at)?)
}

fn flipped_bit_in_the_log(dir: &Path) -> anyhow::Result<()> {
    let (path, end) = journal(&dir.join("raft"))?;
    flip(&path, end / 2)
}

fn zeroed_page_in_the_log(dir: &Path) -> anyhow::Result<()> {
    let (path, end) = journal(&dir.join("raft"))?;
    let file = OpenOptions::new().write(true).open(path)?;
    Ok(file.write_all_at(&[0; PAGE as usize], end / 2 / PAGE * PAGE)?)
}

fn cut_log(dir: &Path) -> anyhow::Result<()> {
    let (path, end) = journal(&dir.join("raft"))?;
    Ok(OpenOptions::new().write(true).open(path)?.set_len(end * 2 / 3)?)
}

/// Fjall takes such a keyspace for one that was never finished, and deletes it.
fn lost_manifest(dir: &Path) -> anyhow::Result<()> {
    Ok(fs::remove_file(dir.join("data/keyspaces/1/current"))?)
}

/// A store that was rebuilt got its rows in tables.
fn cut_tables(dir: &Path) -> anyhow::Result<()> {
    let tables = files(&dir.join("data/keyspaces/1/tables"))?;
    ensure!(!tables.is_empty(), "there are no tables");
    for table in tables {
        let len = table.metadata()?.len();
        OpenOptions::new().write(true).open(table)?.set_len(len - 10)?;
    }
    Ok(())
}

fn flipped_bits_in_tables(dir: &Path) -> anyhow::Result<()> {
    let tables = files(&dir.join("data/keyspaces/1/tables"))?;
    ensure!(!tables.is_empty(), "there are no tables");
    for table in tables {
        let len = table.metadata()?.len();
        (0..len)
            .step_by(PAGE as usize)
            .try_for_each(|at| flip(&table, at))?;
    }
    Ok(())
}

pub(crate) async fn id_of(admin: &Admin, name: &str) -> anyhow::Result<Option<u64>> {
    let stores = admin.get("/v1/stores").await?;
    let stores = stores["items"].as_array().cloned().unwrap_or_default();
    let up = stores
        .iter()
        .find(|store| store["name"] == name && store["state"] == "up");
    Ok(up.and_then(|store| store["id"].as_u64()))
}

/// Waits until the store of this name is another one, the old one has left, and every range has all its replicas.
pub(crate) async fn rebuilt(cluster: &Cluster, name: &str, before: u64) -> anyhow::Result<()> {
    let admin = cluster.admin();
    let another = async || Ok(id_of(&admin, name).await?.is_some_and(|id| id != before));
    admin.until("the store is another one", MINUTE, another).await?;
    let left = async || {
        let old = admin.get(&format!("/v1/stores/{before}")).await?;
        ensure!(old["state"] == "lost" || old["state"] == "removed", "{old}");
        Ok(old["state"] == "removed")
    };
    admin.until("the old one has left", MINUTE, left).await?;
    admin.settled(3, MINUTE).await?;
    let dir = cluster.member(name)?.data_dir.context("a directory")?;
    let aside = files(&dir)?.into_iter().filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("quarantine-")
    });
    ensure!(aside.count() > 0, "nothing was kept");
    Ok(())
}

/// Leads every range from each of its replicas in turn, and reads everything that was acknowledged.
async fn read_each(cluster: &Cluster, history: &holdfast_tests::History) -> anyhow::Result<()> {
    let admin = cluster.admin();
    admin.place_by_hand().await?;
    for place in 0..3 {
        for range in admin.settled(3, MINUTE).await? {
            lead(&admin, range.id, range.voters()[place]).await?;
        }
        history.verify(&cluster.client()).await?;
    }
    Ok(())
}

async fn lead(admin: &Admin, range: u64, store: u64) -> anyhow::Result<()> {
    let path = format!("/v1/ranges/{range}/transfer-leader?wait=true");
    let led = async || {
        let (_, answer): (_, Value) = admin.post_json(&path, &json!({"to_store": store})).await?;
        Ok(answer["state"] == "done")
    };
    admin.until("it leads", MINUTE, led).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_finds_damage_at_its_start_is_rebuilt_under_load() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    let admin = cluster.admin();
    for key in ["b", "c"] {
        admin.split(key).await?;
    }
    admin.settled(3, MINUTE).await?;
    let writers = Writers::start(&cluster.client(), &PREFIXES, 12, 40);
    let damages: [(&str, Damage); 5] = [
        ("store-1", flipped_bit_in_the_log),
        ("store-2", zeroed_page_in_the_log),
        ("store-3", lost_manifest),
        ("store-1", cut_log),
        ("store-2", cut_tables),
    ];
    for (name, damage) in damages {
        let id = id_of(&admin, name).await?.context("its id")?;
        writers.progress(300, MINUTE).await?;
        cluster.kill(name)?;
        damage(&cluster.member(name)?.data_dir.context("a directory")?)?;
        cluster.start_member(name).await?;
        ends_with_damage(&cluster, name)?;
        cluster.start_member(name).await?;
        rebuilt(&cluster, name, id)
            .await
            .with_context(|| format!("{name}, store {id}"))?;
    }
    let history = writers.stop().await?;
    history.verify(&cluster.client()).await?;
    read_each(&cluster, &history).await
}

/// Waits until the process has ended because of damage; the launcher says so a moment after it has noticed.
pub(crate) fn ends_with_damage(cluster: &Cluster, name: &str) -> anyhow::Result<()> {
    let deadline = std::time::Instant::now() + MINUTE;
    loop {
        let said = fs::read_to_string(cluster.dir().join("launcher.log"))?;
        let last = said.lines().rfind(|line| line.contains(name)).unwrap_or_default();
        if cluster.member(name)?.pid.is_none() && last.contains("exit status: 7") {
            break;
        }
        ensure!(
            std::time::Instant::now() < deadline,
            "{name} does not end because of damage: {last}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let dir = cluster.member(name)?.data_dir.context("a directory")?;
    ensure!(dir.join("QUARANTINE").exists(), "the directory is not marked");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_meets_damage_while_it_runs_ends_at_once() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    let admin = cluster.admin();
    let writers = Writers::start(&cluster.client(), &PREFIXES, 12, 40);
    writers.progress(2_000, MINUTE).await?;
    // Rebuilt once, it has its rows in tables.
    let id = id_of(&admin, "store-2").await?.context("its id")?;
    cluster.kill("store-2")?;
    let dir = cluster.member("store-2")?.data_dir.context("a directory")?;
    lost_manifest(&dir)?;
    cluster.start_member("store-2").await?;
    ends_with_damage(&cluster, "store-2")?;
    cluster.start_member("store-2").await?;
    rebuilt(&cluster, "store-2", id).await?;
    let history = writers.stop().await?;

    let id = id_of(&admin, "store-2").await?.context("its id")?;
    admin.place_by_hand().await?;
    // Started anew, it has none of it in memory.
    cluster.kill("store-2")?;
    flipped_bits_in_tables(&dir)?;
    cluster.start_member("store-2").await?;
    // Whoever reads it there gets nothing rather than something else, and asks again elsewhere.
    let client = cluster.client();
    let ended = async || {
        for range in admin.ranges().await? {
            // It may end before it has all of them.
            let path = format!("/v1/ranges/{}/transfer-leader?wait=true", range.id);
            admin.post_json(&path, &json!({"to_store": id})).await?;
        }
        if let Ok(rows) = client.scan_everything().await {
            history.check_scan(&rows)?;
        }
        Ok(cluster.member("store-2")?.pid.is_none())
    };
    admin.until("it has met the damage", MINUTE, ended).await?;
    ends_with_damage(&cluster, "store-2")?;
    history.verify(&client).await?;
    cluster.start_member("store-2").await?;
    rebuilt(&cluster, "store-2", id).await?;
    read_each(&cluster, &history).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_others_can_not_do_without_stays_where_it_is() -> anyhow::Result<()> {
    let cluster = cluster(Options {
        stores: 1,
        ..Options::default()
    })
    .await?;
    let (admin, client) = (cluster.admin(), cluster.client());
    for n in 0..200 {
        ensure!(client.put(format!("a{n}"), "value").await?.status < 300);
    }
    cluster.kill("store-1")?;
    let dir = cluster.member("store-1")?.data_dir.context("a directory")?;
    let (path, end) = journal(&dir.join("raft"))?;
    flip(&path, end / 2)?;
    cluster.start_member("store-1").await?;
    ends_with_damage(&cluster, "store-1")?;
    cluster.start_member("store-1").await?;
    let log = cluster.dir().join("logs/store-1.log");
    let refused = async || Ok(fs::read_to_string(&log)?.contains("can't be given up"));
    admin.until("it is refused", MINUTE, refused).await?;
    ensure!(dir.join("raft").exists() && dir.join("QUARANTINE").exists());
    let store = admin.get("/v1/stores/1").await?;
    ensure!(store["state"] != "lost" && store["state"] != "removed", "{store}");
    Ok(())
}
