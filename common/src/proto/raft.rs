//! Raft messages between replicas.
