//! Processes of simulated machines that end at a step of theirs: see [`failpoint`](crate::failpoint).
//!
//! What ends is what the step's task would do next, and at the same moment the process's disks and its network: its other tasks run on
//! to the end of the millisecond, and nothing of what they do is seen by anybody.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::World;
use super::volume::Crash;
use crate::failpoint::Step;

/// What a task panics with whose process has fallen.
#[derive(Debug)]
pub struct Fallen;

/// Who is to end where, and who has.
#[derive(Default)]
pub struct Falls {
    /// Directories of machines.
    homes: HashMap<IpAddr, PathBuf>,
    /// How often each step is still to be reached before whoever reaches it falls.
    armed: BTreeMap<Step, u64>,
    fallen: BTreeMap<IpAddr, Step>,
}

impl Falls {
    /// A machine's process starts, with its disks below `home`.
    pub fn start(&mut self, machine: IpAddr, home: &Path) {
        self.homes.insert(machine, home.to_owned());
        self.fallen.remove(&machine);
    }

    /// Has whoever reaches the step for the `nth` time from now fall; none arms it no more.
    pub fn arm(&mut self, step: Step, nth: Option<u64>) {
        match nth {
            Some(nth) => self.armed.insert(step, nth),
            None => self.armed.remove(&step),
        };
    }

    /// Where a machine's process has fallen that was not started again since.
    pub fn fallen(&self, machine: IpAddr) -> Option<Step> {
        self.fallen.get(&machine).copied()
    }

    /// Counts, and tells the home of a machine that falls now.
    fn falls(&mut self, machine: IpAddr, step: Step) -> Option<PathBuf> {
        let home = self.homes.get(&machine)?;
        if self.fallen.contains_key(&machine) {
            return None;
        }
        let left = self.armed.get_mut(&step)?;
        *left = left.saturating_sub(1);
        if *left > 0 {
            return None;
        }
        self.armed.remove(&step);
        self.fallen.insert(machine, step);
        Some(home.clone())
    }
}

impl World {
    /// A machine has done a step.
    pub(crate) fn reached(&self, machine: IpAddr, step: Step) {
        let Some(home) = self.falls().falls(machine, step) else {
            return;
        };
        self.network().stop(machine, false);
        {
            let (mut volumes, mut random) = (self.volumes(), self.random());
            volumes.crash(&home, Crash::Process, &mut *random);
        }
        // No further word of this task's; unless it is being dropped already.
        if !std::thread::panicking() {
            std::panic::panic_any(Fallen);
        }
    }
}

/// Whether the process that runs now has fallen: what it writes is not seen.
pub(crate) fn has_fallen() -> bool {
    super::here().is_some_and(|here| here.world.falls().fallen(here.machine).is_some())
}
