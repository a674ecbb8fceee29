//! The placement driver: owner of the map of the key space.
//!
//! It knows which ranges there are, where their replicas live, and plans every change to that. Its state is a replicated
//! state machine of its own, on 1, 3 or 5 members; data is read and written without it.
//!
//! - **Pure**, in which everything is decided: [`access`] (who may do what), [`state`] and [`command`] (what all members agree on and how it changes),
//!   [`range_map`], [`operator`] (planned changes), [`reports`], [`view`] and [`heatmap`] (what the leading member sees), [`schedule`]
//!   (what it would change), [`corrections`] (what it puts right).
//! - **The member**: [`identity`] and [`admission`] (who it is, how it comes in), [`machine`] and [`snapshot`] (the state
//!   under Raft), [`group`], [`roster`] (the members of the group itself), [`lead`] and [`duties`] (what the leading
//!   member has and does).
//! - **The outside**: [`service`] (RPC), [`watch`] (the stream of changes), [`admin`] (HTTP), [`metrics`], [`figures`]
//!   (the metrics of the others, for the console).
//!
//! `docs/placement.md` tells how these work together.
#![forbid(unsafe_code)]

pub mod access;
mod access_watch;
pub mod admin;
pub mod admission;
pub mod command;
pub mod config;
pub mod corrections;
pub mod duties;
pub mod figures;
pub mod forecast;
pub mod group;
pub mod heatmap;
pub mod identity;
pub mod lead;
mod loads;
mod losing;
pub mod machine;
pub mod member;
pub mod metrics;
pub mod operator;
pub mod presplit;
pub mod range_map;
pub mod recovery;
pub mod reports;
pub mod roster;
mod run;
pub mod schedule;
pub mod seat;
pub mod service;
pub mod settings;
pub mod snapshot;
pub mod state;
pub mod view;
pub mod watch;

#[cfg(test)]
mod chaos_test;
#[cfg(test)]
mod cluster_test;
#[cfg(test)]
mod world;

pub use self::config::Config;
pub use self::run::{Error, Render, run};
