//! Who may do what, as the members agree on it. Pure.
//!
//! The first credential closes the cluster: from then on every request needs one. It has to be an admin's without an end, and
//! the last such one can't be revoked while credentials are demanded, so that nobody locks everybody out.

use holdfast_common::proto::access::{Credential, Right, Rules};
use serde::{Deserialize, Serialize};

/// Most credentials: all of them go to every router in one message.
pub const MAX_CREDENTIALS: usize = 1_000;

/// Longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// Most prefixes of a credential.
pub const MAX_PREFIXES: usize = 16;

/// Longest prefix, in bytes.
pub const MAX_PREFIX_BYTES: usize = 512;

/// Who may do what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// What routers are told.
    pub rules: Rules,
    /// The last id that was minted; they are never used again.
    minted: u64,
}

/// Why the rules stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Refusal {
    /// The name is taken.
    #[error("there is a credential called {0} already: revoke it first, or take another name")]
    NameTaken(String),
    /// There are too many.
    #[error("there are {MAX_CREDENTIALS} credentials already: revoke some first")]
    TooMany,
    /// It makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Nobody could administer the cluster any more.
    #[error(
        "nobody could administer the cluster any more: there must be an admin for all keys, without an end, while credentials \
         are demanded; create one first, or stop demanding them (PUT /v1/auth)"
    )]
    LastAdmin,
    /// There is no such credential.
    #[error("there is no credential {0}")]
    Unknown(u64),
}

impl Access {
    /// Whether nothing was ever decided.
    pub fn is_untouched(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a credential under an id of its own, which it returns; the same one again changes nothing.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn grant(&mut self, wanted: &Credential) -> Result<u64, Refusal> {
        let credentials = &self.rules.credentials;
        if let Some(same) = credentials.iter().find(|known| known.proof == wanted.proof) {
            return if same.name == wanted.name {
                Ok(same.id)
            } else {
                Err(Refusal::NameTaken(same.name.clone()))
            };
        }
        check(wanted)?;
        if credentials.iter().any(|known| known.name == wanted.name) {
            return Err(Refusal::NameTaken(wanted.name.clone()));
        }
        if credentials.len() >= MAX_CREDENTIALS {
            return Err(Refusal::TooMany);
        }
        if credentials.is_empty() && !is_lasting_admin(wanted) {
            return Err(Refusal::LastAdmin);
        }
        self.minted += 1;
        let first = self.rules.credentials.is_empty();
        self.rules.credentials.push(Credential {
            id: self.minted,
            ..wanted.clone()
        });
        self.rules.required |= first;
        self.rules.version += 1;
        Ok(self.minted)
    }

    /// Removes a credential.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn revoke(&mut self, id: u64) -> Result<(), Refusal> {
        let mut rest = self.rules.credentials.clone();
        rest.retain(|known| known.id != id);
        if rest.len() == self.rules.credentials.len() {
            return Err(Refusal::Unknown(id));
        }
        if self.rules.required && !rest.iter().any(is_lasting_admin) {
            return Err(Refusal::LastAdmin);
        }
        self.rules.credentials = rest;
        self.rules.version += 1;
        Ok(())
    }

    /// Sets whether requests need a credential.
    ///
    /// # Errors
    /// [`Refusal::LastAdmin`].
    pub fn demand(&mut self, required: bool) -> Result<(), Refusal> {
        if required && !self.rules.credentials.iter().any(is_lasting_admin) {
            return Err(Refusal::LastAdmin);
        }
        if self.rules.required != required {
            self.rules.required = required;
            self.rules.version += 1;
        }
        Ok(())
    }
}

fn is_lasting_admin(credential: &Credential) -> bool {
    credential.right == Right::Admin && credential.expires_ms.is_none()
}

fn check(wanted: &Credential) -> Result<(), Refusal> {
    let wrong = |what: String| Err(Refusal::Invalid(what));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let name = &wanted.name;
    if !(1..=MAX_NAME_BYTES).contains(&name.len()) || !name.bytes().all(plain) {
        return wrong(format!(
            "a name has 1 to {MAX_NAME_BYTES} letters, digits, dots, dashes and underscores"
        ));
    }
    if wanted.prefixes.len() > MAX_PREFIXES {
        return wrong(format!("a credential has at most {MAX_PREFIXES} prefixes"));
    }
    if let Some(long) = wanted
        .prefixes
        .iter()
        .find(|prefix| prefix.len() > MAX_PREFIX_BYTES)
    {
        let bytes = long.len();
        return wrong(format!(
            "a prefix has {bytes} bytes; at most {MAX_PREFIX_BYTES} are allowed"
        ));
    }
    if wanted.right == Right::Admin && !wanted.prefixes.is_empty() {
        return wrong("an admin's credential can't be for prefixes alone".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use holdfast_common::proto::access::Proof;
    use proptest::prelude::*;

    use super::*;

    fn credential(name: &str, right: Right) -> Credential {
        let mut hash = [0; 32];
        hash[..name.len()].copy_from_slice(name.as_bytes());
        Credential {
            id: 0,
            name: name.to_owned(),
            proof: Proof::Token(hash),
            right,
            prefixes: Vec::new(),
            expires_ms: None,
            created_ms: 1,
            limits: Default::default(),
        }
    }

    #[test]
    fn the_first_credential_is_an_admins_and_closes_the_cluster() {
        let mut access = Access::default();
        let reader = credential("reader", Right::ReadOnly);
        assert_eq!(access.grant(&reader), Err(Refusal::LastAdmin));
        let passing = Credential {
            expires_ms: Some(9),
            ..credential("admin", Right::Admin)
        };
        assert_eq!(access.grant(&passing), Err(Refusal::LastAdmin));
        assert!(access.is_untouched());
        assert_eq!(access.grant(&credential("admin", Right::Admin)), Ok(1));
        assert!(access.rules.required);
        assert_eq!(access.grant(&reader), Ok(2));
    }

    #[test]
    fn a_command_that_comes_twice_changes_nothing() {
        let mut access = Access::default();
        let admin = credential("admin", Right::Admin);
        assert_eq!(access.grant(&admin), Ok(1));
        let before = access.clone();
        assert_eq!(access.grant(&admin), Ok(1));
        assert_eq!(access, before);
        let namesake = Credential {
            proof: Proof::Certificate("x".into()),
            ..admin
        };
        assert_eq!(access.grant(&namesake), Err(Refusal::NameTaken("admin".into())));
    }

    #[test]
    fn the_last_admin_stays_while_credentials_are_demanded() {
        let mut access = Access::default();
        access.grant(&credential("admin", Right::Admin)).unwrap();
        assert_eq!(access.revoke(1), Err(Refusal::LastAdmin));
        assert_eq!(access.revoke(7), Err(Refusal::Unknown(7)));
        access.demand(false).unwrap();
        access.revoke(1).unwrap();
        assert!(!access.rules.required, "as it was told");
        assert_eq!(access.demand(true), Err(Refusal::LastAdmin));
        let id = access.grant(&credential("admin", Right::Admin)).unwrap();
        assert_eq!(id, 2, "ids are never used again");
        assert!(access.rules.required);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let mut access = Access::default();
        let admin = credential("admin", Right::Admin);
        for wrong in [
            Credential {
                name: String::new(),
                ..admin.clone()
            },
            Credential {
                name: "a b".into(),
                ..admin.clone()
            },
            Credential {
                prefixes: vec![b"p".to_vec()],
                ..admin.clone()
            },
            Credential {
                prefixes: vec![vec![0; 513]],
                right: Right::ReadOnly,
                ..admin.clone()
            },
            Credential {
                prefixes: vec![vec![]; 17],
                right: Right::ReadOnly,
                ..admin.clone()
            },
        ] {
            assert!(
                matches!(access.grant(&wrong), Err(Refusal::Invalid(_))),
                "{wrong:?}"
            );
        }
    }

    proptest! {
        /// Whatever is asked: a cluster that demands credentials has somebody who can administer it.
        #[test]
        fn nobody_is_ever_locked_out(steps in prop::collection::vec((0u8..4, 0u8..4, 0u64..6), 0..40)) {
            let mut access = Access::default();
            for (what, who, id) in steps {
                let before = access.rules.version;
                let right = [Right::ReadOnly, Right::ReadWrite, Right::Admin, Right::Admin][usize::from(who)];
                let name = format!("c{who}");
                let changed = match what {
                    0 | 1 => access.grant(&credential(&name, right)).map(drop),
                    2 => access.revoke(id),
                    _ => access.demand(id % 2 == 0),
                };
                prop_assert!(changed.is_ok() || access.rules.version == before);
                let lasting = access.rules.credentials.iter().any(is_lasting_admin);
                prop_assert!(!access.rules.required || lasting);
            }
        }
    }
}
