//! Puts ranges that are led here to sleep: a round at a time, in batches, one message for each peer store.
//!
//! Followers are asked first; those that agree sleep from then on, whatever becomes of it: they hear of it when the store of
//! their leader is lost, whether that one sleeps or not. The leader sleeps once all have agreed.

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
use crate::replica::Replica;

/// Time between two rounds; at most, when ranges are to sleep after less.
const INTERVAL: Duration = Duration::from_secs(1);

/// Most ranges in one round.
const BATCH: usize = 512;

const _: () = assert!(BATCH <= MAX_REPLICAS, "a round fits in a message");

/// A leader that would sleep if the others do.
struct Tired {
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
        let tired = tired(host, after);
        if !tired.is_empty() {
            settle(host, tired).await;
        }
    }
}

/// The leaders that may sleep.
fn tired(host: &Host, after: Duration) -> Vec<Tired> {
    let now = clock::now();
    let leaders = host.replicas().into_iter();
    let leaders = leaders.filter(|replica| replica.is_tired(after, now));
    let tired = leaders.filter_map(|replica| {
        let plan = replica.plan_sleep()?;
        Some(Tired { replica, plan })
    });
    tired.take(BATCH).collect()
}

async fn settle(host: &Host, tired: Vec<Tired>) {
    let mut questions: HashMap<StoreId, Vec<Bedtime>> = HashMap::new();
    for Tired { replica, plan } in &tired {
        for (to, store) in &plan.ask {
            questions.entry(*store).or_default().push(Bedtime {
                route: Route {
                    range: replica.range,
                    from: replica.id,
                    to: *to,
                },
                term: plan.term,
            });
        }
    }
    let asked = questions
        .into_iter()
        .map(|(store, replicas)| ask(host, store, replicas));
    let asleep: Answers = join_all(asked).await.into_iter().flatten().collect();
    for Tired { replica, plan } in tired {
        match bed(&replica, &plan, &asleep) {
            Some(bed) => replica.lie_down(&plan, bed),
            None => replica.put_off_sleep(),
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
fn bed(replica: &Replica, plan: &Plan, asleep: &Answers) -> Option<Bed> {
    let agreed = plan.ask.iter().map(|(id, _)| asleep.get(id).copied());
    Some(Bed {
        leads: true,
        term: plan.term,
        leader: replica.id,
        relies_on: agreed.collect::<Option<_>>()?,
        left: plan.leave.clone(),
        rank: 0,
    })
}
