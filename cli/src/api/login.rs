//! How a command proves who runs it, and whom it believes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use holdfast_client::{Client, Options, Tls, Token};
use holdfast_common::tls;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use rustls::ClientConfig;
use rustls::crypto::ring;

use crate::exit::{Failure, Outcome};

/// How long a data command tries, before it says that it could not.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it tries an address at which nobody listens: somebody sits in front of it.
const UNREACHABLE: Duration = Duration::from_secs(1);

/// What every command that talks to a cluster takes.
#[derive(Default, Args)]
pub(crate) struct Login {
    /// The authority that signed the server's certificate, PEM, for https
    #[arg(
        id = "login_ca",
        long = "ca",
        visible_alias = "tls-ca",
        value_name = "FILE",
        env = "HOLDFAST_CA"
    )]
    ca: Option<PathBuf>,
    /// A client certificate to show, PEM
    #[arg(
        id = "login_cert",
        long = "cert",
        visible_alias = "tls-cert",
        value_name = "FILE",
        env = "HOLDFAST_CERT",
        requires_all = ["login_key", "login_ca"]
    )]
    cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(
        id = "login_key",
        long = "cert-key",
        visible_alias = "tls-key",
        value_name = "FILE",
        env = "HOLDFAST_CERT_KEY",
        requires = "login_cert"
    )]
    key: Option<PathBuf>,
    /// A bearer token; better given by the environment or a file, since others can read command lines
    #[arg(
        id = "login_token",
        long = "token",
        value_name = "TOKEN",
        env = "HOLDFAST_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
    /// A file with a bearer token and nothing else
    #[arg(
        id = "login_token_file",
        long = "token-file",
        value_name = "FILE",
        env = "HOLDFAST_TOKEN_FILE",
        conflicts_with = "login_token"
    )]
    token_file: Option<PathBuf>,
}

// The token is a secret.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("ca", &self.ca)
            .field("cert", &self.cert)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// The token, if there is one.
    pub(crate) fn token(&self) -> Outcome<Option<String>> {
        let given = match (&self.token, &self.token_file) {
            (None, Some(file)) => Some(text(file)?),
            (token, _) => token.clone(),
        };
        let token = given.map(|token| token.trim().to_owned());
        Ok(token.filter(|token| !token.is_empty()))
    }

    /// The headers of every request.
    pub(super) fn headers(&self) -> Outcome<HeaderMap> {
        let mut headers = HeaderMap::new();
        if let Some(token) = self.token()? {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value =
                value.map_err(|_| Failure::usage("the token has characters that no token has"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    /// A client of a router that behaves so.
    pub(crate) fn client(&self, url: &str) -> Outcome<Client> {
        Ok(Client::with(&absolute(url), self.options()?)?)
    }

    /// How a client of a router behaves.
    pub(crate) fn options(&self) -> Outcome<Options> {
        let token = self.token()?.map(|token| Token::new(&token)).transpose()?;
        let tls = self.ca.as_deref().map(bytes).transpose()?.map(Tls::trusting);
        let tls = match (tls, &self.cert, &self.key) {
            (Some(tls), Some(cert), Some(key)) => Some(tls.showing(&bytes(cert)?, &bytes(key)?)),
            (tls, ..) => tls,
        };
        Ok(Options {
            timeout: PATIENCE,
            unreachable_timeout: UNREACHABLE,
            token,
            tls,
            ..Options::default()
        })
    }

    /// Whom to believe by TLS, and what to show.
    pub(crate) fn tls(&self) -> Outcome<Option<ClientConfig>> {
        let Some(ca) = &self.ca else {
            return Ok(None);
        };
        let roots = tls::read_roots(ca).map_err(Failure::usage)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(anyhow::Error::from)?
            .with_root_certificates(roots);
        let config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = tls::read_chain(cert).map_err(Failure::usage)?;
                let key = tls::read_key(key).map_err(Failure::usage)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(Failure::usage)?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Some(config))
    }
}

/// The address with its scheme, which may be left out.
pub(crate) fn absolute(url: &str) -> String {
    if url.contains("://") {
        url.to_owned()
    } else {
        format!("http://{url}")
    }
}

fn bytes(file: &Path) -> Outcome<Vec<u8>> {
    std::fs::read(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}

fn text(file: &Path) -> Outcome<String> {
    std::fs::read_to_string(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_taken_from_a_file_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hf_from_a_file\n").unwrap();
        let login = Login {
            token_file: Some(file.path().to_owned()),
            ..Login::default()
        };
        assert_eq!(login.token().unwrap().as_deref(), Some("hf_from_a_file"));
        let empty = Login {
            token: Some(" ".to_owned()),
            ..Login::default()
        };
        assert_eq!(empty.token().unwrap(), None, "as an empty variable has it");
        let missing = Login {
            token_file: Some("/nowhere/token".into()),
            ..Login::default()
        };
        assert!(missing.token().is_err() && missing.client("127.0.0.1:1").is_err());
    }
}
