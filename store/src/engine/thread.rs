//! Where the data thread's work is done: on that thread, or in a task of a simulated machine.

use std::io;
use std::thread::{self, JoinHandle};

use parking_lot::Mutex;

use super::committer::Worker;

/// The data thread, to be woken and waited for.
pub(super) enum DataThread {
    /// A thread.
    Thread {
        thread: thread::Thread,
        handle: Mutex<Option<JoinHandle<()>>>,
    },
    /// A task.
    #[cfg(feature = "simulation")]
    Task(std::sync::Arc<tokio::sync::Notify>),
}

impl DataThread {
    /// Starts it.
    ///
    /// # Errors
    /// The operating system gave no thread.
    pub(super) fn start(worker: Worker) -> io::Result<Self> {
        #[cfg(feature = "simulation")]
        if holdfast_common::simulation::is_on() {
            let woken = std::sync::Arc::<tokio::sync::Notify>::default();
            tokio::spawn(worker.run_simulated(woken.clone()));
            return Ok(Self::Task(woken));
        }
        let handle = thread::Builder::new()
            .name("holdfast-data".into())
            .spawn(move || worker.run())?;
        Ok(Self::Thread {
            thread: handle.thread().clone(),
            handle: Mutex::new(Some(handle)),
        })
    }

    /// Has it look for something to do.
    pub(super) fn wake(&self) {
        match self {
            Self::Thread { thread, .. } => thread.unpark(),
            #[cfg(feature = "simulation")]
            Self::Task(woken) => woken.notify_one(),
        }
    }

    /// Waits for its end, which it was told to come to.
    pub(super) fn join(&self) {
        match self {
            Self::Thread { handle, .. } => {
                if let Some(handle) = handle.lock().take() {
                    // A panic of the thread has been reported where it happened.
                    let _ = handle.join();
                }
            }
            #[cfg(feature = "simulation")]
            Self::Task(_) => {}
        }
    }
}
