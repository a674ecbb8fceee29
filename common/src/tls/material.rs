//! Certificates and keys: from three files to what the protocol needs.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::identity::{self, Identity};
use super::verifier::MemberVerifier;

/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Protocols that HTTP servers agree to, in the order of preference.
const HTTP_PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where a process finds its certificate. All are PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Certificates of the authorities that are trusted, one or (while they are being exchanged) more.
    pub ca: PathBuf,
    /// This process's certificate, and those between it and the authority, if any.
    pub cert: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
}

/// Why there is no certificate to work with.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Some of the three files are named and some are not.
    #[error("tls_ca, tls_cert and tls_key belong together: give all three, or none")]
    Incomplete,
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate speaks for nobody.
    #[error("{}: {source}", path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// Why.
        source: identity::Error,
    },
}

impl Files {
    /// The files, when all three are named; none when none is.
    ///
    /// # Errors
    /// [`Error::Incomplete`].
    pub fn all(
        ca: Option<&PathBuf>,
        cert: Option<&PathBuf>,
        key: Option<&PathBuf>,
    ) -> Result<Option<Self>, Error> {
        match (ca, cert, key) {
            (None, None, None) => Ok(None),
            (Some(ca), Some(cert), Some(key)) => Ok(Some(Self {
                ca: ca.clone(),
                cert: cert.clone(),
                key: key.clone(),
            })),
            _ => Err(Error::Incomplete),
        }
    }
}

/// What a process shows and whom it believes, as of one reading of its files.
#[derive(Debug)]
pub struct Material {
    /// Whom its certificate names.
    pub identity: Identity,
    /// When its certificate ends, in seconds since 1970.
    pub not_after: i64,
    /// For those who dial its RPC address: they must show a certificate.
    pub rpc_server: Arc<ServerConfig>,
    /// For those who dial its HTTP address: they may show a certificate.
    pub http_server: Arc<ServerConfig>,
    /// For dialing other processes of the cluster: whoever answers must show a certificate of one.
    pub client: Arc<ClientConfig>,
}

impl Material {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn read(files: &Files) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(read_roots(&files.ca)?);
        let chain = read_chain(&files.cert)?;
        let leaf = chain
            .first()
            .ok_or_else(|| wrong(&files.cert, "no certificate in it"))?;
        let about = |source| Error::Identity {
            path: files.cert.clone(),
            source,
        };
        let identity = Identity::of_certificate(leaf).map_err(about)?;
        let not_after = identity::not_after(leaf).map_err(about)?;
        let key = read_key(&files.key)?;
        let mismatch = |error: rustls::Error| {
            wrong(
                &files.key,
                format!("not the key of {}: {error}", files.cert.display()),
            )
        };

        let rpc_server =
            server(&provider, &roots, (chain.clone(), key.clone_key()), true).map_err(mismatch)?;
        let mut http_server =
            server(&provider, &roots, (chain.clone(), key.clone_key()), false).map_err(mismatch)?;
        http_server.alpn_protocols = HTTP_PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        let client = client(&provider, &roots, (chain, key)).map_err(mismatch)?;
        Ok(Self {
            identity,
            not_after,
            rpc_server: Arc::new(rpc_server),
            http_server: Arc::new(http_server),
            client: Arc::new(client),
        })
    }
}

type Credentials = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// No session is ever resumed: a resumed one would not show its certificate again, and live longer than it.
fn server(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    (chain, key): Credentials,
    demand: bool,
) -> Result<ServerConfig, rustls::Error> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone());
    let verifier = if demand {
        verifier
    } else {
        verifier.allow_unauthenticated()
    };
    let verifier = verifier
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    (chain, key): Credentials,
) -> Result<ClientConfig, rustls::Error> {
    let verifier = MemberVerifier::new(roots.clone(), provider.signature_verification_algorithms);
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)?;
    config.resumption = Resumption::disabled();
    // Names are in the certificate, not in the address that was dialed.
    config.enable_sni = false;
    Ok(config)
}

/// The authorities in a file.
///
/// # Errors
/// It can't be read, or has none.
pub fn read_roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in read_chain(path)? {
        roots.add(certificate).map_err(|error| wrong(path, error))?;
    }
    if roots.is_empty() {
        return Err(wrong(path, "no certificate in it"));
    }
    Ok(roots)
}

/// The certificates in a file, in their order.
///
/// # Errors
/// It can't be read.
pub fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let text = read(path)?;
    CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(path, error))
}

/// The key in a file.
///
/// # Errors
/// It can't be read, or has none. What is in the file is not told.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| wrong(path, "no private key in PEM in it"))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let file = fs::File::open(path).map_err(failed)?;
    let mut text = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(path, format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

fn wrong(path: &Path, reason: impl ToString) -> Error {
    Error::File {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
