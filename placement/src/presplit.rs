//! Splitting at many keys: what is left to do, and how far it has come. Pure; `admin` does it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use holdfast_common::ids::RangeId;
use holdfast_common::key::Key;

use crate::range_map::RangeMap;

/// Jobs that are remembered.
const MAX_JOBS: usize = 32;

/// How far a job has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Keys asked for.
    pub keys: usize,
    /// Keys at which a range begins by now.
    pub split: usize,
    /// Ranges to be scattered; none until all is split.
    pub ranges: usize,
    /// Those that have been.
    pub scattered: usize,
    /// What did not work, and why.
    pub failed: Vec<String>,
    /// Whether it has ended.
    pub has_ended: bool,
}

impl Progress {
    /// Its name in the admin API.
    pub fn state(&self) -> &'static str {
        match (self.has_ended, self.failed.is_empty()) {
            (false, _) => "running",
            (true, true) => "done",
            (true, false) => "failed",
        }
    }
}

/// The last jobs, by number.
#[derive(Debug, Default)]
pub struct Jobs {
    jobs: VecDeque<(u64, Progress)>,
    next: u64,
}

impl Jobs {
    /// Begins one.
    pub fn begin(&mut self, keys: usize) -> u64 {
        self.next += 1;
        let progress = Progress {
            keys,
            ..Progress::default()
        };
        self.jobs.push_back((self.next, progress));
        if self.jobs.len() > MAX_JOBS {
            self.jobs.pop_front();
        }
        self.next
    }

    /// Changes one, if it is remembered.
    pub fn update(&mut self, id: u64, change: impl FnOnce(&mut Progress)) {
        if let Some((_, progress)) = self.jobs.iter_mut().find(|(known, _)| *known == id) {
            change(progress);
        }
    }

    /// One of them.
    pub fn get(&self, id: u64) -> Option<&Progress> {
        self.jobs
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, progress)| progress)
    }
}

/// The splits to begin now: in each range at the middle of the keys that lie in it, so that the halves go on side by side.
/// Keys at which a range begins already are done; those whose owner is not known wait.
pub fn next(keys: &BTreeSet<Key>, map: &RangeMap) -> Vec<(RangeId, Key)> {
    let mut wanted: BTreeMap<RangeId, Vec<&Key>> = BTreeMap::new();
    for key in keys {
        if let Some(range) = map.at(key.as_bytes())
            && range.span.start() != key.as_bytes()
        {
            wanted.entry(range.id).or_default().push(key);
        }
    }
    wanted
        .into_iter()
        .map(|(range, keys)| (range, keys[keys.len() / 2].clone()))
        .collect()
}

/// Of the keys, those at which a range begins.
pub fn done(keys: &BTreeSet<Key>, map: &RangeMap) -> usize {
    let begins = |key: &&Key| {
        map.at(key.as_bytes())
            .is_some_and(|range| range.span.start() == key.as_bytes())
    };
    keys.iter().filter(begins).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::Kind;
    use crate::world::World;

    fn keys(names: &[&'static str]) -> BTreeSet<Key> {
        names.iter().map(|name| Key::new(*name).unwrap()).collect()
    }

    #[test]
    fn halves_are_split_side_by_side() {
        let mut world = World::new(&["a"]);
        let wanted = keys(&["a", "b", "c", "d", "e", "f", "g"]);
        let mut rounds = Vec::new();
        loop {
            let next = next(&wanted, &world.state.map);
            if next.is_empty() {
                break;
            }
            rounds.push(next.len());
            for (range, key) in next {
                world.start(range.0, Kind::Split { at: Some(key) }).unwrap();
            }
            world.run();
            world.heartbeats();
        }
        assert_eq!(rounds, [1, 2, 4]);
        assert_eq!(done(&wanted, &world.state.map), 7);
        assert_eq!(world.state.map.len(), 8);
    }

    #[test]
    fn jobs_are_forgotten_in_the_end() {
        let mut jobs = Jobs::default();
        let first = jobs.begin(3);
        jobs.update(first, |job| job.split = 2);
        assert_eq!(
            jobs.get(first).map(|job| (job.split, job.state())),
            Some((2, "running"))
        );
        for _ in 0..MAX_JOBS {
            jobs.begin(1);
        }
        assert_eq!(jobs.get(first), None);
    }
}
