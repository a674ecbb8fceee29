//! From the committer back to those who wait, with one wake-up a batch.
//!
//! Waking a task of another thread's runtime costs a system call each time, and a batch has the appends of many groups. So
//! the committer hands over the whole batch, and a task of the runtime tells everyone in order: what that wakes is
//! then woken from within.

use std::io;

use openraft::storage::IOFlushed;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::error::Error;
use crate::raft::types::TypeConfig;

/// Somebody who waits for a write, whoever it is for.
pub(super) enum Waiter {
    /// openraft, for an append.
    Append(IOFlushed<TypeConfig>),
    /// A caller of this log.
    Caller(oneshot::Sender<Result<(), Error>>),
}

impl Waiter {
    /// Tells how it went.
    pub(super) fn tell(self, result: Result<(), Error>) {
        match self {
            Self::Append(callback) => callback.io_completed(result.map_err(io::Error::from)),
            // Who no longer waits need not know.
            Self::Caller(waiter) => drop(waiter.send(result)),
        }
    }
}

/// Good news for those who wait, in the order of their writes.
///
/// The channel needs no bound of its own: what is on its way here was in the queue, and whoever fills the queue is who
/// has to be told.
pub(super) struct News {
    told: Option<mpsc::UnboundedSender<Vec<Waiter>>>,
}

impl News {
    /// Starts the task that tells, if there is a runtime for it; else the caller of [`tell`](Self::tell) does.
    pub(super) fn on(runtime: Option<&Handle>) -> Self {
        let told = runtime.map(|runtime| {
            let (told, mut batches) = mpsc::unbounded_channel::<Vec<Waiter>>();
            runtime.spawn(async move {
                while let Some(batch) = batches.recv().await {
                    tell_all(batch);
                }
            });
            told
        });
        Self { told }
    }

    /// Tells them that their writes are done.
    pub(super) fn tell(&self, waiters: Vec<Waiter>) {
        if waiters.is_empty() {
            return;
        }
        match &self.told {
            // The runtime is gone, and with it the task.
            Some(told) => {
                if let Err(mpsc::error::SendError(waiters)) = told.send(waiters) {
                    tell_all(waiters);
                }
            }
            None => tell_all(waiters),
        }
    }
}

fn tell_all(waiters: Vec<Waiter>) {
    waiters.into_iter().for_each(|waiter| waiter.tell(Ok(())));
}
