//! The placement driver: owner of the map of the key space.
#![forbid(unsafe_code)]

pub mod command;
pub mod corrections;
pub mod operator;
pub mod range_map;
pub mod reports;
pub mod schedule;
pub mod settings;
pub mod state;
pub mod view;

#[cfg(test)]
mod world;
