//! Real values, encoded as real processes encode them: what changes of inputs start from.
//!
//! `HOLDFAST_BLESS=1 cargo test -p holdfast-fuzz` writes them to `corpus/` anew. Names of values begin with `seed-`; what was found to do
//! harm has another name, and stays.

mod data;
mod disk;
mod group;
mod outside;

/// An input of a target.
pub struct Seed {
    /// The target.
    pub target: &'static str,
    /// The name of its file in the target's corpus.
    pub name: String,
    /// The input.
    pub input: Vec<u8>,
}

impl Seed {
    fn new(target: &'static str, name: &str, input: Vec<u8>) -> Self {
        let name = format!("seed-{name}");
        Self { target, name, input }
    }
}

/// All of them, the same ones each time.
pub fn all() -> Vec<Seed> {
    let mut seeds = outside::seeds();
    seeds.extend(data::seeds());
    seeds.extend(group::seeds());
    seeds.extend(disk::seeds());
    seeds
}
