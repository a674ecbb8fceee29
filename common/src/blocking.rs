//! Work that blocks: away from the threads that tasks run on.

use std::io;

/// The runtime ended, or the work panicked, before there was a result.
#[derive(Debug, thiserror::Error)]
#[error("the work was interrupted: the process is stopping, or the work panicked")]
pub struct Interrupted;

impl From<Interrupted> for io::Error {
    fn from(interrupted: Interrupted) -> Self {
        Self::other(interrupted)
    }
}

/// Does the work where blocking is allowed, and waits for it.
///
/// # Errors
/// [`Interrupted`]. When the caller goes away meanwhile, the work is done all the same.
pub async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Interrupted> {
    #[cfg(feature = "simulation")]
    if crate::simulation::is_on() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| Interrupted)
}

/// Has the work done where blocking is allowed, and does not wait.
pub fn start(work: impl FnOnce() + Send + 'static) {
    #[cfg(feature = "simulation")]
    if crate::simulation::is_on() {
        return work();
    }
    drop(tokio::task::spawn_blocking(work));
}
