//! What all replicas of a store share.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::StoreId;
use holdfast_common::net::Client;
use holdfast_common::raft::network::Staging;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::addresses::Addresses;
use crate::check::Checks;
use crate::disk::DiskGuard;
use crate::engine::Engine;
use crate::hibernate::Dormitory;
use crate::memory::Room;
use crate::ranges::Ranges;
use crate::read::lease::Terms;
use crate::replica::queue::Bounds;

/// The store, as its replicas see it.
pub(crate) struct Site {
    /// Its id.
    pub store: StoreId,
    /// Where everything applied lies.
    pub engine: Engine,
    /// How long leases last here.
    pub terms: Terms,
    /// Calls other stores.
    pub client: Client,
    /// Where the other stores are.
    pub addresses: Arc<Addresses>,
    /// Which parts of the key space lie here.
    pub ranges: Ranges,
    /// Snapshots on their way, and the limits on them.
    pub staging: Arc<Staging>,
    /// Refuses puts when the disk is nearly full.
    pub disk: Arc<DiskGuard>,
    /// Something happened that the placement driver should hear of soon.
    pub changed: Notify,
    /// Bounds on what waits at one replica.
    pub waiting: Bounds,
    /// Room for the writes that wait, or are under way, at all of them.
    pub room: Room,
    /// Ends the process when its state can't be trusted any more.
    pub alarm: Alarm,
    /// The store was removed from its cluster: nothing is served any more.
    pub removed: CancellationToken,
    /// Set while the engine's background work is too far behind to take new writes.
    pub pressed: AtomicBool,
    /// Who of its replicas sleeps, and on what.
    pub dormitory: Dormitory,
    /// What is known of whether replicas hold the same.
    pub checks: Checks,
    /// When the process started.
    pub started: Instant,
}

impl Site {
    /// Whether the engine asks for a pause.
    pub(crate) fn is_pressed(&self) -> bool {
        self.pressed.load(Ordering::Relaxed)
    }

    /// What is "now" for expiry: the wall clock, but never before the last write's time.
    pub(crate) fn expiry_now_ms(last_revision_ms: u64) -> u64 {
        clock::wall_ms().max(last_revision_ms)
    }
}

/// Says once that the process must exit, and why.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    raised: CancellationToken,
    reason: OnceLock<String>,
}

impl Alarm {
    /// Raises it; the first reason stays.
    pub(crate) fn raise(&self, reason: String) {
        tracing::error!(reason, "fatal: this store must stop");
        let _ = self.reason.set(reason);
        self.raised.cancel();
    }

    /// Waits until it is raised.
    pub(crate) async fn raised(&self) -> String {
        self.raised.cancelled().await;
        self.reason.get().cloned().unwrap_or_default()
    }
}
