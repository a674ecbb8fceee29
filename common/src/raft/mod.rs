//! Raft: openraft bound to Holdfast's types, storage and wire.

pub mod network;
pub mod types;
