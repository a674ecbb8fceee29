//! Who may do what: pure decisions, the same at routers and placement members.
//!
//! [`Table`] is what the placement driver's rules say. A request is matched to a [`Principal`] once ([`Table::admit`]); then
//! each thing that it asks for is checked ([`Principal::permits`]), before anything is proposed, and never in apply. A
//! span belongs to a prefix when both its bounds do.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::clock;
use crate::key::Span;
use crate::net::Role;
use crate::proto::access::{Credential, Proof, Right, Rules};
use crate::tls::{Identity, Kind};

/// How a token begins, so that people and scanners of leaked secrets know one when they see it.
pub const TOKEN_PREFIX: &str = "hf_";

/// Random bytes of a token.
pub const TOKEN_BYTES: usize = 32;

/// Longest text that is taken for a token, in bytes.
const MAX_TOKEN_TEXT: usize = 128;

/// A new token: [`TOKEN_PREFIX`] and [`TOKEN_BYTES`] random bytes in URL-safe base64. Whoever makes it shows it once and keeps
/// its hash.
pub fn new_token() -> String {
    let secret = clock::random_secret::<TOKEN_BYTES>();
    format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(secret))
}

/// The SHA-256 by which a token is known. It has 256 random bits, so nothing slower is needed.
pub fn hash_token(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// What stands for a key in the audit log: enough to find it when one knows it, and nothing to read it from.
pub fn key_tag(key: &[u8]) -> String {
    let digest = Sha256::digest(key);
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It carries nothing that proves who makes it.
    #[error("a credential is needed: send `Authorization: Bearer TOKEN`, or show a client certificate")]
    Missing,
    /// It carries something else than a bearer token.
    #[error("the header Authorization is not `Bearer TOKEN`")]
    Malformed,
    /// Its token is not known, or not any more.
    #[error("the token is not known: it may be mistyped, or revoked")]
    Unknown,
    /// Its credential has expired.
    #[error("the credential has expired")]
    Expired,
    /// Nothing is granted to its certificate.
    #[error("nothing is granted to this certificate: `holdfast token create --certificate NAME` does")]
    NoGrant,
    /// The principal is known, and may not do that.
    #[error("the credential does not allow this")]
    Forbidden,
}

impl Denied {
    /// Whether another credential is what is missing (401), rather than a right (403).
    pub fn is_unauthenticated(self) -> bool {
        self != Self::Forbidden
    }

    /// For logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::NoGrant => "no_grant",
            Self::Forbidden => "forbidden",
        }
    }
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub enum Principal {
    /// Nobody in particular, where nobody has to be.
    Anyone,
    /// The owner of a credential.
    Holder(Arc<Credential>),
    /// The owner of an admin certificate.
    Operator(Arc<str>),
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads keys, or how they are laid out.
    Read,
    /// Writes keys.
    Write,
    /// Looks at what concerns all keys, or changes how the cluster runs.
    Administer,
}

/// To what it does that.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// One key.
    Key(&'a [u8]),
    /// All keys of a span.
    Span(&'a Span),
    /// The cluster.
    Cluster,
}

impl Principal {
    /// Checks one thing that a request asks for.
    ///
    /// # Errors
    /// [`Denied::Forbidden`].
    pub fn permits(&self, action: Action, target: Target<'_>) -> Result<(), Denied> {
        let Self::Holder(credential) = self else {
            return Ok(());
        };
        let needed = match action {
            Action::Read => Right::ReadOnly,
            Action::Write => Right::ReadWrite,
            Action::Administer => Right::Admin,
        };
        let within = || {
            let prefixes = &credential.prefixes;
            prefixes.is_empty() || prefixes.iter().any(|prefix| holds(prefix, target))
        };
        if credential.right >= needed && within() {
            Ok(())
        } else {
            Err(Denied::Forbidden)
        }
    }

    /// The credential, if it is one's.
    pub fn credential(&self) -> Option<&Arc<Credential>> {
        match self {
            Self::Holder(credential) => Some(credential),
            Self::Anyone | Self::Operator(_) => None,
        }
    }
}

/// For logs: `token:NAME`, `certificate:NAME`, `operator:NAME` or `anyone`.
impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Holder(credential) => match &credential.proof {
                Proof::Token(_) => write!(f, "token:{}", credential.name),
                Proof::Certificate(_) => write!(f, "certificate:{}", credential.name),
            },
        }
    }
}

fn holds(prefix: &[u8], target: Target<'_>) -> bool {
    match target {
        Target::Key(key) => key.starts_with(prefix),
        Target::Span(span) => Span::prefix(prefix.to_vec()).covers(span),
        Target::Cluster => false,
    }
}

/// The rules, ready to be asked.
#[derive(Debug, Default)]
pub struct Table {
    required: bool,
    by_token: HashMap<[u8; 32], Arc<Credential>>,
    by_certificate: HashMap<String, Arc<Credential>>,
}

impl Table {
    /// What the rules say. With `required` a credential is asked for whatever they say.
    pub fn new(rules: &Rules, required: bool) -> Self {
        let mut table = Self {
            required: required || rules.required,
            ..Self::default()
        };
        for credential in &rules.credentials {
            let credential = Arc::new(credential.clone());
            match &credential.proof {
                Proof::Token(hash) => table.by_token.insert(*hash, credential.clone()),
                Proof::Certificate(name) => table.by_certificate.insert(name.clone(), credential.clone()),
            };
        }
        table
    }

    /// Whether a request without a credential is refused.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Who makes a request with this `Authorization` header, over a connection with this certificate. A header counts before
    /// a certificate, and must be good even where none is asked for. A node's certificate proves nothing about a client.
    ///
    /// # Errors
    /// Why the request is refused.
    pub fn admit(
        &self,
        authorization: Option<&str>,
        identity: Option<&Identity>,
        now_ms: u64,
    ) -> Result<Principal, Denied> {
        if let Some(header) = authorization {
            let token = bearer(header).ok_or(Denied::Malformed)?;
            let credential = self.by_token.get(&hash_token(token)).ok_or(Denied::Unknown)?;
            return current(credential, now_ms);
        }
        match identity.map(|identity| (identity.kind, &identity.name)) {
            Some((Kind::Node(Role::Admin), name)) => Ok(Principal::Operator(name.as_str().into())),
            Some((Kind::Client, name)) => match self.by_certificate.get(name) {
                Some(credential) => current(credential, now_ms),
                None if self.required => Err(Denied::NoGrant),
                None => Ok(Principal::Anyone),
            },
            _ if self.required => Err(Denied::Missing),
            _ => Ok(Principal::Anyone),
        }
    }

    /// Whether a principal that was admitted before would be admitted now: what long requests ask again and again.
    ///
    /// # Errors
    /// Why not.
    pub fn reconsider(&self, principal: &Principal, now_ms: u64) -> Result<(), Denied> {
        match principal {
            Principal::Operator(_) => Ok(()),
            Principal::Anyone if self.required => Err(Denied::Missing),
            Principal::Anyone => Ok(()),
            Principal::Holder(held) => {
                let present = match &held.proof {
                    Proof::Token(hash) => self.by_token.get(hash),
                    Proof::Certificate(name) => self.by_certificate.get(name),
                };
                let same = present.filter(|present| present.id == held.id);
                current(same.ok_or(Denied::Unknown)?, now_ms).map(drop)
            }
        }
    }
}

fn current(credential: &Arc<Credential>, now_ms: u64) -> Result<Principal, Denied> {
    if credential.expires_ms.is_some_and(|end| end <= now_ms) {
        Err(Denied::Expired)
    } else {
        Ok(Principal::Holder(credential.clone()))
    }
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    let fits = (1..=MAX_TOKEN_TEXT).contains(&token.len());
    (scheme.eq_ignore_ascii_case("bearer") && fits).then_some(token)
}

#[cfg(test)]
#[path = "access_test.rs"]
mod tests;
