//! Clusters of real processes under test.
//!
//! [`Cluster`] is `holdfast up` in a temporary directory on free ports, with its members' pids to kill; [`Client`] speaks the
//! router's HTTP API, [`Admin`] the placement driver's; [`Writers`] put load on and remember what was acknowledged.
//!
//! [`site::Site`] is a cluster whose every member has a network of its own; [`nemesis`] breaks it, while [`load::Load`] records what
//! clients are told, and [`history`] holds that to the promises.
#![forbid(unsafe_code)]

mod admin;
mod client;
mod cluster;
mod dataset;
pub mod healing;
pub mod history;
pub mod load;
pub mod nemesis;
pub mod replicas;
mod secured;
pub mod site;
mod transport;
mod writers;

pub use admin::{Admin, Range, check_tiling};
pub use client::{Answer, Client};
pub use cluster::{Cluster, Member, Options};
pub use dataset::{Dataset, unicode};
pub use secured::Secured;
pub use writers::{History, Writers};
