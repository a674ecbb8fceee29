//! Which operation comes next: a pure function of the workload, the seed and what was inserted so far.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use rand::{Rng, RngCore, SeedableRng, rngs::SmallRng};

use crate::{
    workload::{Distribution, Kind, Workload, Ycsb},
    zipf::{Zipfian, scramble},
};

/// Random bytes that values are cut from: much longer than a compressor's patience for a store that compresses.
const VALUE_POOL_BYTES: usize = 64 << 10;

/// One operation on keys named by their index in the key space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Operation {
    Read(u64),
    Update(u64),
    Insert(u64),
    Scan { from: u64, limit: u32 },
    ReadModifyWrite(u64),
}

/// What all clients of a run share: the mix, the key choice, the values, and how many keys there are by now.
#[derive(Debug)]
pub(crate) struct Plan {
    mix: Mix,
    choice: KeyChoice,
    keys: u64,
    /// Indexes given out: the loaded keys, and the insertions so far.
    next_index: AtomicU64,
    value_pool: Vec<u8>,
    value_bytes: usize,
    seed: u64,
}

/// One client's stream of operations and values.
#[derive(Debug)]
pub(crate) struct Stream {
    plan: Arc<Plan>,
    rng: SmallRng,
}

/// Percentages of operations; what they leave of 100 is updates.
#[derive(Clone, Copy, Debug)]
struct Mix {
    read: u8,
    insert: u8,
    scan: u8,
    read_modify_write: u8,
    scan_items: ScanItems,
}

#[derive(Clone, Copy, Debug)]
enum ScanItems {
    Exactly(u32),
    UpTo(u32),
}

#[derive(Debug)]
enum KeyChoice {
    Uniform,
    Zipfian(Zipfian),
    /// The latest insertions most often, as YCSB's workload D asks. An insertion still under way may be chosen: such a read
    /// finds nothing, and is counted as "not found".
    Latest(Zipfian),
}

impl Plan {
    pub(crate) fn new(workload: &Workload) -> Self {
        let choice = match (workload.kind, workload.distribution) {
            (Kind::Ycsb(Ycsb::D), None) => KeyChoice::Latest(Zipfian::new(workload.keys)),
            (Kind::Ycsb(_), None) | (_, Some(Distribution::Zipfian)) => {
                KeyChoice::Zipfian(Zipfian::new(workload.keys))
            }
            (_, None | Some(Distribution::Uniform)) => KeyChoice::Uniform,
        };
        let mut value_pool = vec![0; VALUE_POOL_BYTES.max(workload.value_bytes)];
        SmallRng::seed_from_u64(workload.seed).fill_bytes(&mut value_pool);
        Self {
            mix: Mix::of(workload.kind),
            choice,
            keys: workload.keys,
            next_index: AtomicU64::new(workload.keys),
            value_pool,
            value_bytes: workload.value_bytes,
            seed: workload.seed,
        }
    }

    fn next(&self, rng: &mut SmallRng) -> Operation {
        let mut draw = rng.random_range(0..100u8);
        let mut within = |share: u8| match draw.checked_sub(share) {
            Some(rest) => {
                draw = rest;
                false
            }
            None => true,
        };
        if within(self.mix.read) {
            Operation::Read(self.choose(rng))
        } else if within(self.mix.insert) {
            Operation::Insert(self.next_index.fetch_add(1, Ordering::Relaxed))
        } else if within(self.mix.scan) {
            Operation::Scan {
                from: self.choose(rng),
                limit: self.mix.scan_items.draw(rng),
            }
        } else if within(self.mix.read_modify_write) {
            Operation::ReadModifyWrite(self.choose(rng))
        } else {
            Operation::Update(self.choose(rng))
        }
    }

    fn choose(&self, rng: &mut SmallRng) -> u64 {
        match &self.choice {
            KeyChoice::Uniform => rng.random_range(0..self.keys),
            KeyChoice::Zipfian(zipfian) => scramble(zipfian.rank(rng), self.keys),
            KeyChoice::Latest(zipfian) => {
                let latest = self.next_index.load(Ordering::Relaxed) - 1;
                latest - zipfian.rank(rng)
            }
        }
    }
}

impl Stream {
    /// The stream of client number `client`: its choices depend on the seed, that number, and the insertions of all clients.
    pub(crate) fn new(plan: Arc<Plan>, client: usize) -> Self {
        let rng = SmallRng::seed_from_u64(
            plan.seed
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(client as u64),
        );
        Self { plan, rng }
    }

    pub(crate) fn next_operation(&mut self) -> Operation {
        self.plan.next(&mut self.rng)
    }

    /// A value to write: a random cut of the pool, which costs no copy.
    pub(crate) fn next_value(&mut self) -> &[u8] {
        let start = self
            .rng
            .random_range(0..=self.plan.value_pool.len() - self.plan.value_bytes);
        &self.plan.value_pool[start..start + self.plan.value_bytes]
    }
}

impl Mix {
    fn of(kind: Kind) -> Self {
        let none = Self {
            read: 0,
            insert: 0,
            scan: 0,
            read_modify_write: 0,
            scan_items: ScanItems::UpTo(100),
        };
        match kind {
            Kind::Put => none,
            Kind::Get | Kind::Ycsb(Ycsb::C) => Self { read: 100, ..none },
            Kind::Mixed { read_percent } => Self {
                read: read_percent,
                ..none
            },
            Kind::Scan { limit } => Self {
                scan: 100,
                scan_items: ScanItems::Exactly(limit),
                ..none
            },
            Kind::Ycsb(Ycsb::A) => Self { read: 50, ..none },
            Kind::Ycsb(Ycsb::B) => Self { read: 95, ..none },
            Kind::Ycsb(Ycsb::D) => Self {
                read: 95,
                insert: 5,
                ..none
            },
            Kind::Ycsb(Ycsb::E) => Self {
                scan: 95,
                insert: 5,
                ..none
            },
            Kind::Ycsb(Ycsb::F) => Self {
                read: 50,
                read_modify_write: 50,
                ..none
            },
        }
    }
}

impl ScanItems {
    fn draw(self, rng: &mut SmallRng) -> u32 {
        match self {
            Self::Exactly(limit) => limit,
            Self::UpTo(limit) => rng.random_range(1..=limit),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(kind: &str, count: usize) -> Vec<Operation> {
        let mut workload = Workload::new(kind.parse().expect("a known workload"));
        workload.keys = 1000;
        let mut stream = Stream::new(Arc::new(Plan::new(&workload)), 3);
        (0..count).map(|_| stream.next_operation()).collect()
    }

    fn share(operations: &[Operation], wanted: fn(&Operation) -> bool) -> f64 {
        operations.iter().filter(|operation| wanted(operation)).count() as f64 / operations.len() as f64
    }

    #[test]
    fn mixes_hold_their_shares() {
        let close = |seen: f64, expected: f64| (seen - expected).abs() < 0.02;
        assert!(
            operations("put", 100)
                .iter()
                .all(|operation| matches!(operation, Operation::Update(_)))
        );
        assert!(close(
            share(&operations("mixed:80", 10_000), |operation| matches!(
                operation,
                Operation::Read(_)
            )),
            0.8
        ));
        assert!(close(
            share(&operations("ycsb-d", 10_000), |operation| matches!(
                operation,
                Operation::Insert(_)
            )),
            0.05
        ));
        assert!(close(
            share(&operations("ycsb-e", 10_000), |operation| matches!(
                operation,
                Operation::Scan { .. }
            )),
            0.95
        ));
        assert!(close(
            share(&operations("ycsb-f", 10_000), |op| matches!(
                op,
                Operation::ReadModifyWrite(_)
            )),
            0.5
        ));
    }

    #[test]
    fn the_same_seed_gives_the_same_operations() {
        assert_eq!(operations("ycsb-a", 500), operations("ycsb-a", 500));
    }

    #[test]
    fn insertions_are_new_and_the_latest_are_read_most() {
        let operations = operations("ycsb-d", 20_000);
        let inserted: Vec<_> = operations
            .iter()
            .filter_map(|op| {
                if let Operation::Insert(i) = op {
                    Some(*i)
                } else {
                    None
                }
            })
            .collect();
        assert_eq!(inserted, (1000..1000 + inserted.len() as u64).collect::<Vec<_>>());
        let newest = share(
            &operations[10_000..],
            |operation| matches!(operation, Operation::Read(index) if *index >= 1000),
        );
        assert!(newest > 0.5, "{newest}");
    }

    #[test]
    fn values_have_the_asked_length_and_differ() {
        let mut workload = Workload::new(Kind::Put);
        for value_bytes in [0, 128, VALUE_POOL_BYTES + 1] {
            workload.value_bytes = value_bytes;
            let mut stream = Stream::new(Arc::new(Plan::new(&workload)), 0);
            assert_eq!(stream.next_value().len(), value_bytes);
        }
        workload.value_bytes = 128;
        let mut stream = Stream::new(Arc::new(Plan::new(&workload)), 0);
        assert_ne!(stream.next_value().to_vec(), stream.next_value().to_vec());
    }
}
