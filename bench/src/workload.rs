//! What load to apply: the parameters of a run, and their bounds.

use std::{fmt, str::FromStr, time::Duration};

/// Most concurrent clients: each holds a connection and a file descriptor or two.
const MAX_CLIENTS: usize = 10_000;
/// Longest value, the router's default limit.
const MAX_VALUE_BYTES: usize = 8 << 20;
/// Most items a scan asks for.
const MAX_SCAN: u32 = 10_000;
/// Items a `scan` without a number asks for.
const DEFAULT_SCAN: u32 = 100;

/// The parameters of one run. [`Workload::new`] gives the defaults; [`Workload::validate`] states the bounds.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Which operations.
    pub kind: Kind,
    /// Concurrent clients, each with one request under way at most.
    pub clients: usize,
    /// Threads that the clients are spread over.
    pub threads: usize,
    /// How long to measure, after the warm-up.
    pub duration: Duration,
    /// How long to apply the load before measuring.
    pub warm_up: Duration,
    /// Length of every value written, in bytes.
    pub value_bytes: usize,
    /// Number of keys in the key set.
    pub keys: u64,
    /// How keys are chosen; `None` is the kind's own: Zipfian for YCSB, uniform for the rest.
    pub distribution: Option<Distribution>,
    /// What reads must see.
    pub consistency: Consistency,
    /// Open loop: requests a second over all clients, latency from the instant each was due. `None` is the closed loop.
    pub rate: Option<f64>,
    /// When a request is given up and counted as a timeout.
    pub timeout: Duration,
    /// Seed of all random choices.
    pub seed: u64,
}

/// The operations of a workload. As text: `put`, `get`, `mixed` or `mixed:READ%`, `scan` or `scan:ITEMS`, `ycsb-a` … `ycsb-f`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Overwrite keys.
    Put,
    /// Read keys.
    Get,
    /// Read keys in this share of operations, overwrite in the rest.
    Mixed {
        /// 0 to 100.
        read_percent: u8,
    },
    /// Read this many items in key order, from a chosen key on.
    Scan {
        /// Items asked for.
        limit: u32,
    },
    /// One of YCSB's core workloads.
    Ycsb(Ycsb),
}

/// YCSB's core workloads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ycsb {
    /// Half reads, half updates.
    A,
    /// 95 % reads, 5 % updates.
    B,
    /// Reads only.
    C,
    /// 95 % reads of the latest insertions, 5 % insertions.
    D,
    /// 95 % scans of 1 to 100 items, 5 % insertions.
    E,
    /// Half reads, half read-modify-writes.
    F,
}

/// How keys are chosen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Distribution {
    /// Every key alike.
    Uniform,
    /// YCSB's scrambled Zipfian, θ = 0.99.
    Zipfian,
}

/// What reads must see.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Consistency {
    /// Every write acknowledged before the read began.
    Linearizable,
    /// Whatever the replica at hand has (etcd: `serializable`).
    Stale,
}

/// A workload that cannot be run, and why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidWorkload(String);

impl Workload {
    /// The defaults: 64 clients on one thread, 2 s of warm-up and 10 s measured, 128-byte values over 50,000 keys, closed
    /// loop, linearizable reads.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            clients: 64,
            threads: 1,
            duration: Duration::from_secs(10),
            warm_up: Duration::from_secs(2),
            value_bytes: 128,
            keys: 50_000,
            distribution: None,
            consistency: Consistency::Linearizable,
            rate: None,
            timeout: Duration::from_secs(10),
            seed: 1,
        }
    }

    /// Checks every bound.
    pub fn validate(&self) -> Result<(), InvalidWorkload> {
        let bounds = [
            (
                (1..=MAX_CLIENTS).contains(&self.clients),
                "clients must be 1 to 10,000",
            ),
            (
                (1..=self.clients).contains(&self.threads),
                "threads must be 1 to the number of clients",
            ),
            (!self.duration.is_zero(), "the measured time must not be zero"),
            (
                self.value_bytes <= MAX_VALUE_BYTES,
                "values must be 8 MiB at most",
            ),
            (
                (1..=1_000_000_000).contains(&self.keys),
                "keys must be 1 to 1,000,000,000",
            ),
            (
                self.rate.is_none_or(|rate| rate.is_finite() && rate > 0.0),
                "the rate must be above zero",
            ),
            (!self.timeout.is_zero(), "the timeout must not be zero"),
        ];
        match bounds.iter().find(|(holds, _)| !holds) {
            Some((_, message)) => Err(InvalidWorkload((*message).to_owned())),
            None => Ok(()),
        }
    }
}

impl FromStr for Kind {
    type Err = InvalidWorkload;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, number) = match text.split_once(':') {
            Some((name, number)) => (name, Some(number)),
            None => (text, None),
        };
        match (name, number) {
            ("put", None) => Ok(Self::Put),
            ("get", None) => Ok(Self::Get),
            ("mixed", None) => Ok(Self::Mixed { read_percent: 50 }),
            ("mixed", Some(number)) => Ok(Self::Mixed {
                read_percent: bounded(text, number, 0, 100)? as u8,
            }),
            ("scan", None) => Ok(Self::Scan { limit: DEFAULT_SCAN }),
            ("scan", Some(number)) => Ok(Self::Scan {
                limit: bounded(text, number, 1, MAX_SCAN)?,
            }),
            (name, None) => name
                .strip_prefix("ycsb-")
                .and_then(Ycsb::from_letter)
                .map(Self::Ycsb)
                .ok_or_else(|| {
                    InvalidWorkload(format!(
                        "unknown workload {text:?}: put, get, mixed[:READ%], scan[:ITEMS] or ycsb-a to ycsb-f"
                    ))
                }),
            (name, Some(_)) => Err(InvalidWorkload(format!("workload {name:?} takes no number"))),
        }
    }
}

fn bounded(text: &str, number: &str, low: u32, high: u32) -> Result<u32, InvalidWorkload> {
    let parsed = number.parse().ok().filter(|value| (low..=high).contains(value));
    parsed.ok_or_else(|| InvalidWorkload(format!("in workload {text:?} the number must be {low} to {high}")))
}

impl Ycsb {
    fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "a" => Some(Self::A),
            "b" => Some(Self::B),
            "c" => Some(Self::C),
            "d" => Some(Self::D),
            "e" => Some(Self::E),
            "f" => Some(Self::F),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put => formatter.write_str("put"),
            Self::Get => formatter.write_str("get"),
            Self::Mixed { read_percent: 50 } => formatter.write_str("mixed"),
            Self::Mixed { read_percent } => write!(formatter, "mixed:{read_percent}"),
            Self::Scan { limit: DEFAULT_SCAN } => formatter.write_str("scan"),
            Self::Scan { limit } => write!(formatter, "scan:{limit}"),
            Self::Ycsb(letter) => write!(formatter, "ycsb-{}", format!("{letter:?}").to_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_survive_the_round_trip_through_text() {
        for text in [
            "put", "get", "mixed", "mixed:95", "scan", "scan:10", "ycsb-a", "ycsb-f",
        ] {
            assert_eq!(
                text.parse::<Kind>().map(|kind| kind.to_string()),
                Ok(text.to_owned())
            );
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "puts",
            "put:1",
            "mixed:101",
            "mixed:x",
            "scan:0",
            "ycsb-g",
            "ycsb-",
            "ycsb-a:2",
        ] {
            assert!(text.parse::<Kind>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn bounds_are_checked() {
        let with = |change: fn(&mut Workload)| {
            let mut workload = Workload::new(Kind::Put);
            change(&mut workload);
            workload.validate().is_ok()
        };
        assert!(with(|_| ()));
        assert!(!with(|workload| workload.clients = 0));
        assert!(!with(|workload| workload.threads = 65));
        assert!(!with(|workload| workload.duration = Duration::ZERO));
        assert!(!with(|workload| workload.keys = 0));
        assert!(!with(|workload| workload.rate = Some(f64::NAN)));
    }
}
