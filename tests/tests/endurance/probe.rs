//! What clients and processes feel: latencies and memory.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use holdfast_tests::{Client, Cluster};
use tokio::task::JoinHandle;

/// Clients that each write and read a key of their own in turn, and time it.
pub(crate) struct Foreground {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<anyhow::Result<Vec<Duration>>>>,
}

impl Foreground {
    /// Starts so many clients on keys that begin with `prefix`.
    pub(crate) fn start(client: &Client, prefix: &str, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..clients).map(|number| {
            let (client, stop, key) = (client.clone(), stop.clone(), format!("{prefix}{number}"));
            tokio::spawn(async move {
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    let answer = client.put(&key, "a small value").await?;
                    ensure!(answer.status < 300, "{key}: {answer:?}");
                    took.push(begun.elapsed());
                    let begun = Instant::now();
                    let answer = client.get(&key).await?;
                    ensure!(answer.status == 200, "{key}: {answer:?}");
                    took.push(begun.elapsed());
                }
                Ok(took)
            })
        });
        Self {
            tasks: tasks.collect(),
            stop,
        }
    }

    /// Stops them; none of their requests may have failed.
    pub(crate) async fn stop(self) -> anyhow::Result<Latencies> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for task in self.tasks {
            all.extend(task.await??);
        }
        all.sort_unstable();
        Ok(Latencies(all))
    }
}

/// How long requests took, the shortest first.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// How many there were.
    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// What so many of a thousand requests did not exceed.
    pub(crate) fn per_mille(&self, part: usize) -> Duration {
        let place = (self.0.len() * part / 1_000).min(self.0.len().saturating_sub(1));
        self.0.get(place).copied().unwrap_or_default()
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} requests, p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}",
            self.count(),
            self.per_mille(500),
            self.per_mille(990),
            self.per_mille(999)
        )
    }
}

/// Counts what is done in each second.
pub(crate) struct EachSecond(JoinHandle<()>, Arc<parking_lot::Mutex<Vec<Second>>>);

impl EachSecond {
    /// Looks at the counter `done` from now until dropped.
    pub(crate) fn watch(done: Arc<AtomicUsize>) -> Self {
        let seconds = Arc::<parking_lot::Mutex<Vec<Second>>>::default();
        let task = tokio::spawn({
            let seconds = seconds.clone();
            async move {
                let (mut before, mut processors) = (done.load(Ordering::Relaxed), Processors::now());
                let mut ticks = tokio::time::interval(Duration::from_secs(1));
                ticks.tick().await;
                loop {
                    ticks.tick().await;
                    let (now, then) = (done.load(Ordering::Relaxed), processors);
                    processors = Processors::now();
                    seconds.lock().push(Second {
                        done: now - before,
                        stolen_percent: processors.stolen_percent_since(then),
                    });
                    before = now;
                }
            }
        });
        Self(task, seconds)
    }

    /// What was done in each second that is over.
    pub(crate) fn seconds(&self) -> Seconds {
        Seconds(self.1.lock().clone())
    }
}

impl Drop for EachSecond {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What was done in one second, and how much of the processors' time the machine's host gave to others meanwhile.
#[derive(Clone, Copy, Debug)]
struct Second {
    done: usize,
    stolen_percent: u64,
}

/// What was done in each second.
pub(crate) struct Seconds(Vec<Second>);

impl Seconds {
    /// As much as in the second in the middle, in order of how much was done.
    pub(crate) fn middle(&self) -> usize {
        let mut sorted: Vec<_> = self.0.iter().map(|second| second.done).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }

    /// In the worst of them.
    pub(crate) fn least(&self) -> usize {
        self.0.iter().map(|second| second.done).min().unwrap_or_default()
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (middle, least, count) = (self.middle(), self.least(), self.0.len());
        let stolen: u64 = self.0.iter().map(|second| second.stolen_percent).sum();
        let stolen = stolen / self.0.len().max(1) as u64;
        write!(
            formatter,
            "{middle} a second in the middle of {count}, {least} at least; the host kept {stolen} % of the processors' time; under half of it:"
        )?;
        let slow = self.0.iter().enumerate();
        for (at, second) in slow.filter(|(_, second)| 2 * second.done < middle) {
            let Second { done, stolen_percent } = second;
            write!(formatter, " {done} in second {at} ({stolen_percent} %)")?;
        }
        Ok(())
    }
}

/// The processors' time since the machine began, in the kernel's ticks.
#[derive(Clone, Copy, Debug, Default)]
struct Processors {
    all: u64,
    stolen: u64,
}

impl Processors {
    /// As the kernel tells it; nothing if it doesn't.
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq, steal; what guests take is in user and nice.
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .flat_map(str::parse)
            .collect();
        Self {
            all: ticks.iter().sum(),
            stolen: ticks.get(7).copied().unwrap_or_default(),
        }
    }

    fn stolen_percent_since(self, then: Self) -> u64 {
        let all = self.all.saturating_sub(then.all).max(1);
        100 * self.stolen.saturating_sub(then.stolen) / all
    }
}

/// Watches the resident memory of a process.
pub(crate) struct Memory {
    pid: u32,
    at_first: u64,
    most: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Memory {
    /// Watches until dropped.
    pub(crate) fn watch(pid: Option<u32>) -> anyhow::Result<Self> {
        let pid = pid.context("it does not run")?;
        let at_first = resident(pid)?;
        let most = Arc::new(AtomicU64::new(at_first));
        let task = tokio::spawn({
            let most = most.clone();
            async move {
                while let Ok(now) = resident(pid) {
                    most.fetch_max(now, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        });
        Ok(Self {
            pid,
            at_first,
            most,
            task,
        })
    }

    /// The most that it has had beyond what it had at first, in bytes.
    pub(crate) fn extra(&self) -> u64 {
        self.most.load(Ordering::Relaxed).saturating_sub(self.at_first)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Watches the memory of all members of a cluster.
pub(crate) struct Memories(Vec<(String, Memory)>);

impl Memories {
    /// Watches until dropped.
    pub(crate) fn watch(cluster: &Cluster) -> anyhow::Result<Self> {
        let members = cluster.members()?.into_iter();
        let watched = members.map(|member| Ok((member.name, Memory::watch(member.pid)?)));
        Ok(Self(watched.collect::<anyhow::Result<_>>()?))
    }

    /// See [`Memory::extra`]; by name, in MiB.
    pub(crate) fn extra_mib(&self) -> Vec<(&str, u64)> {
        let each = self.0.iter();
        each.map(|(name, memory)| (name.as_str(), memory.extra() >> 20))
            .collect()
    }
}

/// Anonymous memory of a process, in bytes: files that are mapped are the system's to take back.
pub(crate) fn resident(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB"));
    Ok(kib.context("no RssAnon")?.trim().parse::<u64>()? << 10)
}
