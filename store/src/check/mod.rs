//! Whether the replicas of a range hold the same.
//!
//! They must: each has applied the same entries, and applying is a function of them. What a bug, a flipped bit or a stray
//! write would change on one of them shows in no answer until that replica leads. So each leader has its ranges looked at in
//! turn ([`schedule`]), and people can ask for it ([`compare`]).
//!
//! The leader proposes [`Command::Check`](crate::command::Command::Check). It changes nothing; a replica that applies it
//! takes a view of its data before it applies anything else, so that the view holds exactly what the entries up to that one
//! have made. What it comes to ([`sum`]) is found out beside everything else, one range at a time and at a bounded pace, and
//! kept in memory for the leader, who asks for it. A replica that has none (it was away, it got a snapshot from behind that
//! entry, too much was to be summed up already) proves nothing. Replicas that tell different sums differ ([`judge`]).
//!
//! What is found is told, loudly and for as long as it is so ([`notes`]), and nothing is repaired: which of them is right, and
//! what clients have seen of it, is for people to decide (`docs/runbook.md`).

mod compare;
mod judge;
mod notes;
mod results;
pub(crate) mod schedule;
mod sum;
mod take;

pub(crate) use self::take::{at_entry, begin};

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashSet;
use holdfast_common::ids::StoreId;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::notes::Notes;
use self::results::Results;

/// Most views that are held to be summed up, the one under way among them. A view pins memory and tables of its moment.
const MAX_VIEWS: usize = 4;

/// Most comparisons that are led here at a time.
const MAX_COMPARED: usize = 4;

/// When, and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How often a range is compared; none for never.
    pub(crate) every: Option<Duration>,
    /// Most bytes of rows that are summed up a second.
    pub(crate) bytes_per_second: u64,
}

/// What a store has under way, and remembers, of checks. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Checks(Arc<Inner>);

struct Inner {
    pace: Pace,
    /// Places for views.
    views: Arc<Semaphore>,
    /// Whose view is summed up.
    turn: Semaphore,
    compared: Semaphore,
    results: Mutex<Results>,
    notes: Mutex<Notes>,
    /// Stores that have answered a question about checks.
    know: DashSet<StoreId>,
    stopped: CancellationToken,
    tasks: TaskTracker,
}

impl Checks {
    pub(crate) fn new(pace: Pace) -> Self {
        Self(Arc::new(Inner {
            pace,
            views: Arc::new(Semaphore::new(MAX_VIEWS)),
            turn: Semaphore::new(1),
            compared: Semaphore::new(MAX_COMPARED),
            results: Mutex::default(),
            notes: Mutex::default(),
            know: DashSet::new(),
            stopped: CancellationToken::new(),
            tasks: TaskTracker::new(),
        }))
    }

    /// How often a range is compared.
    pub(crate) fn every(&self) -> Option<Duration> {
        self.0.pace.every
    }

    /// Breaks off what is under way. When this returns no view is held any more.
    pub(crate) async fn stop(&self) {
        self.0.stopped.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

fn stopping() -> String {
    "the store is stopping".to_owned()
}
