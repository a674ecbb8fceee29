//! Far more writes than the cluster does, with 512 MiB for each of its processes.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use holdfast_tests::{Client, Cluster, Options};
use reqwest::Method;
use tokio::task::JoinSet;

use crate::probe::{EachSecond, Memory, Seconds};
use crate::{MINUTE, cut, length, started};

const LIMIT: u64 = 512 << 20;
/// What the stores are told: half of it.
const MEMORY_BYTES: &str = "268435456";
const RANGES: usize = 8;
const VALUE_BYTES: usize = 4 << 10;
/// Clients that keep the cluster busy, and five times as many.
const ENOUGH: usize = 256;
const TOO_MANY: usize = 5 * ENOUGH;
const LENGTH: Duration = Duration::from_secs(30);

/// A bound on the memory of a process, which the kernel kills beyond it. Undone when dropped.
struct Bound(PathBuf);

impl Bound {
    fn on(name: &str, pid: u32) -> anyhow::Result<Self> {
        let (root, limit) = match Path::new("/sys/fs/cgroup/memory/memory.limit_in_bytes").exists() {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false => ("/sys/fs/cgroup", "memory.max"),
        };
        let group = Path::new(root).join(format!("holdfast-{name}-{pid}"));
        fs::create_dir(&group).with_context(|| format!("{}: root is needed", group.display()))?;
        let bound = Self(group);
        fs::write(bound.0.join(limit), LIMIT.to_string())?;
        fs::write(bound.0.join("cgroup.procs"), pid.to_string())?;
        Ok(bound)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let root = self.0.parent().map(|root| root.join("cgroup.procs"));
        let members = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        for (pid, root) in members.lines().zip(std::iter::repeat(root).flatten()) {
            let _ = fs::write(root, pid);
        }
        let _ = fs::remove_dir(&self.0);
    }
}

/// How often each status was answered; 0 stands for no answer.
type Statuses = BTreeMap<u16, usize>;

/// What became of writes.
struct Writes {
    statuses: Statuses,
    seconds: Seconds,
    /// The longest that one of them took.
    longest: Duration,
    length: Duration,
}

impl Writes {
    /// Writes done in a second.
    fn pace(&self) -> f64 {
        let done = self
            .statuses
            .iter()
            .filter(|(status, _)| (200..300).contains(*status));
        done.map(|(_, count)| *count as f64).sum::<f64>() / self.length.as_secs_f64()
    }
}

impl fmt::Display for Writes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            statuses,
            seconds,
            longest,
            length,
        } = self;
        write!(
            formatter,
            "{statuses:?} in {length:?}, {longest:.2?} at most; done: {seconds}"
        )
    }
}

/// Writes with so many clients for so long. Each has a connection of its own.
async fn write(cluster: &Cluster, clients: usize, length: Duration) -> anyhow::Result<Writes> {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::<AtomicUsize>::default());
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        let client = Client::new(cluster.client().url().to_owned());
        let (stop, done) = (stop.clone(), done.clone());
        tasks.spawn(async move {
            let (mut at, mut statuses, mut longest) = (number, Statuses::new(), Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                at = (at + 7_919) % 50_000;
                let path = format!("/v1/kv/{:03}-{at:05}", at % RANGES);
                let request = client
                    .request(Method::PUT, &path)
                    .body(vec![b'x'; VALUE_BYTES])
                    .timeout(Duration::from_secs(10));
                let begun = Instant::now();
                let status = client.send(request).await.map_or(0, |answer| answer.status);
                longest = longest.max(begun.elapsed());
                *statuses.entry(status).or_default() += 1;
                done.fetch_add(usize::from((200..300).contains(&status)), Ordering::Relaxed);
                if status >= 400 || status == 0 {
                    // As clients do that are asked to come back later, but in more of a hurry.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            (statuses, longest)
        });
    }
    let watched = EachSecond::watch(done);
    tokio::time::sleep(length).await;
    let seconds = watched.seconds();
    stop.store(true, Ordering::Relaxed);
    let (mut all, mut longest) = (Statuses::new(), Duration::ZERO);
    while let Some(ended) = tasks.join_next().await {
        let (statuses, took) = ended?;
        longest = longest.max(took);
        for (status, count) in statuses {
            *all.entry(status).or_default() += count;
        }
    }
    Ok(Writes {
        statuses: all,
        seconds,
        longest,
        length,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_much_load_is_turned_away_and_the_rest_is_done() -> anyhow::Result<()> {
    let cluster = started(Options {
        environment: &[("HOLDFAST_STORE_MEMORY_BYTES", MEMORY_BYTES)],
        ..Options::default()
    })
    .await?;
    cut(&cluster.admin(), RANGES).await?;
    cluster.admin().settled(3, MINUTE).await?;
    let members = cluster.members()?;
    let mut bounds = Vec::new();
    let mut watched = Vec::new();
    for member in &members {
        bounds.push(Bound::on(&member.name, member.pid.context("it runs")?)?);
        watched.push((member.name.clone(), Memory::watch(member.pid)?));
    }
    let long = length(LENGTH)?;
    write(&cluster, ENOUGH, LENGTH).await?;
    let most = write(&cluster, ENOUGH, LENGTH).await?;
    let under = write(&cluster, TOO_MANY, long).await?;
    println!("{ENOUGH} clients: {most}");
    println!("{TOO_MANY} clients: {under}");
    let memory: Vec<_> = watched
        .iter()
        .map(|(name, memory)| {
            let now = crate::probe::resident(memory.pid());
            Ok((
                name.as_str(),
                now.with_context(|| format!("{name} was killed"))? >> 20,
            ))
        })
        .collect::<anyhow::Result<_>>()?;
    println!("anonymous memory, MiB: {memory:?}");
    let pids =
        |members: &[holdfast_tests::Member]| members.iter().map(|member| member.pid).collect::<Vec<_>>();
    ensure!(
        pids(&members) == pids(&cluster.members()?),
        "a process was killed"
    );
    let odd: Vec<_> = under
        .statuses
        .keys()
        .filter(|status| !matches!(status, 200..300 | 429 | 503))
        .collect();
    ensure!(odd.is_empty(), "answers other than done and not now: {odd:?}");
    let (most, under) = (most.pace(), under.pace());
    ensure!(
        under >= 0.7 * most,
        "{under:.0} writes a second under too much load, {most:.0} under enough"
    );
    drop(bounds);
    cluster.assert_no_errors()
}
