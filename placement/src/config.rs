//! What a placement member is told at its start: one struct, read from TOML and overridden by flags, checked before
//! anything runs.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use holdfast_common::ids::MemberId;
use holdfast_common::raft::network::RaftTimings;
use holdfast_common::tls::Files;
use serde::{Deserialize, Serialize};

use crate::command::Seat;

/// Everything that can be set about a member. Unknown names are refused, absent ones take their default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This member's name, one of those in [`Config::members`].
    pub name: String,
    /// Where it keeps everything; created when missing.
    pub data_dir: PathBuf,
    /// Address for the admin API.
    pub http: String,
    /// Address for RPC.
    pub rpc: String,
    /// What others dial for RPC, when that is not [`Config::rpc`].
    pub advertise: Option<String>,
    /// What others dial for the admin API, when that is not [`Config::http`].
    pub advertise_http: Option<String>,
    /// Every member, this one too, as `NAME=RPC`; in the same order everywhere.
    pub members: Vec<String>,
    /// Routers through which the console looks at data, host and port each.
    pub routers: Vec<String>,
    /// The control API of the launcher that runs the cluster, host and port, if one does.
    pub control: Option<String>,
    /// Found a new cluster.
    pub bootstrap: bool,
    /// Allow plain text on an address other than loopback.
    pub insecure: bool,
    /// Ask for a credential with every request for the admin API, even before the first token was made.
    pub auth: bool,
    /// The authorities that are trusted, PEM; with [`Config::tls_cert`] and [`Config::tls_key`] it turns TLS on everywhere.
    pub tls_ca: Option<PathBuf>,
    /// This process's certificate, PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    pub tls_key: Option<PathBuf>,
    /// Time between a leader's heartbeats to the other members, milliseconds.
    pub raft_heartbeat_ms: u64,
    /// Shortest time without a leader after which a member campaigns, milliseconds.
    pub raft_election_min_ms: u64,
    /// Longest such time, milliseconds.
    pub raft_election_max_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            data_dir: PathBuf::new(),
            http: "127.0.0.1:7410".to_owned(),
            rpc: "127.0.0.1:7450".to_owned(),
            advertise: None,
            advertise_http: None,
            members: Vec::new(),
            routers: Vec::new(),
            control: None,
            bootstrap: false,
            insecure: false,
            auth: false,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            raft_heartbeat_ms: 200,
            raft_election_min_ms: 700,
            raft_election_max_ms: 1_200,
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
    /// The list of members is not one.
    #[error("members: {0}")]
    Members(String),
    /// Raft's timings don't fit each other.
    #[error("raft timings: {0}")]
    Timings(String),
}

/// All members, in the order of their configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    list: Vec<(String, String)>,
}

impl Peers {
    /// Reads `NAME=RPC` items: 1, 3 or 5, no name and no address twice.
    ///
    /// # Errors
    /// They are not that.
    pub fn parse(members: &[String]) -> Result<Self, Invalid> {
        let wrong = |what: String| Invalid::Members(what);
        let mut list: Vec<(String, String)> = Vec::new();
        for item in members {
            let pair = item
                .split_once('=')
                .filter(|(name, address)| !name.is_empty() && !address.is_empty());
            let (name, address) = pair.ok_or_else(|| wrong(format!("{item:?} is not NAME=RPC")))?;
            if list.iter().any(|(other, dial)| other == name || dial == address) {
                return Err(wrong(format!("{item:?} names a member or an address twice")));
            }
            list.push((name.to_owned(), address.to_owned()));
        }
        match list.len() {
            1 | 3 | 5 => Ok(Self { list }),
            n => Err(wrong(format!(
                "{n} members; there must be 1, 3 or 5: a majority of an even number survives no more failures"
            ))),
        }
    }

    /// The names, in order.
    pub fn names(&self) -> Vec<String> {
        self.list.iter().map(|(name, _)| name.clone()).collect()
    }

    /// What to dial for the member with this number, whatever number of its place it is.
    pub fn address(&self, number: MemberId) -> Option<&str> {
        let (_, address) = self.list.get(Seat::of(number).position()?)?;
        Some(address)
    }

    /// What to dial for the member of this name.
    pub fn address_of(&self, name: &str) -> Option<&str> {
        self.list
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, address)| address.as_str())
    }

    /// The others: name and address.
    pub fn others(&self, me: &str) -> Vec<(String, String)> {
        self.list.iter().filter(|(name, _)| name != me).cloned().collect()
    }

    /// The number that the member of this name begins with.
    pub fn first_number(&self, name: &str) -> Option<MemberId> {
        let position = self.list.iter().position(|(other, _)| other == name)?;
        u64::try_from(position)
            .ok()
            .map(|position| MemberId(position + 1))
    }
}

impl Config {
    /// Checks what can be checked without touching the disk or the network (names are resolved), and reads the members.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<Peers, Invalid> {
        if self.name.is_empty() {
            return Err(Invalid::Missing("name"));
        }
        if self.data_dir.as_os_str().is_empty() {
            return Err(Invalid::Missing("data_dir"));
        }
        if self.members.is_empty() {
            return Err(Invalid::Missing("members"));
        }
        let peers = Peers::parse(&self.members)?;
        let listed = peers.address_of(&self.name);
        let listed = listed.ok_or_else(|| Invalid::Members(format!("{} is not one of them", self.name)))?;
        let own = self.advertise.as_ref().unwrap_or(&self.rpc);
        if listed != own {
            return Err(Invalid::Members(format!(
                "{} is at {listed} there, and here at {own}",
                self.name
            )));
        }
        let secured = self.tls_files()?.is_some() || self.insecure;
        for (field, value) in [("http", &self.http), ("rpc", &self.rpc)] {
            if resolve(field, value)? && !secured {
                let value = value.clone();
                return Err(Invalid::Exposed { field, value });
            }
        }
        for beside in self.routers.iter().chain(&self.control) {
            shaped("routers, control", beside)?;
        }
        self.timings()
            .config()
            .map_err(|error| Invalid::Timings(error.to_string()))?;
        Ok(peers)
    }

    /// The files for TLS, if it is wanted.
    ///
    /// # Errors
    /// Some are given and some are not.
    pub fn tls_files(&self) -> Result<Option<Files>, Invalid> {
        let (ca, cert, key) = (&self.tls_ca, &self.tls_cert, &self.tls_key);
        Files::all(ca.as_ref(), cert.as_ref(), key.as_ref()).map_err(|_| Invalid::Tls)
    }

    /// Whether every request for the admin API must carry a credential from the start: it is asked for, or others can reach
    /// the address.
    pub fn demands_credentials(&self) -> bool {
        self.auth || (!self.insecure && resolve("http", &self.http).unwrap_or(true))
    }

    /// Raft's timings.
    pub fn timings(&self) -> RaftTimings {
        RaftTimings {
            heartbeat: Duration::from_millis(self.raft_heartbeat_ms),
            election_min: Duration::from_millis(self.raft_election_min_ms),
            election_max: Duration::from_millis(self.raft_election_max_ms),
            ..RaftTimings::default()
        }
    }

    /// What others dial for RPC.
    pub fn rpc_address(&self) -> String {
        self.advertise.clone().unwrap_or_else(|| self.rpc.clone())
    }

    /// What others dial for the admin API. An address that stands for all of this machine's can't be dialed: then it is
    /// the host that others dial for RPC.
    pub fn http_address(&self) -> String {
        let listens = self.http.parse::<SocketAddr>().ok();
        let rpc = self.rpc_address();
        match (&self.advertise_http, listens, rpc.rsplit_once(':')) {
            (Some(address), _, _) => address.clone(),
            (None, Some(all), Some((host, _))) if all.ip().is_unspecified() => {
                format!("{host}:{}", all.port())
            }
            _ => self.http.clone(),
        }
    }
}

/// Checks that it is a host and a port; whether there is such a host is not asked, it may come later.
fn shaped(field: &'static str, value: &str) -> Result<(), Invalid> {
    let port = value.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let is_address = port.is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    is_address.then_some(()).ok_or_else(|| Invalid::Address {
        field,
        value: value.to_owned(),
    })
}

/// Whether an address can be reached from other machines.
fn resolve(field: &'static str, value: &str) -> Result<bool, Invalid> {
    let wrong = || Invalid::Address {
        field,
        value: value.to_owned(),
    };
    let addresses: Vec<_> = value.to_socket_addrs().map_err(|_| wrong())?.collect();
    if addresses.is_empty() {
        return Err(wrong());
    }
    Ok(addresses.iter().any(|address| !address.ip().is_loopback()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Config {
        let members = ["a=127.0.0.1:7450", "b=127.0.0.1:7451", "c=127.0.0.1:7452"]
            .map(str::to_owned)
            .to_vec();
        Config {
            name: "a".into(),
            data_dir: "data".into(),
            members,
            ..Config::default()
        }
    }

    fn refused(config: Config) -> String {
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn members_are_one_three_or_five_and_this_is_one_of_them() {
        let peers = valid().validate().unwrap();
        assert_eq!(peers.address(MemberId(2)), Some("127.0.0.1:7451"));
        assert_eq!(
            peers.address(MemberId(102)),
            Some("127.0.0.1:7451"),
            "a replacement is where its predecessor was"
        );
        assert_eq!(
            (peers.address(MemberId(4)), peers.address(MemberId(0))),
            (None, None)
        );
        let two = Config {
            members: valid().members[..2].to_vec(),
            ..valid()
        };
        assert!(refused(two).contains("1, 3 or 5"));
        assert!(
            refused(Config {
                name: "d".into(),
                ..valid()
            })
            .contains("not one of them")
        );
        assert!(
            refused(Config {
                rpc: "127.0.0.1:9".into(),
                ..valid()
            })
            .contains("and here at 127.0.0.1:9")
        );
        let twice = Config {
            members: vec!["a=127.0.0.1:7450".into(); 3],
            ..valid()
        };
        assert!(refused(twice).contains("twice"));
        assert!(
            refused(Config {
                members: vec!["a".into()],
                ..valid()
            })
            .contains("NAME=RPC")
        );
    }

    #[test]
    fn plain_tcp_stays_on_loopback_unless_told_otherwise() {
        let open = Config {
            rpc: "0.0.0.0:7450".into(),
            advertise: Some("127.0.0.1:7450".into()),
            ..valid()
        };
        assert_eq!(
            open.validate(),
            Err(Invalid::Exposed {
                field: "rpc",
                value: "0.0.0.0:7450".into()
            })
        );
        assert!(
            Config {
                insecure: true,
                ..open
            }
            .validate()
            .is_ok()
        );
    }

    #[test]
    fn an_address_that_nobody_can_dial_is_not_told() {
        let all = Config {
            http: "0.0.0.0:7410".into(),
            advertise: Some("placement-1:7450".into()),
            ..valid()
        };
        assert_eq!(all.http_address(), "placement-1:7410");
        let told = Config {
            advertise_http: Some("elsewhere:1".into()),
            ..all
        };
        assert_eq!(told.http_address(), "elsewhere:1");
        assert_eq!(valid().http_address(), "127.0.0.1:7410");
    }

    #[test]
    fn timings_must_fit_each_other_and_unknown_names_are_refused() {
        assert!(matches!(
            Config {
                raft_heartbeat_ms: 9_000,
                ..valid()
            }
            .validate(),
            Err(Invalid::Timings(_))
        ));
        assert!(serde_json::from_str::<Config>(r#"{"nmae": "a"}"#).is_err());
    }
}
