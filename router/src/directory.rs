//! Where to send a request: the range cache, the addresses of the stores, and the connections to them.
//!
//! Requests read it, the map feed and the answers of stores teach it. Whoever finds no route can wait for the next change.

use std::collections::HashMap;
use std::sync::Arc;

use holdfast_common::ids::{RangeId, StoreId};
use holdfast_common::key::Span;
use holdfast_common::net::{Client, Lane, Peer};
use holdfast_common::proto::kv;
use holdfast_common::proto::placement::{MapEvent, StoreRoute};
use holdfast_common::range::Role;
use parking_lot::RwLock;
use serde::Serialize;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::range_cache::{RangeCache, Route};

/// Which keys a request is about, as far as finding its range goes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// The range that holds this key.
    At(&'a [u8]),
    /// The range that holds the keys just before this bound; empty for the end of the key space.
    Before(&'a [u8]),
}

/// Which replica of the range is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The leader, or failing that whoever may know it.
    Leader,
    /// Any replica: a different one for each number.
    Any(usize),
}

/// A store to ask.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// The range.
    pub route: Arc<Route>,
    /// The store.
    pub store: StoreId,
    /// The way to it.
    pub peers: Arc<Peers>,
}

/// Why there is no store to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// The range is not known.
    Route,
    /// The range is known; no store that holds it, and was not tried yet, has a known address.
    Store,
}

/// The connections to one store, one a lane.
#[derive(Debug)]
pub(crate) struct Peers {
    fast: Peer,
    bulk: Peer,
}

impl Peers {
    /// The connection for what takes this lane.
    pub(crate) fn by(&self, lane: Lane) -> &Peer {
        match lane {
            Lane::Fast => &self.fast,
            Lane::Bulk => &self.bulk,
        }
    }
}

/// The cluster, as far as a router knows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Overview {
    /// Ranges.
    pub ranges: usize,
    /// Ranges of which no leader is known.
    pub ranges_without_leader: usize,
    /// Stores, by id.
    pub stores: Vec<StoreOverview>,
}

/// A store, as far as a router knows it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StoreOverview {
    /// Its id.
    pub id: StoreId,
    /// What is dialed for RPC.
    pub address: String,
    /// Ranges that it leads.
    pub leaders: usize,
}

/// See the module.
pub(crate) struct Directory {
    client: Client,
    known: RwLock<Known>,
    /// Changes whenever anything is learned that may give a route to someone without.
    changed: watch::Sender<()>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Known {
    ranges: RangeCache,
    stores: HashMap<StoreId, Arc<Peers>>,
}

impl Directory {
    /// Knows nothing yet; dials with `client`.
    pub(crate) fn new(client: Client, metrics: Arc<Metrics>) -> Self {
        Self {
            client,
            known: RwLock::default(),
            changed: watch::Sender::new(()),
            metrics,
        }
    }

    /// Whether any route is known.
    pub(crate) fn is_ready(&self) -> bool {
        !self.known.read().ranges.is_empty()
    }

    /// Whether the range is known.
    pub(crate) fn has_route(&self, place: Place<'_>) -> bool {
        self.known.read().route(place).is_some()
    }

    /// The first parts into which ranges cut a span, on the way from its near end, as far as they are known.
    pub(crate) fn parts(&self, span: &Span, reverse: bool, most: usize) -> Vec<Span> {
        let known = self.known.read();
        let (mut parts, mut rest) = (Vec::new(), Some(span.clone()));
        while let Some(left) = rest.filter(|_| parts.len() < most) {
            let place = match reverse {
                false => Place::At(left.start()),
                true => Place::Before(left.end()),
            };
            let route = known.route(place);
            let Some(part) = route.and_then(|route| left.intersection(&route.span)) else {
                break;
            };
            rest = beyond(&left, &part, reverse);
            parts.push(part);
        }
        parts
    }

    /// What is known of the cluster, for people.
    pub(crate) fn overview(&self) -> Overview {
        let known = self.known.read();
        let mut overview = Overview {
            ranges: known.ranges.len(),
            ranges_without_leader: 0,
            stores: Vec::new(),
        };
        let mut leaders: HashMap<StoreId, usize> = HashMap::new();
        for route in known.ranges.routes() {
            match route.leader {
                Some(leader) => *leaders.entry(leader).or_default() += 1,
                None => overview.ranges_without_leader += 1,
            }
        }
        let store = |(id, peers): (&StoreId, &Arc<Peers>)| StoreOverview {
            id: *id,
            address: peers.fast.addr().to_owned(),
            leaders: leaders.get(id).copied().unwrap_or(0),
        };
        overview.stores = known.stores.iter().map(store).collect();
        overview.stores.sort_by_key(|store| store.id);
        overview
    }

    /// Finds the range and a store to ask, other than those in `tried`.
    pub(crate) fn choose(&self, place: Place<'_>, ask: Ask, tried: &[StoreId]) -> Result<Choice, Missing> {
        let known = self.known.read();
        let route = known.route(place).ok_or(Missing::Route)?;
        let peers_of = |store: StoreId| known.stores.get(&store).filter(|_| !tried.contains(&store));
        candidates(route, ask)
            .find_map(|store| Some((store, peers_of(store)?.clone())))
            .map(|(store, peers)| Choice {
                route: route.clone(),
                store,
                peers,
            })
            .ok_or(Missing::Store)
    }

    /// Notifies of every later change of what is known.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes in an event of the placement driver's stream.
    pub(crate) fn learn_map(&self, event: MapEvent) {
        let mut known = self.known.write();
        for StoreRoute { id, rpc_address } in event.stores {
            self.set_address(&mut known, id, &rpc_address);
        }
        if event.full {
            known.ranges.replace(event.ranges);
        } else {
            for range in event.gone {
                known.ranges.remove(range);
            }
            for range in event.ranges {
                known.ranges.insert(range.descriptor, range.leader);
            }
        }
        self.tell(&known);
    }

    /// Takes in what a store told when it refused a request.
    pub(crate) fn learn_refusal(&self, choice: &Choice, error: &kv::Error) {
        match error {
            kv::Error::NotLeader { leader, descriptor } => {
                let mut known = self.known.write();
                let range = descriptor.id;
                known.ranges.insert((**descriptor).clone(), None);
                match leader {
                    Some(hint) if hint.store != choice.store => {
                        if let Some(address) = &hint.address {
                            self.set_address(&mut known, hint.store, address);
                        }
                        known.ranges.set_leader(range, &choice.route.span, hint.store);
                    }
                    _ => {
                        known.ranges.clear_leader(range, &choice.route.span, choice.store);
                    }
                }
                self.tell(&known);
            }
            kv::Error::StaleEpoch { current } => {
                let mut known = self.known.write();
                for descriptor in current {
                    known.ranges.insert(descriptor.clone(), None);
                }
                self.tell(&known);
            }
            _ => {}
        }
    }

    /// Notes that a presumed leader does not answer, so that others do not go there first.
    pub(crate) fn suspect(&self, choice: &Choice) {
        let range: RangeId = choice.route.descriptor.id;
        if choice.route.leader == Some(choice.store) {
            self.known
                .write()
                .ranges
                .clear_leader(range, &choice.route.span, choice.store);
        }
    }

    fn set_address(&self, known: &mut Known, store: StoreId, address: &str) {
        let present = known.stores.get(&store).map(|peers| peers.fast.addr());
        if present == Some(address) {
            return;
        }
        let gone = present.map(str::to_owned);
        let peers = Peers {
            fast: self.client.peer(address, Lane::Fast),
            bulk: self.client.peer(address, Lane::Bulk),
        };
        known.stores.insert(store, Arc::new(peers));
        // Another store may have taken the address over.
        if let Some(gone) = gone
            && known.stores.values().all(|peers| peers.fast.addr() != gone)
        {
            self.client.forget(&gone);
        }
    }

    fn tell(&self, known: &Known) {
        self.metrics.cache_entries(known.ranges.len());
        self.changed.send_replace(());
    }
}

impl Known {
    fn route(&self, place: Place<'_>) -> Option<&Arc<Route>> {
        match place {
            Place::At(key) => self.ranges.lookup(key),
            Place::Before(end) => self.ranges.lookup_before(end),
        }
    }
}

/// The stores to ask, best first. A learner is asked only for what any replica can answer.
fn candidates(route: &Route, ask: Ask) -> impl Iterator<Item = StoreId> + '_ {
    let replicas = &route.descriptor.replicas;
    let (first, offset) = match ask {
        Ask::Leader => (route.leader, 0),
        Ask::Any(number) => (None, number % replicas.len().max(1)),
    };
    let rotated = replicas[offset..].iter().chain(&replicas[..offset]);
    let eligible = rotated.filter(move |replica| ask != Ask::Leader || replica.role != Role::Learner);
    let others = eligible
        .map(|replica| replica.store)
        .filter(move |store| Some(*store) != first);
    first.into_iter().chain(others)
}

/// What is left of a span behind a part of it, on the way from its near end.
pub(crate) fn beyond(span: &Span, part: &Span, reverse: bool) -> Option<Span> {
    let (left, is_over) = match reverse {
        false => (
            Span::new(part.end().clone(), span.end().clone()),
            part.end() == span.end(),
        ),
        true => (
            Span::new(span.start().clone(), part.start().clone()),
            part.start() == span.start(),
        ),
    };
    left.ok().filter(|_| !is_over)
}
