//! Who may do what, as the placement driver tells it to routers.
//!
//! A secret is never here: a token is known by the SHA-256 of its 256 random bits, which can't be guessed back.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Asks for the rules, whole, at once and after each change; the stream also says them again, or [`Told::Same`], at least every
/// second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchAccess;

/// One item of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Told {
    /// The rules, in place of all before.
    Rules(Rules),
    /// They are as they were.
    Same,
}

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Raised with every change.
    pub version: u64,
    /// Whether a request without a credential is refused. Set with the first credential; never unset by itself.
    pub required: bool,
    /// All credentials, in the order of their ids.
    pub credentials: Vec<Credential>,
}

/// What somebody shows to be let in, and what it is good for.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// Minted by the placement driver, never used again.
    pub id: u64,
    /// For people, and for the audit log.
    pub name: String,
    /// How its owner is recognised.
    pub proof: Proof,
    /// What it allows.
    pub right: Right,
    /// The keys for which it allows that: those that begin with one of these. None stands for every key.
    pub prefixes: Vec<Vec<u8>>,
    /// Wall time, milliseconds since 1970, from which on it is worth nothing.
    pub expires_ms: Option<u64>,
    /// Wall time at which it was made.
    pub created_ms: u64,
    /// What it may cost.
    pub limits: Limits,
}

/// How the owner of a credential is recognised.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Proof {
    /// By a bearer token with this SHA-256.
    Token([u8; 32]),
    /// By a client certificate of this name.
    Certificate(String),
}

/// What a credential allows. Each right includes those below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Reading keys.
    ReadOnly,
    /// Reading and writing keys.
    ReadWrite,
    /// Everything, administration and tokens too; never for prefixes alone.
    Admin,
}

/// Bounds on what one principal may make one process do; 0 stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests a second.
    pub requests_per_second: u32,
    /// Bytes of bodies a second, both ways.
    pub bytes_per_second: u64,
    /// Requests at a time.
    pub concurrent_requests: u32,
}

// A hash can't be turned back; it is of no use in a log all the same.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("right", &self.right)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token"),
            Self::Certificate(name) => write!(f, "Certificate({name:?})"),
        }
    }
}
