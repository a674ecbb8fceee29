//! How a command proves who runs it, and whom it believes.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use holdfast_common::tls;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use rustls::ClientConfig;
use rustls::crypto::ring;

use crate::exit::{Failure, Outcome};

/// What every command that talks to a cluster takes.
#[derive(Default, Args)]
pub(crate) struct Login {
    /// The authority that signed the server's certificate, PEM, for https
    #[arg(id = "login_ca", long = "ca", value_name = "FILE", env = "HOLDFAST_CA")]
    ca: Option<PathBuf>,
    /// A client certificate to show, PEM
    #[arg(
        id = "login_cert",
        long = "cert",
        value_name = "FILE",
        env = "HOLDFAST_CERT",
        requires_all = ["login_key", "login_ca"]
    )]
    cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(
        id = "login_key",
        long = "cert-key",
        value_name = "FILE",
        env = "HOLDFAST_CERT_KEY",
        requires = "login_cert"
    )]
    key: Option<PathBuf>,
    /// A bearer token; better given by the environment, since others can read command lines
    #[arg(
        id = "login_token",
        long = "token",
        value_name = "TOKEN",
        env = "HOLDFAST_TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
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
    /// The headers of every request.
    pub(super) fn headers(&self) -> Outcome<HeaderMap> {
        let mut headers = HeaderMap::new();
        if let Some(token) = self.token.as_deref().filter(|token| !token.trim().is_empty()) {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
            let mut value = value.map_err(|_| Failure::usage("--token has characters that no token has"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        Ok(headers)
    }

    /// Whom to believe by TLS, and what to show.
    pub(super) fn tls(&self) -> Outcome<Option<ClientConfig>> {
        let Some(ca) = &self.ca else {
            return Ok(None);
        };
        let roots = tls::read_roots(ca).map_err(Failure::usage)?;
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(anyhow::Error::from)?
            .with_root_certificates(roots);
        let mut config = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                let chain = tls::read_chain(cert).map_err(Failure::usage)?;
                let key = tls::read_key(key).map_err(Failure::usage)?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(Failure::usage)?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(config))
    }
}
