//! What must never be joined again: wiped and foreign directories, a second cluster.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use holdfast_tests::{Cluster, Options};

use crate::cluster;

/// Runs a member that ought to refuse to start, and returns what it says.
pub(crate) fn refused(command: &mut Command) -> anyhow::Result<String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait()?.is_none() {
        if Instant::now() > deadline {
            child.kill()?;
            anyhow::bail!("it was not refused: {command:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output()?;
    ensure!(!output.status.success(), "it ended as if all were well");
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn store_command(cluster: &Cluster, name: &str, dir: &Path) -> Command {
    let mut command = Command::new(cluster.program());
    command.args([
        "store",
        "--name",
        name,
        "--http",
        "127.0.0.1:0",
        "--rpc",
        "127.0.0.1:0",
        "--placement",
        &cluster.placement_rpc(),
    ]);
    command.arg("--data-dir").arg(dir);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_store_is_not_taken_for_the_old_one() -> anyhow::Result<()> {
    let cluster = cluster(Options::default()).await?;
    cluster.stop_member("store-3").await?;
    let dir = cluster
        .member("store-3")?
        .data_dir
        .context("a store has a directory")?;
    std::fs::remove_dir_all(&dir)?;
    let said = refused(&mut store_command(&cluster, "store-3", &dir))?;
    ensure!(
        said.contains("store-3") && said.contains("another name"),
        "it does not say what to do: {said}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_looked_into_when_it_does_not_run() -> anyhow::Result<()> {
    let cluster = cluster(Options {
        stores: 1,
        ..Options::default()
    })
    .await?;
    for row in 0..20 {
        ensure!(cluster.client().put(&format!("k{row}"), "v").await?.status == 201);
    }
    let dir = cluster.member("store-1")?.data_dir.context("a directory")?;
    let verify = || {
        let mut command = Command::new(cluster.program());
        command
            .args(["store", "verify", "-o", "json", "--data-dir"])
            .arg(&dir)
            .output()
    };
    let running = verify()?;
    ensure!(running.status.code() == Some(5), "it runs: {running:?}");
    cluster.stop_member("store-1").await?;
    let sound = verify()?;
    let report: serde_json::Value = serde_json::from_slice(&sound.stdout)?;
    ensure!(
        sound.status.success() && report["records"] == 20 && report["damaged"] == 0,
        "{sound:?}"
    );
    let marker = dir.join("raft").join("version");
    std::fs::rename(&marker, dir.join("version"))?;
    let damaged = verify()?;
    let report: serde_json::Value = serde_json::from_slice(&damaged.stdout)?;
    ensure!(
        damaged.status.code() == Some(7) && report["damaged"] == 1 && report["records"] == 20,
        "{damaged:?}"
    );
    let said = String::from_utf8_lossy(&damaged.stderr);
    ensure!(said.contains("version marker"), "it does not say what: {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_another_cluster_is_refused() -> anyhow::Result<()> {
    let foreign = tempfile::tempdir()?;
    {
        let mut other = cluster(Options {
            stores: 1,
            ..Options::default()
        })
        .await?;
        let dir = other
            .member("store-1")?
            .data_dir
            .context("a store has a directory")?;
        other.down()?;
        // Moved, not copied: a copy is refused for being one.
        std::fs::rename(dir, foreign.path().join("store"))?;
    }
    let cluster = cluster(Options {
        stores: 1,
        ..Options::default()
    })
    .await?;
    let said = refused(&mut store_command(
        &cluster,
        "store-1",
        &foreign.path().join("store"),
    ))?;
    ensure!(said.contains("belongs to cluster"), "it does not say why: {said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_bootstrap_is_refused() -> anyhow::Result<()> {
    let cluster = cluster(Options {
        stores: 1,
        ..Options::default()
    })
    .await?;
    cluster.stop_member("placement-1").await?;
    let dir = cluster
        .member("placement-1")?
        .data_dir
        .context("it has a directory")?;
    let rpc = cluster.placement_rpc();
    let mut command = Command::new(cluster.program());
    command.args([
        "placement",
        "--name",
        "placement-1",
        "--http",
        "127.0.0.1:0",
        "--rpc",
        &rpc,
        "--bootstrap",
    ]);
    command
        .arg("--members")
        .arg(format!("placement-1={rpc}"))
        .arg("--data-dir")
        .arg(&dir);
    let said = refused(&mut command)?;
    ensure!(said.contains("bootstrap"), "it does not say why: {said}");

    // And a new cluster at the old address is not joined by the old store, nor does it make the store's data its own.
    cluster.start_member("placement-1").await?;
    ensure!(
        cluster.client().put("k", "v").await?.status == 201,
        "the old cluster goes on"
    );
    Ok(())
}
