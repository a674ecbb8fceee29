//! Who sleeps, and what wakes them.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, counter, gauge};

/// What made a replica wake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// What was asked of it does not get on.
    Unanswered,
    /// It leads, and is read from, whatever it has.
    Read,
    /// A Raft message came that is not of the leader that it sleeps under.
    Message,
    /// Something is to be changed about the range.
    Step,
    /// Another replica of the group has woken, or is read from.
    Asked,
    /// The store of its leader does not answer.
    LeaderLost,
    /// A store that it relied on was started again, or one that was left behind is back.
    StoreBack,
    /// Its group has another leader, or another term.
    Changed,
    /// The group did not fall asleep after all.
    Refused,
}

pub(super) const CAUSES: [&str; 9] = [
    "unanswered",
    "read",
    "message",
    "step",
    "asked",
    "leader_lost",
    "store_back",
    "changed",
    "refused",
];
pub(super) const SLEEPERS: [&str; 2] = ["leader", "follower"];

struct Handles {
    asleep: [Gauge; 2],
    slept: [Counter; 2],
    woke: [Counter; 9],
}

static HANDLES: LazyLock<Handles> = LazyLock::new(|| Handles {
    asleep: SLEEPERS.map(|role| gauge!("holdfast_raft_hibernating", "role" => role)),
    slept: SLEEPERS.map(|role| counter!("holdfast_raft_sleeps_total", "role" => role)),
    woke: CAUSES.map(|cause| counter!("holdfast_raft_wakes_total", "cause" => cause)),
});

pub(super) fn init() {
    LazyLock::force(&HANDLES);
}

/// So many replicas sleep that lead, and so many that do not.
pub(crate) fn asleep(leaders: usize, followers: usize) {
    HANDLES.asleep[0].set(leaders as f64);
    HANDLES.asleep[1].set(followers as f64);
}

/// A replica fell asleep.
pub(crate) fn slept(leads: bool) {
    HANDLES.slept[usize::from(!leads)].increment(1);
}

/// A replica woke.
pub(crate) fn woke(cause: Cause) {
    HANDLES.woke[cause as usize].increment(1);
}
