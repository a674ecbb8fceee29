//! What a store looks after regularly, for all its replicas in one task.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use holdfast_common::telemetry::peer_label;
use tokio_util::sync::CancellationToken;

use crate::host::Host;
use crate::metrics::{self, Groups};
use crate::read::lease::Voting;
use crate::replica::Replica;
use crate::replica::retention::Compaction;

/// Time between two rounds.
const INTERVAL: Duration = Duration::from_millis(200);

/// Rounds between two looks at those, too, who slept at the last one and had been asked for nothing: there may be thousands.
const ROUNDS_PER_ROLL_CALL: u32 = 5;

/// Rounds between two counts of the groups.
const ROUNDS_PER_COUNT: u32 = 10;

/// Rounds between two looks at the sizes of ranges.
const ROUNDS_PER_SIZING: u32 = 50;

/// Runs until `shutdown`.
pub(crate) async fn run(host: Arc<Host>, shutdown: CancellationToken) {
    let mut ticks = clock::every(INTERVAL);
    let mut round = 0u32;
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        mind_the_engine(&host);
        let now = clock::now();
        // What sleeps and was asked for nothing has nothing that waits, and nothing to compact.
        let everybody = round.is_multiple_of(ROUNDS_PER_ROLL_CALL);
        let stirring: Vec<_> = host
            .replicas()
            .into_iter()
            .filter(|replica| (everybody || replica.stirred()) && replica.tend(now))
            .collect();
        for replica in &stirring {
            replica.turn_away_late(now);
            replica.mind_silence(now);
        }
        compact(&stirring, now).await;
        if round.is_multiple_of(ROUNDS_PER_COUNT) {
            count(&host);
            host.observe_storage();
        }
        if round.is_multiple_of(ROUNDS_PER_SIZING) {
            size(&host);
        }
        round = round.wrapping_add(1);
    }
}

/// One replica's compaction syncs what all of them have written, so others come along.
async fn compact(replicas: &[Arc<Replica>], now: Instant) {
    let wishes: Vec<_> = replicas.iter().map(|replica| replica.compaction(now)).collect();
    let due = wishes.contains(&Compaction::Due);
    for (replica, wish) in replicas.iter().zip(wishes) {
        if due && wish != Compaction::No {
            replica.compact().await;
        }
        replica.purge().await;
    }
}

/// Asking the engine takes its locks, so writes look at what it last said.
fn mind_the_engine(host: &Host) {
    let pressure = host.site.engine.pressure();
    let (before, now) = (host.site.is_pressed(), pressure.is_high());
    host.site.pressed.store(now, Ordering::Relaxed);
    if now && !before {
        pressure.causes().into_iter().for_each(metrics::stalled);
        tracing::warn!(?pressure, "the engine is behind: writes are turned away");
    }
}

fn count(host: &Host) {
    let mut groups = Groups::default();
    let mut slowest = BTreeMap::new();
    let (mut leaders, mut followers) = (0, 0);
    for replica in host.replicas() {
        match replica.bed() {
            Some(bed) if bed.leads => leaders += 1,
            Some(_) => followers += 1,
            None => {}
        }
        let standing = replica.standing();
        if standing.leads {
            groups.leader += 1;
            observe_lag(&replica, &mut slowest);
        } else if replica.leader().is_none() {
            groups.no_leader += 1;
        } else if standing.voting == Voting::No {
            groups.learner += 1;
        } else {
            groups.follower += 1;
        }
    }
    metrics::groups(groups);
    metrics::asleep(leaders, followers);
    metrics::slowest(&slowest);
}

/// How far the followers of a range are behind, and the slowest on each store.
fn observe_lag(replica: &Replica, slowest: &mut BTreeMap<String, u64>) {
    let Some(descriptor) = replica.descriptor() else {
        return;
    };
    for peer in replica.peers() {
        let store = descriptor.replica(peer.id).map(|member| member.store);
        let (Some(lag), Some(store)) = (peer.lag, store) else {
            continue;
        };
        metrics::lags(lag);
        let most = slowest.entry(peer_label(store)).or_default();
        *most = lag.max(*most);
    }
}

/// Samples the sizes of the ranges that are led here.
fn size(host: &Host) {
    let led = host.replicas().into_iter().filter(|replica| replica.leads());
    led.for_each(|replica| metrics::range_size(replica.shared.get().size_bytes));
}
