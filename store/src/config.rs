//! What a store is told at its start: one struct, read from TOML and overridden by flags, checked before anything runs.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use holdfast_common::tls::Files;
use serde::{Deserialize, Serialize};

use crate::check::Pace;
use crate::memory::{self, LEAST, Shares};

/// Everything that can be set about a store. Unknown names are refused, absent ones take their default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The store's name, unique in the cluster.
    pub name: String,
    /// Where it keeps everything; created when missing.
    pub data_dir: PathBuf,
    /// Address for `/health`, `/ready`, `/metrics` and `/debug`.
    pub http: String,
    /// Address for RPC.
    pub rpc: String,
    /// What others dial for RPC, when that is not [`Config::rpc`].
    pub advertise: Option<String>,
    /// What others dial for HTTP, when that is not [`Config::http`].
    pub advertise_http: Option<String>,
    /// RPC addresses of the placement members.
    pub placement: Vec<String>,
    /// Labels such as `zone = "a"`.
    pub labels: BTreeMap<String, String>,
    /// Allow plain text on an address other than loopback.
    pub insecure: bool,
    /// The authorities that are trusted, PEM; with [`Config::tls_cert`] and [`Config::tls_key`] it turns TLS on everywhere.
    pub tls_ca: Option<PathBuf>,
    /// This process's certificate, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Time between a leader's heartbeats, milliseconds.
    pub raft_heartbeat_ms: u64,
    /// Shortest time after the end of its leader's lease at which a replica campaigns, milliseconds.
    pub raft_election_min_ms: u64,
    /// Longest such time, milliseconds; also how long a leader's lease lasts. A leader whose store does not answer any more is replaced
    /// as soon as the lease is over; any other that is gone, within twice this: 1.5 s by default.
    pub raft_election_max_ms: u64,
    /// How long a leader must have led undisturbed before the replicas of its range stop their timers, milliseconds, and work on
    /// without; 0 for never.
    pub hibernate_after_ms: u64,
    /// When what the store has on disk is damaged, set it aside in the data directory (`quarantine-<time>`) and join as a new store,
    /// provided that the placement driver finds that every range can do without it.
    pub rebuild_damaged: bool,
    /// Memory for what grows with use, bytes: caches, tables that are being written, writes that wait; what a store is without them (0.1 GiB)
    /// and its replicas (0.15 MiB each) come on top. 0 for 1 GiB, or less where the machine or a control group allows less.
    pub memory_bytes: u64,
    /// Free space of the file system, bytes, below which puts are refused.
    pub disk_reserve_bytes: u64,
    /// Most bytes that the store's directory may take before puts are refused; 0 for all that the file system has.
    pub disk_soft_limit_bytes: u64,
    /// How long the placement driver has to be silent before a leader splits a much too large range by itself,
    /// milliseconds; 0 for never.
    pub split_alone_after_ms: u64,
    /// Most bytes of writes that wait at one range's leader to be proposed; more are answered Busy.
    pub max_waiting_bytes: usize,
    /// Most writes, and most reads, that wait at one range's leader; more are answered Busy.
    pub max_waiting: usize,
    /// How often the replicas of each range are compared, milliseconds; 0 for never. For ranges that are led by this store.
    pub check_every_ms: u64,
    /// Most bytes that are read a second to compare replicas.
    pub check_bytes_per_second: u64,
    /// Time that requests in flight and leaderships have to leave when the store stops, milliseconds.
    pub shutdown_grace_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            data_dir: PathBuf::new(),
            http: "127.0.0.1:7420".to_owned(),
            rpc: "127.0.0.1:7460".to_owned(),
            advertise: None,
            advertise_http: None,
            placement: Vec::new(),
            labels: BTreeMap::new(),
            insecure: false,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            raft_heartbeat_ms: 150,
            raft_election_min_ms: 450,
            raft_election_max_ms: 750,
            hibernate_after_ms: 5_000,
            rebuild_damaged: false,
            memory_bytes: 0,
            disk_reserve_bytes: 256 << 20,
            disk_soft_limit_bytes: 0,
            split_alone_after_ms: 60_000,
            max_waiting_bytes: 64 << 20,
            max_waiting: 65_536,
            check_every_ms: 24 * 60 * 60 * 1_000,
            check_bytes_per_second: 16 << 20,
            shutdown_grace_ms: 3_000,
        }
    }
}

/// What is wrong with a [`Config`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// A value that has no default is missing.
    #[error("{0} is required")]
    Missing(&'static str),
    /// An address is not one.
    #[error("{field} = {value:?} is not an address: expected host:port")]
    Address {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// Plain text on an address that others can reach.
    #[error(
        "{field} = {value:?} can be reached from other machines and nothing is encrypted: bind to loopback, give --tls-ca, \
         --tls-cert and --tls-key, or pass --insecure"
    )]
    Exposed {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
    },
    /// The files for TLS.
    #[error("--tls-ca, --tls-cert and --tls-key belong together: give all three, or none")]
    Tls,
    /// Raft's timings don't fit each other.
    #[error(
        "raft_heartbeat_ms < raft_election_min_ms / 2 and raft_election_min_ms < raft_election_max_ms must hold, have {0}, {1}, {2}"
    )]
    Timings(u64, u64, u64),
    /// A bound of zero would refuse everything.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// Too little to work with.
    #[error("memory_bytes = {0} is less than {LEAST}, the least a store works with")]
    Memory(u64),
}

impl Config {
    /// The files for TLS, if it is wanted.
    ///
    /// # Errors
    /// Some are given and some are not.
    pub fn tls_files(&self) -> Result<Option<Files>, Invalid> {
        let (ca, cert, key) = (&self.tls_ca, &self.tls_cert, &self.tls_key);
        Files::all(ca.as_ref(), cert.as_ref(), key.as_ref()).map_err(|_| Invalid::Tls)
    }

    /// Checks what can be checked without touching the disk or the network (names are resolved).
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.name.is_empty() {
            return Err(Invalid::Missing("name"));
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err(Invalid::Missing("data_dir"));
        }
        if self.placement.is_empty() {
            return Err(Invalid::Missing("placement"));
        }
        let secured = self.tls_files()?.is_some() || self.insecure;
        for (field, value) in [("http", &self.http), ("rpc", &self.rpc)] {
            let mut addresses = resolve(field, value)?.into_iter();
            if addresses.any(|address| !address.ip().is_loopback()) && !secured {
                let value = value.clone();
                return Err(Invalid::Exposed { field, value });
            }
        }
        let (beat, min, max) = (
            self.raft_heartbeat_ms,
            self.raft_election_min_ms,
            self.raft_election_max_ms,
        );
        if beat == 0 || beat >= min / 2 || min >= max {
            return Err(Invalid::Timings(beat, min, max));
        }
        for (field, bound) in [
            ("max_waiting_bytes", self.max_waiting_bytes as u64),
            ("max_waiting", self.max_waiting as u64),
            ("check_bytes_per_second", self.check_bytes_per_second),
        ] {
            if bound == 0 {
                return Err(Invalid::Zero(field));
            }
        }
        if (1..LEAST).contains(&self.memory_bytes) {
            return Err(Invalid::Memory(self.memory_bytes));
        }
        Ok(())
    }

    /// How the store's memory is divided.
    pub(crate) fn memory(&self) -> Shares {
        Shares::of(match self.memory_bytes {
            0 => memory::available(),
            bytes => bytes,
        })
    }

    /// How often, and how fast, replicas are compared.
    pub(crate) fn check_pace(&self) -> Pace {
        Pace {
            every: (self.check_every_ms > 0).then(|| Duration::from_millis(self.check_every_ms)),
            bytes_per_second: self.check_bytes_per_second,
        }
    }

    /// How long the store waits for what is in flight when it stops.
    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }
}

fn resolve(field: &'static str, value: &str) -> Result<Vec<SocketAddr>, Invalid> {
    let wrong = || Invalid::Address {
        field,
        value: value.to_owned(),
    };
    let addresses: Vec<_> = value.to_socket_addrs().map_err(|_| wrong())?.collect();
    if addresses.is_empty() {
        Err(wrong())
    } else {
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Config {
        Config {
            name: "store-1".to_owned(),
            data_dir: "data".into(),
            placement: vec!["127.0.0.1:7450".to_owned()],
            ..Config::default()
        }
    }

    #[test]
    fn what_has_no_default_is_required() {
        assert_eq!(valid().validate(), Ok(()));
        assert_eq!(
            Config {
                name: String::new(),
                ..valid()
            }
            .validate(),
            Err(Invalid::Missing("name"))
        );
        assert_eq!(
            Config {
                data_dir: PathBuf::new(),
                ..valid()
            }
            .validate(),
            Err(Invalid::Missing("data_dir"))
        );
        assert_eq!(
            Config {
                placement: Vec::new(),
                ..valid()
            }
            .validate(),
            Err(Invalid::Missing("placement"))
        );
    }

    #[test]
    fn plain_tcp_stays_on_loopback_unless_told_otherwise() {
        let open = Config {
            rpc: "0.0.0.0:7460".to_owned(),
            ..valid()
        };
        assert_eq!(
            open.validate(),
            Err(Invalid::Exposed {
                field: "rpc",
                value: "0.0.0.0:7460".to_owned()
            })
        );
        assert_eq!(
            Config {
                insecure: true,
                ..open
            }
            .validate(),
            Ok(())
        );
    }

    #[test]
    fn timings_must_fit_each_other() {
        assert!(
            Config {
                raft_heartbeat_ms: 500,
                ..valid()
            }
            .validate()
            .is_err()
        );
        assert!(
            Config {
                raft_election_max_ms: 450,
                ..valid()
            }
            .validate()
            .is_err()
        );
    }

    #[test]
    fn memory_is_enough_or_left_to_the_store() {
        let with = |memory_bytes| Config {
            memory_bytes,
            ..valid()
        };
        assert_eq!(with(0).validate(), Ok(()));
        assert_eq!(with(LEAST).validate(), Ok(()));
        assert_eq!(with(LEAST - 1).validate(), Err(Invalid::Memory(LEAST - 1)));
        assert_eq!(with(LEAST).memory().engine.cache_bytes, LEAST / 4);
    }

    #[test]
    fn an_unknown_name_is_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"name": "a"}"#).is_ok());
        assert!(serde_json::from_str::<Config>(r#"{"nmae": "a"}"#).is_err());
    }
}
