//! Who a certificate speaks for: pure.
//!
//! Exactly one subject alternative name of every certificate of ours is a URI
//!
//! ```text
//! holdfast://<cluster id>/<role>/<name>
//! ```
//!
//! and that is all that counts of it, besides its signature and its dates. Host names in it are for browsers and other
//! programs that dial HTTP by name.

use std::fmt;
use std::str::FromStr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ids::ClusterId;
use crate::net::Role;

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

const SCHEME: &str = "holdfast://";

/// What the owner of a certificate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A process of the cluster.
    Node(Role),
    /// A client of the HTTP interfaces: it may do what is granted to its name.
    Client,
}

impl Kind {
    /// As in the URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Node(Role::Placement) => "placement",
            Self::Node(Role::Store) => "store",
            Self::Node(Role::Router) => "router",
            Self::Node(Role::Admin) => "admin",
            Self::Client => "client",
        }
    }

    fn read(text: &str) -> Option<Self> {
        Some(match text {
            "placement" => Self::Node(Role::Placement),
            "store" => Self::Node(Role::Store),
            "router" => Self::Node(Role::Router),
            "admin" => Self::Node(Role::Admin),
            "client" => Self::Client,
            _ => return None,
        })
    }
}

/// Who a certificate speaks for. Its name has 1 to [`MAX_NAME_BYTES`] letters, digits, dots, dashes and underscores.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The cluster, never [`ClusterId::NONE`].
    pub cluster: ClusterId,
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

/// Why a certificate speaks for nobody here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The peer showed none.
    #[error("no certificate was shown")]
    Missing,
    /// It can't be read.
    #[error("the certificate can't be read")]
    Malformed,
    /// It names nobody.
    #[error("the certificate has no {SCHEME} name: make it with `holdfast cert`")]
    Nameless,
    /// It has several names.
    #[error("the certificate has more than one {SCHEME} name")]
    Ambiguous,
    /// Its name is not one.
    #[error("{0:?} is not {SCHEME}<cluster id>/<placement|store|router|admin|client>/<name>")]
    Name(String),
    /// It is of another cluster.
    #[error("the certificate is of cluster {theirs}, this process's of {ours}")]
    Cluster {
        /// This process's.
        ours: ClusterId,
        /// The certificate's.
        theirs: ClusterId,
    },
    /// The peer introduces itself as somebody else, or may not be what it is here.
    #[error("the certificate of {identity} can't be used as {what}")]
    NotThis {
        /// Whose it is.
        identity: Identity,
        /// What it was used as.
        what: String,
    },
}

impl Identity {
    /// Checks the parts.
    ///
    /// # Errors
    /// [`Error::Name`].
    pub fn new(cluster: ClusterId, kind: Kind, name: &str) -> Result<Self, Error> {
        let identity = Self {
            cluster,
            kind,
            name: name.to_owned(),
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_name = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(plain);
        if cluster.is_some() && is_name {
            Ok(identity)
        } else {
            Err(Error::Name(identity.to_string()))
        }
    }

    /// Whom a certificate (DER) names.
    ///
    /// # Errors
    /// It names nobody, or not in our way.
    pub fn of_certificate(der: &[u8]) -> Result<Self, Error> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Error::Malformed)?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|_| Error::Malformed)?
            .map_or(&[][..], |names| &names.value.general_names);
        let mut ours = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
            _ => None,
        });
        let uri = ours.next().ok_or(Error::Nameless)?;
        if ours.next().is_some() {
            return Err(Error::Ambiguous);
        }
        uri.parse()
    }

    /// Checks that a process of cluster `ours` may take this for one of the same cluster.
    ///
    /// # Errors
    /// [`Error::Cluster`].
    pub fn check_cluster(&self, ours: ClusterId) -> Result<(), Error> {
        if self.cluster == ours {
            Ok(())
        } else {
            Err(Error::Cluster {
                ours,
                theirs: self.cluster,
            })
        }
    }

    /// Checks that this is who a peer says that it is.
    ///
    /// # Errors
    /// [`Error::NotThis`], [`Error::Cluster`].
    pub fn check_claim(&self, role: Role, name: &str, cluster: ClusterId) -> Result<(), Error> {
        if self.kind != Kind::Node(role) || self.name != name {
            return Err(Error::NotThis {
                identity: self.clone(),
                what: format!("{} {name:?}", Kind::Node(role).as_str()),
            });
        }
        if cluster.is_some() {
            self.check_cluster(cluster)?;
        }
        Ok(())
    }
}

/// When a certificate (DER) ends, in seconds since 1970.
///
/// # Errors
/// [`Error::Malformed`].
pub fn not_after(der: &[u8]) -> Result<i64, Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Error::Malformed)?;
    Ok(certificate.validity().not_after.timestamp())
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster, self.kind.as_str(), self.name)
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(uri: &str) -> Result<Self, Error> {
        let wrong = || Error::Name(uri.to_owned());
        let parts = uri.strip_prefix(SCHEME).ok_or_else(wrong)?;
        let (cluster, rest) = parts.split_once('/').ok_or_else(wrong)?;
        let (kind, name) = rest.split_once('/').ok_or_else(wrong)?;
        let cluster = cluster.parse().map(ClusterId).map_err(|_| wrong())?;
        let identity = Self::new(cluster, Kind::read(kind).ok_or_else(wrong)?, name)?;
        // One spelling alone: `+7` and `007` are numbers too.
        if identity.to_string() == uri {
            Ok(identity)
        } else {
            Err(wrong())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KINDS: [Kind; 5] = [
        Kind::Node(Role::Placement),
        Kind::Node(Role::Store),
        Kind::Node(Role::Router),
        Kind::Node(Role::Admin),
        Kind::Client,
    ];

    proptest! {
        #[test]
        fn a_name_comes_back(cluster in 1u64.., kind in 0usize..5, name in "[a-zA-Z0-9._-]{1,128}") {
            let identity = Identity::new(ClusterId(cluster), KINDS[kind], &name).expect("a name");
            prop_assert_eq!(identity.to_string().parse(), Ok(identity));
        }

        #[test]
        fn arbitrary_certificates_never_panic(der: Vec<u8>) {
            let _ = Identity::of_certificate(&der);
        }

        #[test]
        fn arbitrary_names_are_read_in_one_spelling(uri in "holdfast://[+0-9]{0,5}/?[a-z]{0,9}/?.{0,5}") {
            if let Ok(identity) = uri.parse::<Identity>() {
                prop_assert_eq!(identity.to_string(), uri);
            }
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for uri in [
            "holdfast://0/store/a",
            "holdfast://7/store/",
            "holdfast://7/king/a",
            "holdfast://7/store/a/b",
            "holdfast://07/store/a",
            "holdfast://+7/store/a",
            "https://7/store/a",
        ] {
            assert_eq!(uri.parse::<Identity>(), Err(Error::Name(uri.to_owned())));
        }
    }

    #[test]
    fn a_peer_is_who_its_certificate_names_and_nobody_else() {
        let store = Identity::new(ClusterId(7), Kind::Node(Role::Store), "s1").expect("a name");
        assert_eq!(store.check_claim(Role::Store, "s1", ClusterId(7)), Ok(()));
        assert_eq!(store.check_claim(Role::Store, "s1", ClusterId::NONE), Ok(()));
        assert!(store.check_claim(Role::Placement, "s1", ClusterId(7)).is_err());
        assert!(store.check_claim(Role::Store, "s2", ClusterId(7)).is_err());
        assert!(store.check_claim(Role::Store, "s1", ClusterId(8)).is_err());
        let client = Identity::new(ClusterId(7), Kind::Client, "s1").expect("a name");
        assert!(client.check_claim(Role::Store, "s1", ClusterId(7)).is_err());
    }
}
