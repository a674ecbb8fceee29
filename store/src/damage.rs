//! Bytes on disk that are not what was written.

use std::io;

/// Stored bytes that do not decode: the disk, the file system or a foreign file. Never guessed around: the process stops
/// and the store is rebuilt from its peers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("damaged {what}: {why}")]
pub struct Damage {
    /// What was being read.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl Damage {
    /// Damage of `what`.
    pub fn new(what: &'static str, why: impl Into<String>) -> Self {
        Self {
            what,
            why: why.into(),
        }
    }

    /// `what` ends early.
    pub fn truncated(what: &'static str) -> Self {
        Self::new(what, "it ends early")
    }
}

impl From<Damage> for io::Error {
    fn from(damage: Damage) -> Self {
        io::Error::new(io::ErrorKind::InvalidData, damage)
    }
}
