//! What there is to say about each replica.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::ReplicaId;
use holdfast_common::proto::placement::{HotSpot, Leading, PeerProgress, ReplicaReport};
use holdfast_common::range::Descriptor;

use super::rates::Rates;
use crate::load::{Totals, judge};
use crate::replica::Replica;
use crate::shared::RangeView;

/// Requests sampled a second, about, at a busy range.
const SAMPLES_PER_SECOND: f64 = 25.0;

/// A range is sampled until its load falls below this part of what it had to exceed.
const STILL_BUSY: f64 = 0.8;

/// Makes reports, and keeps what was observed between them.
pub(super) struct Reporter {
    observed: HashMap<ReplicaId, Observed>,
    at: Instant,
}

/// What was observed of a replica since it began to lead with these bounds, or to follow.
#[derive(Clone, Copy, Debug)]
struct Observed {
    rates: Rates,
    leads: bool,
    bounds: u64,
    /// For how long the range has been busy enough to be sampled.
    busy: Option<Duration>,
}

impl Observed {
    fn begin(totals: Totals, (leads, bounds): (bool, u64)) -> Self {
        Self {
            rates: Rates::begin(totals),
            leads,
            bounds,
            busy: None,
        }
    }

    /// Notes whether it is busy, and has its requests sampled if so.
    fn watch(&mut self, replica: &Replica, sample_above: u64, elapsed: Duration) {
        let (load, enough) = (self.rates.load().units(), sample_above as f64);
        let is_busy = match self.busy {
            None => load >= enough,
            Some(_) => load >= enough * STILL_BUSY,
        };
        if self.leads && self.rates.is_measured() && is_busy {
            self.busy = Some(self.busy.map_or(Duration::ZERO, |busy| busy + elapsed));
            replica.load.sample_every((load / SAMPLES_PER_SECOND) as u64);
        } else if self.busy.take().is_some() {
            replica.load.stop_sampling();
        }
    }

    fn hot_spot(&self, replica: &Replica, view: &RangeView) -> Option<Box<HotSpot>> {
        let (busy, descriptor) = (self.busy?, view.descriptor.as_ref()?);
        let seconds = u32::try_from(busy.as_secs()).unwrap_or(u32::MAX);
        Some(Box::new(judge(&replica.load.sample(), &descriptor.span, seconds)))
    }
}

impl Reporter {
    pub(super) fn new() -> Self {
        Self {
            observed: HashMap::new(),
            at: clock::now(),
        }
    }

    /// Reports on all replicas, as they are now. Ranges with more to do than `sample_above` units a second are sampled.
    pub(super) fn reports(&mut self, replicas: &[Arc<Replica>], sample_above: u64) -> Vec<ReplicaReport> {
        let elapsed = self.at.elapsed();
        self.at = clock::now();
        let mut before = std::mem::take(&mut self.observed);
        let reports = replicas.iter().map(|replica| {
            let (view, totals) = (replica.shared.get(), replica.load.totals());
            let bounds = view
                .descriptor
                .as_ref()
                .map_or(0, |descriptor| descriptor.epoch.bounds);
            let now = (replica.leads(), bounds);
            let observed = match before.remove(&replica.id) {
                Some(mut known) if (known.leads, known.bounds) == now => {
                    known.rates.observe(totals, elapsed);
                    known.watch(replica, sample_above, elapsed);
                    known
                }
                // What it was asked as a follower, or with other bounds, says nothing of what it will be asked now.
                known => {
                    if known.is_some_and(|known| known.busy.is_some()) {
                        replica.load.stop_sampling();
                    }
                    Observed::begin(totals, now)
                }
            };
            self.observed.insert(replica.id, observed);
            report(replica, view, &observed)
        });
        reports.collect()
    }
}

fn report(replica: &Replica, view: RangeView, observed: &Observed) -> ReplicaReport {
    let load = observed.rates.load();
    let leading = observed.leads.then(|| Leading {
        size_bytes: view.size_bytes,
        keys: view.keys,
        reads_per_second: load.reads,
        writes_per_second: load.writes,
        peers: peers(replica),
        read_bytes_per_second: load.read_bytes,
        written_bytes_per_second: load.written_bytes,
        is_measured: observed.rates.is_measured(),
        hot: observed.hot_spot(replica, &view),
    });
    let descriptor = view.descriptor.map_or_else(
        || Descriptor::unknown(replica.range),
        |descriptor| (*descriptor).clone(),
    );
    ReplicaReport {
        replica: replica.id,
        descriptor,
        term: replica.term(),
        leading,
    }
}

fn peers(replica: &Replica) -> Vec<PeerProgress> {
    let progress = |peer: crate::replica::Peer| PeerProgress {
        replica: peer.id,
        lag_entries: peer.lag,
        live: peer.live,
    };
    replica.peers().into_iter().map(progress).collect()
}
