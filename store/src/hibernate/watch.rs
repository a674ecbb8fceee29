//! Watches the stores that sleepers here rely on, and wakes those that have to.
//!
//! One question a heartbeat interval to each such store stands for the heartbeats of all the ranges shared with it. Who has
//! to wake is looked at again and again, from what sleepers sleep on and what is known of the stores now: so neither a
//! message that came late nor one that was lost leaves a replica asleep under a leader that is gone. When a store is lost
//! that leads thousands, its heirs are woken a number at a time.

use std::collections::HashMap;
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::StoreId;
use holdfast_common::net::Lane;
use holdfast_common::proto::hibernation::{AreYouThere, HereIAm};
use holdfast_common::proto::{self, method};

use super::judge;
use super::liveness::Contact;
use crate::host::Host;

/// Most sleepers woken in one look: elections cost both sides work.
const MAX_WAKES: usize = 128;

/// Time between two looks at all sleepers while nothing happens.
const CALM: Duration = Duration::from_secs(1);

/// For how long after a change they are looked at with every question.
const ALERT: Duration = Duration::from_secs(5);

/// Watches for as long as it is polled.
pub(super) async fn run(host: &Arc<Host>) {
    let dormitory = &host.site.dormitory;
    let mut ticks = clock::every(dormitory.heartbeat);
    let mut known: HashMap<StoreId, (Discriminant<Contact>, Option<u64>)> = HashMap::new();
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
        let present = watched.iter().map(|store| (*store, state(*store))).collect();
        if present != known {
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
        let here = answer.ok().and_then(|body| proto::decode::<HereIAm>(&body).ok());
        if let Some(here) = here.filter(|here| here.store == store) {
            host.site.dormitory.liveness.heard(store, here.incarnation, now);
        }
    });
}

/// Wakes who has to; how many.
fn look(host: &Host, now: Instant) -> usize {
    let dormitory = &host.site.dormitory;
    let contact = |store| dormitory.liveness.contact(store, now);
    let mut woken = 0;
    for replica in host.replicas() {
        let Some(bed) = replica.bed() else { continue };
        let relies_on = bed.relies_on.iter().map(|(store, _)| *store);
        relies_on
            .chain(bed.left.iter().copied())
            .for_each(|store| dormitory.liveness.want(store, now));
        if woken < MAX_WAKES
            && let Some(cause) = judge::wakes(&bed, contact, dormitory.election_min)
        {
            replica.wake(cause);
            woken += 1;
        }
    }
    woken
}
