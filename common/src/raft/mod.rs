//! Raft: openraft bound to Holdfast's types, storage and wire.

pub mod journal;
pub mod log;
pub mod lsm;
pub mod metrics;
pub mod network;
pub mod runtime;
pub mod tables;
pub mod types;
