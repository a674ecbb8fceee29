//! Hibernation: the replicas of a range stop their timers, all of them together, and work in their sleep.
//!
//! A Raft group ticks, and its leader sends heartbeats, for the sake of two things: a lease for the next read, and the news
//! that the leader is gone. A majority confirms a lease when it is wanted; and that a leader is gone is known when its
//! *store* is, which one exchange between two stores says for all the ranges that they share. `docs/hibernation.md` tells the
//! protocol and what could go wrong with it. In short:
//!
//! - a leader that has led undisturbed for some time asks the others to stop their timers ([`settle`]), and stops its own when
//!   all have agreed; those on a store that does not answer are left behind;
//! - reads, writes and what their leader sends find sleepers at work; whatever else is asked of a replica, and every other
//!   Raft message to it, wakes it (`replica::rest`), and so does work that does not get on ([`activity`]);
//! - a store watches the stores that its sleepers rely on, and wakes those whose leader's store is gone or was started
//!   again ([`watch`], [`liveness`]). The same watch tells replicas that are awake, too, that their leader's store is lost
//!   (`replica::succession`).
//!
//! What is decided, is decided by pure functions ([`judge`]). Safety rests on none of this: terms, logs and leases are what
//! they are, and a lease runs out by the clock whether anybody sleeps or not.

pub(crate) mod activity;
pub(crate) mod judge;
pub(crate) mod liveness;
mod settle;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::ids::StoreId;
use holdfast_common::net;
use holdfast_common::proto;
use holdfast_common::proto::hibernation::{HereIAm, MAX_REPLICAS, Sleep, SleepAnswer, Wake};
use tokio_util::sync::CancellationToken;

use self::liveness::Liveness;
use crate::host::Host;
use crate::metrics::Cause;

/// What all replicas of a store share of it.
pub(crate) struct Dormitory {
    /// Drawn at each start of the process.
    pub incarnation: u64,
    /// How long a leader must have led undisturbed; none for never.
    pub after: Option<Duration>,
    /// Time between two heartbeats, and between two questions whether a store lives.
    pub heartbeat: Duration,
    /// The shortest election timeout.
    pub election_min: Duration,
    /// Which of the other stores live.
    pub liveness: Liveness,
}

/// Looks after who sleeps here, and who follows a leader elsewhere, until `shutdown`.
pub(crate) async fn run(host: Arc<Host>, shutdown: CancellationToken) {
    let settle = async {
        if let Some(after) = host.site.dormitory.after {
            settle::run(&host, after).await;
        }
    };
    let both = async { tokio::join!(settle, watch::run(&host)) };
    shutdown.run_until_cancelled(both).await;
}

/// The incarnation in which `store` answered, if it did and is the one that was asked.
pub(crate) fn incarnation(store: StoreId, answer: Result<Bytes, net::Error>) -> Option<u64> {
    let here = proto::decode::<HereIAm>(&answer.ok()?).ok()?;
    (here.store == store).then_some(here.incarnation)
}

impl Host {
    /// Puts to sleep what may sleep of the replicas that a leader's store names.
    pub(crate) fn sleep(&self, request: &Sleep) -> SleepAnswer {
        let asleep = request.replicas.iter().take(MAX_REPLICAS).map(|bedtime| {
            let replica = self.replica(bedtime.route.range);
            let replica = replica.filter(|replica| replica.id == bedtime.route.to);
            replica.is_some_and(|replica| replica.tuck_in(bedtime, request.incarnation))
        });
        SleepAnswer {
            incarnation: self.site.dormitory.incarnation,
            asleep: asleep.collect(),
        }
    }

    /// Wakes a replica, for somebody asks something of another one of its group.
    pub(crate) fn wake(&self, request: Wake) {
        let replica = self.replica(request.route.range);
        if let Some(replica) = replica.filter(|replica| replica.id == request.route.to) {
            replica.wake(Cause::Asked);
        }
    }

    /// Says that this store lives.
    pub(crate) fn here_i_am(&self) -> HereIAm {
        HereIAm {
            store: self.site.store,
            incarnation: self.site.dormitory.incarnation,
        }
    }
}
