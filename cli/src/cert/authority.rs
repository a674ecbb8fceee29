//! The authority of one cluster: its own certificate names the cluster, and so does all that it signs.

use std::fs;
use std::path::Path;

use holdfast_common::clock;
use holdfast_common::ids::ClusterId;
use holdfast_common::tls::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};
use x509_parser::extensions::GeneralName;
use x509_parser::pem::parse_x509_pem;

use super::files::{self, Made};
use crate::exit::{Failure, Outcome};

/// How an authority names its cluster.
const CLUSTER_SCHEME: &str = "holdfast-cluster://";

/// A certificate is good from this long before it is made: clocks differ.
const BACKDATED: Duration = Duration::minutes(5);

/// An authority that can sign.
pub(super) struct Authority {
    cluster: ClusterId,
    issuer: Issuer<'static, KeyPair>,
}

/// What is to be signed.
pub(super) struct Wish<'a> {
    pub(super) identity: &'a Identity,
    /// Host names and IP addresses.
    pub(super) hosts: Vec<String>,
    pub(super) days: i64,
}

impl Authority {
    /// A new authority, of no other's making.
    pub(super) fn found(cluster: ClusterId, days: i64) -> Outcome<Made> {
        let mut params = params(&format!("Holdfast cluster {cluster}"), days)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![uri(&format!("{CLUSTER_SCHEME}{cluster}"))?];
        let key = KeyPair::generate().map_err(anyhow::Error::from)?;
        let certificate = params.self_signed(&key).map_err(anyhow::Error::from)?;
        Ok(Made {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The authority in `dir`. The last certificate of its file counts, should it hold several.
    pub(super) fn read(dir: &Path) -> Outcome<Self> {
        let (certificate, key) = files::paths(dir, "ca");
        let read = |path: &Path| {
            let told = |error| Failure::usage(format!("{}: {error}", path.display()));
            fs::read_to_string(path).map_err(told)
        };
        let (pem, key) = (read(&certificate)?, read(&key)?);
        let wrong = |why: &dyn std::fmt::Display| Failure::usage(format!("{}: {why}", certificate.display()));
        let cluster =
            cluster_of(&pem).ok_or_else(|| wrong(&"not an authority that `holdfast cert create-ca` made"))?;
        let key = KeyPair::from_pem(&key).map_err(|error| wrong(&error))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key).map_err(|error| wrong(&error))?;
        Ok(Self { cluster, issuer })
    }

    /// The cluster that it is for.
    pub(super) fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Signs a certificate with a key of its own.
    pub(super) fn sign(&self, wish: &Wish<'_>) -> Outcome<Made> {
        let Wish {
            identity,
            hosts,
            days,
        } = wish;
        let mut params = params(&identity.name, *days)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![uri(&identity.to_string())?];
        if !hosts.is_empty() {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        for host in hosts {
            params.subject_alt_names.push(host_name(host)?);
        }
        let key = KeyPair::generate().map_err(anyhow::Error::from)?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .map_err(anyhow::Error::from)?;
        Ok(Made {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

fn params(common_name: &str, days: i64) -> Outcome<CertificateParams> {
    let now = i64::try_from(clock::wall_ms() / 1000).map_err(anyhow::Error::from)?;
    let now = OffsetDateTime::from_unix_timestamp(now).map_err(anyhow::Error::from)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = now.saturating_sub(BACKDATED);
    params.not_after = now.saturating_add(Duration::days(days));
    Ok(params)
}

fn uri(text: &str) -> Outcome<SanType> {
    Ok(SanType::URI(text.try_into().map_err(anyhow::Error::from)?))
}

fn host_name(host: &str) -> Outcome<SanType> {
    match host.parse() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) => {
            let name = host
                .try_into()
                .map_err(|_| Failure::usage(format!("{host:?} is no host name")))?;
            Ok(SanType::DnsName(name))
        }
    }
}

/// The cluster that an authority's certificate names.
fn cluster_of(pem: &str) -> Option<ClusterId> {
    let (_, pem) = parse_x509_pem(pem.as_bytes()).ok()?;
    let certificate = pem.parse_x509().ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(CLUSTER_SCHEME)?.parse().ok().map(ClusterId),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use holdfast_common::net::Role;
    use holdfast_common::tls::{Files, Kind, Tls};

    use super::*;

    #[test]
    fn what_an_authority_signs_is_what_processes_take() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = Authority::found(ClusterId(7), 1).expect("an authority");
        files::write(dir.path(), "ca", &made, false).expect("files");
        let again = files::write(dir.path(), "ca", &made, false);
        assert!(again.is_err(), "nothing is replaced unasked");
        let authority = Authority::read(dir.path()).expect("an authority");
        let identity = Identity::new(ClusterId(7), Kind::Node(Role::Store), "s1").expect("a name");
        let wish = Wish {
            identity: &identity,
            hosts: vec!["localhost".into(), "10.0.0.1".into()],
            days: 1,
        };
        let made = authority.sign(&wish).expect("a certificate");
        files::write(dir.path(), "s1", &made, false).expect("files");
        let (cert, key) = files::paths(dir.path(), "s1");
        let ca = dir.path().join("ca.pem");
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&key).expect("a file"));
        assert_eq!(mode & 0o777, 0o600, "nobody else reads the key");
        let tls = Tls::load(Files { ca, cert, key }).expect("certificates");
        assert_eq!(tls.identity(), identity);
    }
}
