//! Several machines in one thread: what a simulation puts in the place of network, disk and wall clock.
//!
//! The code of stores, placement members and routers is the same as in production. Each simulated machine has a runtime of its
//! own, with one thread and a paused clock, and whoever drives the simulation lets one after the other run for a millisecond
//! of simulated time. While a machine runs ([`World::run`]), connections go through the world's [`network`], databases lie on
//! its [`volume`]s, the wall clock is its own, and work that would go to another thread is done at once. So nothing depends on the
//! machine that this runs on, and the same seed gives the same run.
//!
//! Outside of [`World::run`], with this feature on, everything is as it is without it.

#[cfg(feature = "failpoints")]
pub mod falls;
pub mod network;
pub mod tcp;
pub mod volume;

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::network::Network;
use self::volume::Volumes;

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// A simulated world.
pub struct World {
    network: Mutex<Network>,
    volumes: Mutex<Volumes>,
    #[cfg(feature = "failpoints")]
    falls: Mutex<falls::Falls>,
    /// Draws for all that has no generator of its own.
    random: Mutex<StdRng>,
}

/// The machine that runs now.
#[derive(Clone)]
pub(crate) struct Here {
    pub(crate) world: Arc<World>,
    pub(crate) machine: IpAddr,
    wall_ms: u64,
}

impl World {
    /// A world without machines.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            network: Mutex::new(Network::new(StdRng::seed_from_u64(seed ^ 0x6e65_7477))),
            volumes: Mutex::new(Volumes::default()),
            #[cfg(feature = "failpoints")]
            falls: Mutex::default(),
            random: Mutex::new(StdRng::seed_from_u64(seed ^ 0x7261_6e64)),
        })
    }

    /// Its network, to be broken and to be moved on.
    pub fn network(&self) -> parking_lot::MutexGuard<'_, Network> {
        self.network.lock()
    }

    /// Its disks.
    pub fn volumes(&self) -> parking_lot::MutexGuard<'_, Volumes> {
        self.volumes.lock()
    }

    /// Processes that are to end at a step of theirs.
    #[cfg(feature = "failpoints")]
    pub fn falls(&self) -> parking_lot::MutexGuard<'_, falls::Falls> {
        self.falls.lock()
    }

    /// Its randomness.
    pub fn random(&self) -> parking_lot::MutexGuard<'_, StdRng> {
        self.random.lock()
    }

    /// Does something as a machine whose wall clock shows `wall_ms`.
    pub fn run<T>(self: &Arc<Self>, machine: IpAddr, wall_ms: u64, work: impl FnOnce() -> T) -> T {
        let here = Here {
            world: self.clone(),
            machine,
            wall_ms,
        };
        let before = HERE.replace(Some(here));
        let _back = Back(before);
        work()
    }
}

/// Restores who ran before, also when the work panics.
struct Back(Option<Here>);

impl Drop for Back {
    fn drop(&mut self) {
        HERE.set(self.0.take());
    }
}

/// The machine that runs now, if one does.
pub(crate) fn here() -> Option<Here> {
    HERE.with_borrow(Clone::clone)
}

/// Whether a simulated machine runs now.
pub fn is_on() -> bool {
    HERE.with_borrow(Option::is_some)
}

/// The wall clock of the machine that runs now, milliseconds since the Unix epoch.
pub(crate) fn wall_ms() -> Option<u64> {
    HERE.with_borrow(|here| here.as_ref().map(|here| here.wall_ms))
}
