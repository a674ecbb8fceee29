//! Watches the stores that replicas here rely on: wakes the sleepers that have to, and has the heirs of lost leaders stand.
//!
//! One question a heartbeat interval to each such store stands for the heartbeats of all the ranges shared with it. Who has
//! to act is looked at again and again, from what replicas rely on and what is known of the stores now: so neither a
//! message that came late nor one that was lost leaves a replica asleep under a leader that is gone. When a store is lost
//! that leads thousands, its heirs are roused a number at a time.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::StoreId;
use holdfast_common::net::Lane;
use holdfast_common::proto::hibernation::AreYouThere;
use holdfast_common::proto::{self, method};

use super::judge;
use super::liveness::Contact;
use crate::host::Host;
use crate::metrics::Cause;
use crate::replica::Replica;

/// Most replicas roused in one look: elections cost both sides work.
const MAX_ROUSED: usize = 128;

/// Time between two looks at all replicas while nothing happens.
const CALM: Duration = Duration::from_secs(1);

/// For how long after a change they are looked at with every question.
const ALERT: Duration = Duration::from_secs(5);

/// What was known of the watched stores at a look: whether they lived, and in which incarnation.
type Known = HashMap<StoreId, (Discriminant<Contact>, Option<u64>)>;

/// Watches for as long as it is polled.
pub(super) async fn run(host: &Arc<Host>) {
    let dormitory = &host.site.dormitory;
    let mut ticks = clock::every(dormitory.heartbeat);
    let mut known = Known::new();
    let (mut last, mut looked, mut alert_until) = (clock::now(), clock::now(), clock::now());
    loop {
        ticks.tick().await;
        let now = clock::now();
        let gap = now - std::mem::replace(&mut last, now);
        if gap > 2 * dormitory.heartbeat {
            dormitory.liveness.excuse(gap - dormitory.heartbeat);
        }
        let watched = dormitory.liveness.watched(now);
        for store in &watched {
            ask(host, *store, now);
        }
        let state = |store| match dormitory.liveness.contact(store, now) {
            Contact::Lives(incarnation) => (discriminant(&Contact::Lives(0)), Some(incarnation)),
            other => (discriminant(&other), None),
        };
        let present: Known = watched.iter().map(|store| (*store, state(*store))).collect();
        if present != known {
            send_at_once(host, &known, &present);
            known = present;
            alert_until = now + ALERT;
        }
        if now < alert_until || now - looked >= CALM {
            looked = now;
            if look(host, now) > 0 {
                alert_until = now + ALERT;
            }
        }
    }
}

/// Has leaders send what stores lack that are back.
fn send_at_once(host: &Host, before: &Known, present: &Known) {
    let is_back = |store: &StoreId| {
        let incarnation = |known: &Known| known.get(store).and_then(|(_, incarnation)| *incarnation);
        incarnation(present).is_some() && incarnation(present) != incarnation(before)
    };
    for store in present.keys().filter(|store| is_back(store)) {
        host.replicas()
            .iter()
            .for_each(|replica| replica.send_at_once(*store));
    }
}

/// Asks a store whether it lives. An answer counts from when it was asked for.
fn ask(host: &Arc<Host>, store: StoreId, now: Instant) {
    let Some(address) = host.site.addresses.get(store) else {
        return;
    };
    let host = host.clone();
    let peer = host.site.client.peer(&address, Lane::Fast);
    // A late answer is one all the same: several may be under way, but none for longer than a suspicion takes.
    let deadline = now + host.site.terms.lease;
    let body = proto::encode(&AreYouThere {});
    peer.call_with(method::STORE_ALIVE, body, deadline, move |answer| {
        if let Some(incarnation) = super::incarnation(store, answer) {
            host.site.dormitory.liveness.heard(store, incarnation, now);
        }
    });
}

/// Rouses who has to be; how many. Of many, the first heirs come first.
fn look(host: &Host, now: Instant) -> usize {
    let mut due: Vec<_> = host
        .replicas()
        .into_iter()
        .filter_map(|replica| due(host, replica, now))
        .collect();
    due.sort_by_key(|due| due.rank);
    due.truncate(MAX_ROUSED);
    for Due { replica, cause, .. } in &due {
        cause.iter().for_each(|cause| replica.wake(*cause));
        if matches!(cause, None | Some(Cause::LeaderLost)) && host.may_stand(replica) {
            replica.stand();
        }
    }
    due.len()
}

/// A replica that has to be roused.
struct Due {
    rank: u32,
    replica: Arc<Replica>,
    /// Why a sleeper wakes; nothing for one that is awake, and shall stand for election.
    cause: Option<Cause>,
}

/// Whether `replica` has to be roused; and which stores it wants to know about.
fn due(host: &Host, replica: Arc<Replica>, now: Instant) -> Option<Due> {
    let dormitory = &host.site.dormitory;
    let contact = |store| dormitory.liveness.contact(store, now);
    let Some(bed) = replica.bed() else {
        for store in replica.fellow_stores() {
            dormitory.liveness.want(store, now);
        }
        let (store, rank) = replica.follows()?;
        let bereft = dormitory.liveness.bereft(store, now);
        let stands = judge::stands(bereft, rank, dormitory.heartbeat) && host.may_stand(&replica);
        return stands.then_some(Due {
            rank,
            replica,
            cause: None,
        });
    };
    let relies_on = bed.relies_on.iter().map(|(store, _)| *store);
    relies_on
        .chain(bed.left.iter().copied())
        .for_each(|store| dormitory.liveness.want(store, now));
    if let Some(smaller) = judge::without_lost(&bed, contact) {
        replica.lie_on(smaller, &bed);
    }
    let cause = judge::wakes(&bed, contact, dormitory.heartbeat)?;
    Some(Due {
        rank: bed.rank,
        replica,
        cause: Some(cause),
    })
}
