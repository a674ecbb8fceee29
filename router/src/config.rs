//! What a router is told: by flags, environment or file, all with these names.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use holdfast_common::limits::{MAX_DEADLINE, MAX_VALUE_BYTES};
use holdfast_common::tls::Files;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// The configuration of a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where it serves HTTP: an IP address or a name of this machine, and a port.
    #[serde(deserialize_with = "resolved")]
    pub http: SocketAddr,
    /// What to dial for the members of the placement driver: `HOST:PORT`, at least one.
    pub placement: Vec<String>,
    /// Its name, for logs and for those it connects to.
    #[serde(default = "default_name")]
    pub name: String,
    /// What clients dial, when that is another address. It is told in the log; no process of the cluster dials a router.
    #[serde(default)]
    pub advertise: Option<String>,
    /// Allow plain text on an address other than loopback.
    #[serde(default)]
    pub insecure: bool,
    /// Ask for a credential with every request, even before the first token was made.
    #[serde(default)]
    pub auth: bool,
    /// The authorities that are trusted, PEM; with [`Config::tls_cert`] and [`Config::tls_key`] it turns TLS on everywhere.
    #[serde(default)]
    pub tls_ca: Option<PathBuf>,
    /// This process's certificate, PEM.
    #[serde(default)]
    pub tls_cert: Option<PathBuf>,
    /// Its key, PEM.
    #[serde(default)]
    pub tls_key: Option<PathBuf>,
    /// Bounds on clients.
    #[serde(default)]
    pub limits: Limits,
}

/// An address, of a name the first one that it has.
fn resolved<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let no_address = |why: String| D::Error::custom(format!("http = {text:?} is not an address: {why}"));
    let mut addresses = text
        .to_socket_addrs()
        .map_err(|error| no_address(error.to_string()))?;
    addresses
        .next()
        .ok_or_else(|| no_address("the name has none".to_owned()))
}

fn default_name() -> String {
    "router".to_owned()
}

/// Bounds on what clients may make a router do and hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most client connections; further ones are answered 503 and closed.
    pub max_connections: usize,
    /// Most of them that one credential has; a request over a further one is answered 429, and the connection closed.
    pub max_connections_per_principal: usize,
    /// Most bytes of a value, at most [`MAX_VALUE_BYTES`].
    pub max_value_bytes: usize,
    /// Most bytes of values in memory, on their way in or out, over all requests; beyond it they are answered 429.
    pub max_body_bytes_in_flight: usize,
    /// Most scans at a time; further ones are answered 429.
    pub max_scans: usize,
    /// Milliseconds from the first byte of a request to the end of its headers.
    pub header_timeout_ms: u64,
    /// Milliseconds that a client may let pass within a body before it is answered 408.
    pub body_idle_timeout_ms: u64,
    /// Milliseconds for a whole body.
    pub body_timeout_ms: u64,
    /// Milliseconds without a byte in either direction after which a connection is closed; more than the longest deadline.
    pub idle_timeout_ms: u64,
    /// Milliseconds that a store has to answer a first attempt before another replica is asked; it doubles after each
    /// attempt without an answer.
    pub attempt_timeout_ms: u64,
    /// Milliseconds for which an `Idempotency-Key` is remembered, by the ranges.
    pub idempotency_window_ms: u64,
    /// Milliseconds for which the placement driver may be silent before a router that demands credentials turns every request
    /// away, because tokens may have been revoked meanwhile; 0 for never.
    pub access_stale_ms: u64,
    /// Milliseconds that requests in flight have to finish at shutdown.
    pub shutdown_grace_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_connections_per_principal: 5_000,
            max_value_bytes: MAX_VALUE_BYTES,
            max_body_bytes_in_flight: 256 << 20,
            max_scans: 64,
            header_timeout_ms: 10_000,
            body_idle_timeout_ms: 10_000,
            body_timeout_ms: 60_000,
            idle_timeout_ms: 75_000,
            attempt_timeout_ms: 2_000,
            idempotency_window_ms: 600_000,
            access_stale_ms: 900_000,
            shutdown_grace_ms: 10_000,
        }
    }
}

/// A configuration that can't be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// There is nobody to ask for the map.
    #[error("no placement member is given: pass --placement HOST:PORT")]
    NoPlacement,
    /// Plain text on an address that others can reach.
    #[error(
        "http = {0} can be reached from other machines and nothing is encrypted: bind to loopback, give --tls-ca, \
         --tls-cert and --tls-key, or pass --insecure"
    )]
    Exposed(SocketAddr),
    /// The files for TLS.
    #[error("--tls-ca, --tls-cert and --tls-key belong together: give all three, or none")]
    Tls,
    /// A bound makes no sense.
    #[error("limits.{name} is {value}; it must be {must_be}")]
    Limit {
        /// Which one.
        name: &'static str,
        /// What it is.
        value: u64,
        /// What it must be.
        must_be: String,
    },
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

    /// Whether every request must carry a credential from the start: it is asked for, or others can reach the address.
    pub fn demands_credentials(&self) -> bool {
        self.auth || (!self.insecure && !self.http.ip().is_loopback())
    }

    /// Checks what types can't.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), Invalid> {
        if self.placement.is_empty() {
            return Err(Invalid::NoPlacement);
        }
        let secured = self.tls_files()?.is_some() || self.insecure;
        if !self.http.ip().is_loopback() && !secured {
            return Err(Invalid::Exposed(self.http));
        }
        let limits = &self.limits;
        let at_least_one = [
            ("max_connections", limits.max_connections as u64),
            (
                "max_connections_per_principal",
                limits.max_connections_per_principal as u64,
            ),
            ("max_value_bytes", limits.max_value_bytes as u64),
            ("max_scans", limits.max_scans as u64),
            ("header_timeout_ms", limits.header_timeout_ms),
            ("body_idle_timeout_ms", limits.body_idle_timeout_ms),
            ("body_timeout_ms", limits.body_timeout_ms),
            ("attempt_timeout_ms", limits.attempt_timeout_ms),
            ("idempotency_window_ms", limits.idempotency_window_ms),
        ];
        for (name, value) in at_least_one {
            limit(name, value, value > 0, || "more than 0".to_owned())?;
        }
        let value = limits.max_value_bytes as u64;
        let most = MAX_VALUE_BYTES as u64;
        limit("max_value_bytes", value, value <= most, || {
            format!("at most {most}")
        })?;
        let in_flight = limits.max_body_bytes_in_flight as u64;
        limit("max_body_bytes_in_flight", in_flight, in_flight >= value, || {
            format!("at least {value}, one value")
        })?;
        let longest = MAX_DEADLINE.as_millis() as u64;
        let idle = limits.idle_timeout_ms;
        limit("idle_timeout_ms", idle, idle > longest, || {
            format!("more than {longest}, the longest deadline")
        })
    }
}

fn limit(name: &'static str, value: u64, holds: bool, must_be: impl Fn() -> String) -> Result<(), Invalid> {
    if holds {
        Ok(())
    } else {
        Err(Invalid::Limit {
            name,
            value,
            must_be: must_be(),
        })
    }
}

impl Limits {
    /// [`Limits::shutdown_grace_ms`].
    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        serde_json::from_str(r#"{"http": "127.0.0.1:0", "placement": ["127.0.0.1:1"]}"#).expect("a config")
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(config().validate(), Ok(()));
        assert_eq!(config().limits, Limits::default());
    }

    #[test]
    fn it_listens_at_a_name_as_at_an_address() {
        let at = |http: &str| {
            let text = format!(r#"{{"http": "{http}", "placement": ["a:1"]}}"#);
            serde_json::from_str::<Config>(&text).map(|config| config.http)
        };
        let local = at("localhost:7400").expect("a name of this machine");
        assert!(local.ip().is_loopback() && local.port() == 7400);
        for wrong in ["localhost", "127.0.0.1", "", "127.0.0.1:99999"] {
            assert!(at(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let unknown = r#"{"http": "127.0.0.1:0", "placement": ["a:1"], "limits": {"max_conections": 1}}"#;
        assert!(serde_json::from_str::<Config>(unknown).is_err());
    }

    #[test]
    fn what_can_not_work_is_refused() {
        let refused = |change: fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            config.validate().is_err()
        };
        assert!(refused(|config| config.placement.clear()));
        assert!(refused(|config| config.limits.max_connections = 0));
        assert!(refused(
            |config| config.limits.max_value_bytes = MAX_VALUE_BYTES + 1
        ));
        assert!(refused(|config| config.limits.max_body_bytes_in_flight = 1));
        assert!(refused(|config| config.limits.idle_timeout_ms = 60_000));
    }
}
