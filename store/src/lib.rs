//! The store: many ranges on one machine, each a Raft group, over one log and one database.
//!
//! Three layers, each in the words of the one below:
//!
//! - **state**: what a committed entry does, as a pure function ([`apply`], [`sessions`]), what lies on disk ([`keys`],
//!   [`row`], [`record`], [`snapshot`]), the database under it ([`engine`]), and the shell that openraft drives
//!   ([`machine`]);
//! - **replicas**: one for each range here ([`replica`]), with its way of writes and reads around the Raft group, and the
//!   host that starts and ends them;
//! - **process**: configuration, identity, RPC and HTTP, the link to the placement driver, and the order in which all that
//!   starts and stops ([`run`]).
//!
//! `docs/life-of-a-write.md` follows a write, and a read, through all of it.
#![forbid(unsafe_code)]

mod addresses;
pub mod apply;
mod chores;
mod codec;
pub mod command;
pub mod config;
pub mod damage;
pub mod destroy;
mod disk;
pub mod engine;
mod heartbeat;
mod host;
mod http;
pub mod identity;
pub mod keys;
pub mod ledger;
pub mod machine;
mod metrics;
pub mod middle;
mod ranges;
mod read;
pub mod record;
mod replica;
pub mod row;
mod service;
pub mod sessions;
pub mod shared;
mod site;
pub mod snapshot;
pub mod startup;
pub mod state;
mod steps;
mod store;
