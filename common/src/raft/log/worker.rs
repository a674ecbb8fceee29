//! Where the committer works: on a thread of its own.

use std::io;
use std::thread::{self, JoinHandle};

use super::committer::Committer;

/// The committer at work.
pub(super) enum Worker {
    /// On its thread.
    Thread(JoinHandle<()>),
    /// In a task of a simulated machine.
    #[cfg(feature = "simulation")]
    Task(tokio::task::JoinHandle<()>),
}

impl Worker {
    /// Starts it.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub(super) fn start(committer: Committer) -> io::Result<Self> {
        #[cfg(feature = "simulation")]
        if crate::simulation::is_on() {
            return Ok(Self::Task(tokio::spawn(committer.run_simulated())));
        }
        let thread = thread::Builder::new().name("raft-log".to_owned());
        Ok(Self::Thread(thread.spawn(move || committer.run())?))
    }

    /// Waits until it has ended, which its queue has told it to. A panic has been reported through the log's health.
    pub(super) async fn ended(self) {
        match self {
            Self::Thread(thread) => {
                let _ = tokio::task::spawn_blocking(move || thread.join()).await;
            }
            #[cfg(feature = "simulation")]
            Self::Task(task) => drop(task.await),
        }
    }

    /// As [`ended`](Self::ended), where waiting blocks.
    pub(super) fn join(self) {
        match self {
            // A callback may drop the last handle, on the committer's own thread.
            Self::Thread(thread) if thread.thread().id() != thread::current().id() => {
                let _ = thread.join();
            }
            Self::Thread(_) => {}
            #[cfg(feature = "simulation")]
            Self::Task(_) => {}
        }
    }
}
