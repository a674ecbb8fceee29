//! kill -9 of any process, and of all: no acknowledged write is lost, and writes resume.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use holdfast_tests::{Cluster, History, Options, Writers};

use crate::cluster;

const SPLITS: [&str; 3] = ["b", "c", "d"];
const PREFIXES: [&str; 4] = ["a", "b", "c", "d"];
const WRITERS: usize = 32;

async fn split_cluster(options: Options) -> anyhow::Result<Cluster> {
    let cluster = cluster(options).await?;
    for key in SPLITS {
        cluster.admin().split(key).await?;
    }
    cluster.admin().settled(3, Duration::from_secs(30)).await?;
    Ok(cluster)
}

fn group(key: &str) -> usize {
    PREFIXES
        .iter()
        .position(|prefix| key.starts_with(prefix))
        .unwrap_or_default()
}

/// Lets writers get going: every range has had some writes acknowledged.
async fn warm_up() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// Fails unless every range took a write within `bound` of the kill.
fn assert_resumed(history: &History, killed: Instant, bound: Duration) -> anyhow::Result<()> {
    let resumed = history.resumed_after(killed, group, PREFIXES.len());
    eprintln!(
        "acknowledged {}, failures {:?}, resumed after {resumed:?}",
        history.acknowledged(),
        history.failures
    );
    for (prefix, after) in PREFIXES.iter().zip(resumed) {
        let after = after.with_context(|| format!("no write under {prefix} after the kill"))?;
        ensure!(
            after <= bound,
            "writes under {prefix} resumed after {after:?} only"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_resume_when_the_store_that_leads_most_is_killed() -> anyhow::Result<()> {
    let cluster = split_cluster(Options::default()).await?;
    let writers = Writers::start(&cluster.client(), &PREFIXES, WRITERS, 4);
    warm_up().await;
    let victim = cluster.store(cluster.admin().busiest_store().await?)?.name;
    cluster.kill(&victim)?;
    let killed = Instant::now();
    tokio::time::sleep(Duration::from_secs(6)).await;
    let history = writers.stop().await?;
    assert_resumed(&history, killed, Duration::from_secs(3))?;
    history.verify(&cluster.client()).await?;

    cluster.start_member(&victim).await?;
    cluster.admin().settled(3, Duration::from_secs(60)).await?;
    history.verify(&cluster.client()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_router_loses_nothing_and_a_new_one_serves_at_once() -> anyhow::Result<()> {
    let cluster = split_cluster(Options::default()).await?;
    let writers = Writers::start(&cluster.client(), &PREFIXES, WRITERS, 4);
    warm_up().await;
    cluster.kill("router-1")?;
    cluster.start_member("router-1").await?;
    let started = Instant::now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let history = writers.stop().await?;
    assert_resumed(&history, started, Duration::from_secs(3))?;
    history.verify(&cluster.client()).await?;
    cluster.assert_no_errors()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_path_never_notices_that_the_placement_driver_is_gone() -> anyhow::Result<()> {
    let cluster = split_cluster(Options::default()).await?;
    let writers = Writers::start(&cluster.client(), &PREFIXES, WRITERS, 4);
    warm_up().await;
    cluster.kill("placement-1")?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let history = writers.stop().await?;
    history.verify_unharmed(&cluster.client()).await?;

    cluster.start_member("placement-1").await?;
    cluster.admin().settled(3, Duration::from_secs(30)).await?;
    cluster.admin().split("bb").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_killed_at_once_comes_back_with_every_acknowledged_write() -> anyhow::Result<()> {
    let mut cluster = split_cluster(Options::default()).await?;
    let writers = Writers::start(&cluster.client(), &PREFIXES, WRITERS, 4);
    warm_up().await;
    cluster.kill_everything()?;
    let history = writers.stop().await?;
    ensure!(
        history.acknowledged() > 100,
        "only {} writes",
        history.acknowledged()
    );
    cluster.up()?;
    history.verify(&cluster.client()).await?;
    cluster.admin().settled(3, Duration::from_secs(30)).await?;
    cluster.assert_no_errors()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_placement_members_survive_the_loss_of_their_leader() -> anyhow::Result<()> {
    let cluster = split_cluster(Options {
        placements: 3,
        ..Options::default()
    })
    .await?;
    let writers = Writers::start(&cluster.client(), &PREFIXES, WRITERS, 4);
    warm_up().await;
    let leader = cluster.admin().cluster().await?["leader"]
        .as_str()
        .context("no leader")?
        .to_owned();
    cluster.kill(&leader)?;
    let killed = Instant::now();
    let other = (1..=3)
        .find(|number| leader != format!("placement-{number}"))
        .context("three members")?;
    while let Err(error) = cluster.admin_of(other).split("cc").await {
        ensure!(
            killed.elapsed() < Duration::from_secs(5),
            "no split within 5 s of the kill: {error:#}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    eprintln!("a split was done {:?} after the kill", killed.elapsed());
    let history = writers.stop().await?;
    history.verify_unharmed(&cluster.client()).await
}
