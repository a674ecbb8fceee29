//! Puts ranges that are led here to sleep: a round at a time, in batches, one message for each peer store.
//!
//! A leader stops its timers first, and waits until none of its heartbeats can be on its way any more: one that came after
//! a follower agreed would wake that follower, and it would campaign against a leader that sleeps. The silence up to here
//! is well below an election timeout. Then the followers are asked. Whatever is asked of the leader meanwhile wakes it,
//! and so does a single refusal; its heartbeats then wake those that did agree.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use holdfast_common::clock;
use holdfast_common::ids::{ReplicaId, StoreId};
use holdfast_common::net::Lane;
use holdfast_common::proto::hibernation::{Bedtime, MAX_REPLICAS, Sleep, SleepAnswer};
use holdfast_common::proto::raft::Route;
use holdfast_common::proto::{self, method};

use super::judge::{Bed, Plan};
use crate::host::Host;
use crate::metrics::Cause;
use crate::replica::Replica;

/// Time between two rounds; at most, when ranges are to sleep after less.
const INTERVAL: Duration = Duration::from_secs(1);

/// Most ranges in one round.
const BATCH: usize = 512;

const _: () = assert!(BATCH <= MAX_REPLICAS, "a round fits in a message");

/// A leader that waits for the others.
struct Dozing {
    replica: Arc<Replica>,
    plan: Plan,
}

/// What the stores have answered: who sleeps there, and in which incarnation.
type Answers = HashMap<ReplicaId, (StoreId, u64)>;

/// Runs rounds for as long as it is polled.
pub(super) async fn run(host: &Arc<Host>, after: Duration) {
    let mut ticks = clock::every(INTERVAL.min(after));
    loop {
        ticks.tick().await;
        let dozing = doze(host, after);
        if !dozing.is_empty() {
            settle(host, dozing).await;
        }
    }
}

/// Looks at everybody who is awake, and stops the timers of leaders that may sleep.
fn doze(host: &Host, after: Duration) -> Vec<Dozing> {
    let now = clock::now();
    let awake = host.replicas().into_iter().filter(|replica| !replica.is_still());
    let tired = awake.filter(|replica| replica.is_tired(after, now));
    let dozing = tired.filter_map(|replica| {
        let plan = replica.doze()?;
        Some(Dozing { replica, plan })
    });
    dozing.take(BATCH).collect()
}

async fn settle(host: &Host, dozing: Vec<Dozing>) {
    let dormitory = &host.site.dormitory;
    // As long as a heartbeat may take.
    clock::sleep(dormitory.heartbeat).await;
    let mut questions: HashMap<StoreId, Vec<Bedtime>> = HashMap::new();
    for Dozing { replica, plan } in dozing.iter().filter(|dozing| dozing.replica.is_still()) {
        for (to, store) in &plan.ask {
            questions.entry(*store).or_default().push(Bedtime {
                route: Route {
                    range: replica.range,
                    from: replica.id,
                    to: *to,
                },
                term: plan.last.term,
                last: plan.last,
            });
        }
    }
    let asked = questions
        .into_iter()
        .map(|(store, replicas)| ask(host, store, replicas));
    let asleep: Answers = join_all(asked).await.into_iter().flatten().collect();
    for Dozing { replica, plan } in dozing {
        match bed(&replica, plan, &asleep) {
            Some(bed) => replica.lie_down(bed),
            None => replica.wake(Cause::Refused),
        }
    }
}

/// Asks a store; who sleeps there then.
async fn ask(host: &Host, store: StoreId, replicas: Vec<Bedtime>) -> Vec<(ReplicaId, (StoreId, u64))> {
    let site = &host.site;
    let Some(address) = site.addresses.get(store) else {
        return Vec::new();
    };
    let question = Sleep {
        incarnation: site.dormitory.incarnation,
        replicas,
    };
    let asked_at = clock::now();
    let deadline = asked_at + site.dormitory.election_min;
    let body = proto::encode(&question);
    let answer = site
        .client
        .call(&address, Lane::Fast, method::STORE_SLEEP, body, deadline);
    let answer = answer
        .await
        .ok()
        .and_then(|body| proto::decode::<SleepAnswer>(&body).ok());
    let Some(answer) = answer.filter(|answer| answer.asleep.len() == question.replicas.len()) else {
        return Vec::new();
    };
    site.dormitory.liveness.heard(store, answer.incarnation, asked_at);
    let pairs = question.replicas.iter().zip(answer.asleep);
    let asleep = pairs.filter(|(_, asleep)| *asleep);
    asleep
        .map(|(bedtime, _)| (bedtime.route.to, (store, answer.incarnation)))
        .collect()
}

/// Where the leader may lie down, when all have agreed.
fn bed(replica: &Replica, plan: Plan, asleep: &Answers) -> Option<Bed> {
    let agreed = plan.ask.iter().map(|(id, _)| asleep.get(id).copied());
    Some(Bed {
        leads: true,
        term: plan.last.term,
        leader: replica.id,
        relies_on: agreed.collect::<Option<_>>()?,
        left: plan.leave,
        rank: 0,
    })
}
