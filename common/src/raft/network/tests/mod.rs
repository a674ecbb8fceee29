//! The network under openraft itself: processes on loopback sockets, with logs and state machines in memory.

mod cluster;
mod memory;
mod replication;
mod snapshots;
mod voting;
