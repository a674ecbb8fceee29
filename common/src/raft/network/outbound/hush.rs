//! Keeps a replica's heartbeats back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// While it is set, the heartbeats of one replica go nowhere. Clones are the same.
///
/// A leader that has lost its majority has to fall silent now and then, so that followers that still hear it can elect
/// another. openraft can do that by itself, counting from the last acknowledgement of a majority; but for a leader whose
/// group slept that is long ago, and the silence would begin just when somebody asks for it. So whoever knows that a group
/// slept decides.
#[derive(Clone, Debug, Default)]
pub struct Hush(Arc<AtomicBool>);

impl Hush {
    /// Holds heartbeats back from now on, or lets them go.
    pub fn set(&self, silent: bool) {
        self.0.store(silent, Ordering::Relaxed);
    }

    /// Whether they are held back.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
