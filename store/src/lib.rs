//! store

#![forbid(unsafe_code)]

pub mod apply;
mod codec;
pub mod command;
pub mod damage;
pub mod destroy;
pub mod engine;
pub mod keys;
pub mod ledger;
pub mod machine;
pub mod middle;
pub mod record;
pub mod row;
pub mod sessions;
pub mod shared;
pub mod snapshot;
pub mod startup;
pub mod state;
