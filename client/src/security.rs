//! Whom a client believes, and how it proves who it is.

use std::fmt;

use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, ClientBuilder, Identity};

use crate::error::Error;

/// What `https://` needs: PEM, as `holdfast cert` makes it.
#[derive(Clone)]
pub struct Tls {
    ca: Vec<u8>,
    identity: Option<Vec<u8>>,
}

impl Tls {
    /// Believes routers whose certificates were signed by one of these authorities, and nobody else.
    pub fn trusting(ca: impl Into<Vec<u8>>) -> Self {
        Self {
            ca: ca.into(),
            identity: None,
        }
    }

    /// Shows a client certificate; `key` is its private key.
    #[must_use]
    pub fn showing(mut self, certificate: &[u8], key: &[u8]) -> Self {
        self.identity = Some([certificate, b"\n", key].concat());
        self
    }

    fn apply(&self, builder: ClientBuilder) -> reqwest::Result<ClientBuilder> {
        let mut builder = builder
            .use_rustls_tls()
            .min_tls_version(reqwest::tls::Version::TLS_1_3);
        for authority in Certificate::from_pem_bundle(&self.ca)? {
            builder = builder.add_root_certificate(authority);
        }
        Ok(match &self.identity {
            Some(identity) => builder.identity(Identity::from_pem(identity)?),
            None => builder,
        })
    }
}

// A key is in it.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shows = self.identity.is_some();
        f.debug_struct("Tls")
            .field("shows_certificate", &shows)
            .finish_non_exhaustive()
    }
}

/// A bearer token.
#[derive(Clone)]
pub struct Token(HeaderValue);

impl Token {
    /// The token as it was shown when it was made.
    ///
    /// # Errors
    /// [`Error::Credentials`]: it has characters that no token has.
    pub fn new(token: &str) -> Result<Self, Error> {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
        let mut value =
            value.map_err(|_| Error::Credentials("the token has characters that no token has".to_owned()))?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// A builder that believes and proves what it is told to.
pub(crate) fn secured(
    mut builder: ClientBuilder,
    tls: Option<&Tls>,
    token: Option<&Token>,
) -> Result<ClientBuilder, Error> {
    if let Some(Token(value)) = token {
        builder = builder.default_headers(HeaderMap::from_iter([(AUTHORIZATION, value.clone())]));
    }
    match tls {
        Some(tls) => tls
            .apply(builder)
            .map_err(|error| Error::Credentials(format!("the certificates can't be used: {error}"))),
        None => Ok(builder),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Options};

    #[test]
    fn secrets_are_in_no_debug_output() {
        let tls = Tls::trusting("canary").showing(b"canary", b"canary");
        let options = Options {
            tls: Some(tls),
            token: Some(Token::new("hf_canary").expect("a token")),
            ..Options::default()
        };
        assert!(!format!("{options:?}").contains("canary"), "{options:?}");
    }

    #[test]
    fn what_can_not_be_used_is_refused_before_anything_is_sent() {
        assert!(matches!(Token::new("hf_a\nb"), Err(Error::Credentials(_))));
        let with = |tls| Options {
            tls,
            ..Options::default()
        };
        let bad = with(Some(Tls::trusting("-----BEGIN CERTIFICATE-----\n*")));
        assert!(matches!(
            Client::with("https://localhost:1", bad),
            Err(Error::Credentials(_))
        ));
        let none = Client::with("https://localhost:1", with(None));
        assert!(matches!(none, Err(Error::Credentials(_))), "nobody is believed");
    }
}
