//! Whether the log still works.

use std::sync::OnceLock;

use tokio::sync::watch;

use super::error::Error;

/// The first failure, once there is one.
pub(super) struct Health {
    failure: OnceLock<Error>,
    announcement: watch::Sender<Option<Error>>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            failure: OnceLock::new(),
            announcement: watch::Sender::new(None),
        }
    }

    /// An error if anything has failed.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.failure.get().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// Records and announces a failure; the first one stands.
    pub(super) fn fail(&self, error: Error) {
        if self.failure.set(error.clone()).is_ok() {
            tracing::error!(%error, "the raft log failed, and nothing more can be written");
            self.announcement.send_replace(Some(error));
        }
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Option<Error>> {
        self.announcement.subscribe()
    }
}
