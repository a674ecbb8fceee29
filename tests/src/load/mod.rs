//! Clients that keep a cluster busy through several routers and record all that they do and are told: see [`crate::history`].
//!
//! A group of eight clients shares its keys: registers, keys that are only written by compare-and-set, lists, counters, sets, and
//! registers whose values are deleted and have times to live, under
//! each of several letters, so that splits between letters put them into several ranges. After some hundred operations the group
//! goes on to fresh keys, so that each key's history is short enough to be searched.

mod keys;
mod recorder;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::history::History;
use keys::Group;
pub use keys::{LETTERS, probe};
use recorder::Recorder;

/// Clients that share keys: as many as the search takes.
const GROUP: usize = 8;

/// What was done, and how it was answered.
#[derive(Debug, Default)]
pub struct Recorded {
    /// All of it.
    pub history: History,
    /// Answers by status; 0 for none.
    pub statuses: BTreeMap<u16, usize>,
    /// Answers that no fault explains.
    pub unexpected: Vec<String>,
}

impl Recorded {
    fn merge(&mut self, other: Recorded) {
        self.history.merge(other.history);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.unexpected.extend(other.unexpected);
    }
}

/// What every client shares.
struct Shared {
    stop: AtomicBool,
    /// Operations that were answered as asked.
    answered: AtomicUsize,
    begun: Instant,
    /// Of this run, so that a cluster that has seen another takes no write for a repetition.
    name: u64,
    routers: Vec<String>,
    round: u64,
    clocks: Clocks,
    groups: Vec<Group>,
}

/// What becomes of the clocks of a cluster's stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clocks {
    /// They agree, so that what has a time to live is there for so long, and no longer.
    Agree,
    /// They are set, or were: what has a time to live may go when one of them says so. An hour is beyond what they are set by.
    AreSet,
}

/// Clients at work.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Recorded>>,
    count: usize,
}

impl Load {
    /// Starts so many clients of the routers at these addresses. The seed chooses what they do; each round, from 1 on, has keys of its own.
    pub fn start(routers: Vec<String>, clients: usize, seed: u64, round: u64, clocks: Clocks) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            begun: Instant::now(),
            name: rand::random(),
            routers,
            groups: (0..clients.div_ceil(GROUP))
                .map(|group| Group::new(group, round))
                .collect(),
            round,
            clocks,
        });
        let work = |client: usize| tokio::spawn(worker::work(shared.clone(), client, client / GROUP, seed));
        Self {
            clients: (0..clients).map(work).collect(),
            count: clients,
            shared,
        }
    }

    /// How many operations have been answered as asked.
    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// Waits for so many more of them.
    ///
    /// # Errors
    /// They were not answered in this time.
    pub async fn progress(&self, operations: usize, within: Duration) -> anyhow::Result<()> {
        let (wanted, begun) = (self.answered() + operations, Instant::now());
        while self.answered() < wanted {
            ensure!(
                begun.elapsed() < within,
                "no {operations} operations were answered within {within:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Stops the clients.
    ///
    /// # Errors
    /// A client broke.
    pub async fn stop(self) -> anyhow::Result<Stopped> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut recorded = Recorded::default();
        for client in self.clients {
            recorded.merge(client.await?);
        }
        Ok(Stopped {
            recorded,
            reader: Recorder::new(self.shared, self.count),
        })
    }
}

/// A load whose clients have stopped, with all that they recorded.
pub struct Stopped {
    recorded: Recorded,
    reader: Recorder,
}

impl Stopped {
    /// Reads everything once more, for the record.
    ///
    /// # Errors
    /// It could not be read within half a minute although every fault was over.
    pub async fn read_everything(&mut self) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !self.reader.scan("", "", false).await {
            ensure!(
                begun.elapsed() < Duration::from_secs(30),
                "a scan of everything does not get to its end, with every fault over"
            );
        }
        Ok(())
    }

    /// What was recorded.
    pub fn recorded(mut self) -> Recorded {
        self.recorded.merge(self.reader.done());
        self.recorded
    }
}
