//! What there is to say about each replica.

use std::collections::HashMap;
use std::sync::Arc;

use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::ReplicaId;
use holdfast_common::proto::placement::{Leading, PeerProgress, ReplicaReport};
use holdfast_common::range::Descriptor;

use super::rates::Rate;
use crate::replica::Replica;

/// Makes reports, and keeps the rates between them.
pub(super) struct Reporter {
    rates: HashMap<ReplicaId, (Rate, Rate)>,
    observed: Instant,
}

impl Reporter {
    pub(super) fn new() -> Self {
        Self {
            rates: HashMap::new(),
            observed: clock::now(),
        }
    }

    /// Reports on all replicas, as they are now.
    pub(super) fn reports(&mut self, replicas: &[Arc<Replica>]) -> Vec<ReplicaReport> {
        let elapsed = self.observed.elapsed();
        self.observed = clock::now();
        let mut before = std::mem::take(&mut self.rates);
        let reports = replicas.iter().map(|replica| {
            let (mut reads, mut writes) = before.remove(&replica.id).unwrap_or_default();
            let totals = replica.totals();
            reads.observe(totals.0, elapsed);
            writes.observe(totals.1, elapsed);
            self.rates.insert(replica.id, (reads, writes));
            report(replica, reads, writes)
        });
        reports.collect()
    }
}

fn report(replica: &Replica, reads: Rate, writes: Rate) -> ReplicaReport {
    let view = replica.shared.get();
    let leading = replica.leads().then(|| Leading {
        size_bytes: view.size_bytes,
        keys: view.keys,
        reads_per_second: reads.per_second(),
        writes_per_second: writes.per_second(),
        peers: peers(replica),
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
