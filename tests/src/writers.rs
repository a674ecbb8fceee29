//! Clients that write without pause and remember what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use tokio::task::JoinHandle;

use crate::Client;

/// What one writer knows of its keys. Each key belongs to one writer, so what it may hold is known exactly.
#[derive(Default)]
pub struct History {
    /// By key: the last value acknowledged, and those whose fate is unknown: such a write may take effect at any later time.
    keys: BTreeMap<String, Fate>,
    /// When each write was acknowledged, by key.
    pub acknowledged_at: Vec<(Instant, String)>,
    /// Writes that were answered with an error, by status; 0 for a broken connection.
    pub failures: BTreeMap<u16, usize>,
}

#[derive(Default)]
struct Fate {
    acknowledged: Option<(String, u64)>,
    maybe: Vec<String>,
}

impl History {
    /// Writes that were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.acknowledged_at.len()
    }

    /// The time after `from` until every one of `keys` has had a write acknowledged that was acknowledged after it.
    pub fn resumed_after(
        &self,
        from: Instant,
        keys: impl Fn(&str) -> usize,
        groups: usize,
    ) -> Vec<Option<Duration>> {
        let mut first = vec![None; groups];
        for (at, key) in &self.acknowledged_at {
            if *at > from {
                first[keys(key)].get_or_insert(at.duration_since(from));
            }
        }
        first
    }

    fn note(
        &mut self,
        key: String,
        value: String,
        outcome: Result<(u16, Option<u64>), reqwest::Error>,
    ) -> anyhow::Result<()> {
        let fate = self.keys.entry(key.clone()).or_default();
        match outcome {
            Ok((200..=204, revision)) => {
                let revision = revision.unwrap_or_default();
                if let Some((_, before)) = &fate.acknowledged {
                    ensure!(
                        revision > *before,
                        "the revision of {key} went from {before} to {revision}"
                    );
                }
                fate.acknowledged = Some((value, revision));
                self.acknowledged_at.push((Instant::now(), key));
            }
            // Certainly not applied.
            Ok((status @ (429 | 503 | 507), _)) => *self.failures.entry(status).or_default() += 1,
            Ok((status, _)) => {
                fate.maybe.push(value);
                *self.failures.entry(status).or_default() += 1;
            }
            Err(_) => {
                fate.maybe.push(value);
                *self.failures.entry(0).or_default() += 1;
            }
        }
        Ok(())
    }

    fn merge(&mut self, other: History) {
        self.keys.extend(other.keys);
        self.acknowledged_at.extend(other.acknowledged_at);
        self.acknowledged_at.sort();
        for (status, count) in other.failures {
            *self.failures.entry(status).or_default() += count;
        }
    }

    /// As [`verify`](Self::verify), and no request may have failed.
    pub async fn verify_unharmed(&self, client: &Client) -> anyhow::Result<()> {
        ensure!(self.failures.is_empty(), "requests failed: {:?}", self.failures);
        self.verify(client).await
    }

    /// Compares what a scan of everything has shown with what every key may hold.
    pub fn check_scan(&self, rows: &[(Vec<u8>, Vec<u8>)]) -> anyhow::Result<()> {
        let rows: BTreeMap<&[u8], &[u8]> = rows.iter().map(|(key, value)| (&key[..], &value[..])).collect();
        for (key, fate) in &self.keys {
            let value = rows
                .get(key.as_bytes())
                .map(|value| String::from_utf8_lossy(value).into_owned());
            fate.check(key, value)?;
        }
        Ok(())
    }

    /// Reads every key back: it holds the last acknowledged value, or one whose fate is unknown.
    pub async fn verify(&self, client: &Client) -> anyhow::Result<()> {
        for (key, fate) in &self.keys {
            let answer = client.get(key).await?;
            let value = match answer.status {
                200 => Some(String::from_utf8(answer.body)?),
                404 => None,
                status => anyhow::bail!("reading {key} back: {status}"),
            };
            fate.check(key, value)?;
        }
        Ok(())
    }
}

impl Fate {
    /// A key holds the last acknowledged value, or one whose fate is unknown.
    fn check(&self, key: &str, value: Option<String>) -> anyhow::Result<()> {
        let acknowledged = self.acknowledged.as_ref().map(|(value, _)| value);
        let fits =
            value.as_ref() == acknowledged || value.as_ref().is_some_and(|value| self.maybe.contains(value));
        ensure!(
            fits,
            "{key} holds {value:?}; acknowledged was {acknowledged:?}, possible {:?}",
            self.maybe
        );
        Ok(())
    }
}

/// Writers at work.
pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<anyhow::Result<History>>>,
}

impl Writers {
    /// Starts `count` writers. Writer `w` writes keys `{prefix}{w:03}-{n:02}` for each prefix and each n below `keys`, in turn.
    pub fn start(client: &Client, prefixes: &[&str], count: usize, keys: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let prefixes: Vec<String> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        let tasks = (0..count).map(|writer| {
            let (client, stop, prefixes) = (client.clone(), stop.clone(), prefixes.clone());
            let acknowledged = acknowledged.clone();
            tokio::spawn(write(client, stop, acknowledged, prefixes, writer, keys))
        });
        Self {
            tasks: tasks.collect(),
            acknowledged,
            stop,
        }
    }

    /// Waits until they have had this many more writes acknowledged.
    pub async fn progress(&self, writes: usize, within: Duration) -> anyhow::Result<()> {
        let wanted = self.acknowledged.load(Ordering::Relaxed) + writes;
        let deadline = Instant::now() + within;
        while self.acknowledged.load(Ordering::Relaxed) < wanted {
            ensure!(Instant::now() < deadline, "no {writes} writes within {within:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Stops them and returns what they know.
    pub async fn stop(self) -> anyhow::Result<History> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = History::default();
        for task in self.tasks {
            all.merge(task.await??);
        }
        Ok(all)
    }
}

async fn write(
    client: Client,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicUsize>,
    prefixes: Vec<String>,
    writer: usize,
    keys: usize,
) -> anyhow::Result<History> {
    let mut history = History::default();
    for round in 0.. {
        for number in 0..keys {
            for prefix in &prefixes {
                if stop.load(Ordering::Relaxed) {
                    return Ok(history);
                }
                let key = format!("{prefix}{writer:03}-{number:02}");
                let value = format!("{key} round {round}");
                let outcome = client.put(&key, value.clone()).await;
                let broken = match outcome {
                    Ok(answer) => {
                        let refused = answer.status >= 400;
                        acknowledged.fetch_add(usize::from(!refused), Ordering::Relaxed);
                        history.note(key, value, Ok((answer.status, answer.revision)))?;
                        refused
                    }
                    Err(error) => {
                        history.note(key, value, Err(error.downcast()?))?;
                        true
                    }
                };
                if broken {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
    Ok(history)
}
