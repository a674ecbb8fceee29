//! Raft: openraft bound to Holdfast's types, storage and wire.

pub mod journal;
pub mod log;
pub mod network;
pub mod types;
