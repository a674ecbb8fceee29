//! Certificates, good and bad: who is let in, and that nobody else reaches the service.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use tempfile::TempDir;

use super::*;
use crate::proto::permitted;
use crate::tls::{Files, Tls};

/// An authority that signs whatever it is asked to.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "a test's authority");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        Self { issuer }
    }

    /// Writes `ca.pem`, `cert.pem` and `key.pem` to a directory.
    fn issue_to(&self, dir: &Path, uri: &str, change: impl FnOnce(&mut CertificateParams)) -> Files {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("an URI"))];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let [ca, cert, key_file] = ["ca.pem", "cert.pem", "key.pem"].map(|name| dir.join(name));
        std::fs::write(&ca, self.issuer.pem()).expect("a file");
        std::fs::write(&cert, certificate.pem()).expect("a file");
        std::fs::write(&key_file, key.serialize_pem()).expect("a file");
        Files {
            ca,
            cert,
            key: key_file,
        }
    }

    fn tls(&self, uri: &str) -> Tls {
        self.tls_with(uri, |_| ())
    }

    fn tls_with(&self, uri: &str, change: impl FnOnce(&mut CertificateParams)) -> Tls {
        let dir = TempDir::new().expect("a directory");
        Tls::load(self.issue_to(dir.path(), uri, change)).expect("certificates")
    }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock()).into_owned()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn server(tls: Tls) -> Running {
    Running::start_with(|config| {
        config.identity = PeerInfo::new(Role::Store, 1, "s1");
        config.tls = Some(tls);
        config.permits = |caller, method| permitted(Role::Store, caller, method | 0x0100);
    })
    .await
}

fn caller(role: Role, name: &str, tls: Option<Tls>) -> Client {
    let config = ClientConfig {
        tls,
        ..ClientConfig::default()
    };
    Client::new(
        config,
        ClusterIdCell::known(CLUSTER),
        PeerInfo::new(role, 1, name),
    )
}

async fn echo(client: &Client, addr: &str) -> Result<Bytes, Error> {
    client.call(addr, Lane::Fast, ECHO, number(1), soon()).await
}

#[tokio::test]
async fn two_processes_that_show_good_certificates_talk() {
    let authority = Authority::new();
    let server = server(authority.tls("holdfast://7/store/s1")).await;
    let router = authority.tls("holdfast://7/router/r1");
    let client = caller(Role::Router, "r1", Some(router));
    assert_eq!(echo(&client, &server.addr).await, Ok(number(1)));
    let large = Bytes::from(vec![7; 3 << 20]);
    let answer = client.call(&server.addr, Lane::Bulk, ECHO, large.clone(), soon());
    assert_eq!(answer.await, Ok(large));
    server.stop().await;
}

#[tokio::test]
async fn nobody_with_a_bad_certificate_reaches_the_service() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone());
    // For this thread, on which everything here runs.
    let _told = tracing::subscriber::set_default(subscriber.finish());
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = server(authority.tls("holdfast://7/store/s1")).await;
    let with = |tls: Tls| caller(Role::Router, "r1", Some(tls));
    let own = "holdfast://7/router/r1";
    // Believes the right authority, and is signed by another.
    let dir = TempDir::new().expect("a directory");
    let mut forged = stranger.issue_to(dir.path(), own, |_| ());
    forged.ca = dir.path().join("right-ca.pem");
    std::fs::write(&forged.ca, authority.issuer.pem()).expect("a file");
    let expired = authority.tls_with(own, |params| {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    });
    let server_only = authority.tls_with(own, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let cases = [
        (
            "no certificate, in plain text",
            "corrupt message",
            caller(Role::Router, "r1", None),
        ),
        (
            "another authority",
            "invalid peer certificate",
            with(Tls::load(forged).expect("certificates")),
        ),
        ("expired", "certificate expired", with(expired)),
        ("not for clients", "extended key usage", with(server_only)),
        (
            "another name",
            "r2",
            with(authority.tls("holdfast://7/router/r2")),
        ),
        (
            "another role",
            "placement",
            with(authority.tls("holdfast://7/placement/r1")),
        ),
        (
            "another cluster",
            "cluster",
            with(authority.tls("holdfast://8/router/r1")),
        ),
        (
            "a client's",
            "client",
            with(authority.tls("holdfast://7/client/r1")),
        ),
    ];
    for (case, reason, client) in cases {
        log.0.lock().clear();
        let answer = echo(&client, &server.addr).await;
        let error = answer.expect_err(case);
        // On the last flight of TLS 1.3 the dialer can't tell yet that it was refused; nothing reached the service.
        assert!(
            error.certainly_not_delivered(),
            "{case}: {error} must be no unknown outcome"
        );
        // The server may hear of it after the caller.
        let told = async {
            loop {
                let text = log.text();
                let is_told = |line: &str| line.contains("connection refused") && line.contains(reason);
                if text.lines().any(is_told) {
                    return;
                }
                clock::sleep(Duration::from_millis(5)).await;
            }
        };
        let told = clock::timeout(Duration::from_secs(10), told).await;
        let text = log.text();
        assert!(told.is_ok(), "{case}: {reason:?} is not in {text}");
    }
    assert_eq!(server.calls(), Vec::<Bytes>::new());
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_is_not_of_the_cluster_is_not_talked_to() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let ours = || Some(authority.tls("holdfast://7/router/r1"));
    let cases = [
        ("another authority", stranger.tls("holdfast://7/store/s1")),
        ("another cluster", authority.tls("holdfast://8/store/s1")),
        ("another name", authority.tls("holdfast://7/store/s2")),
        ("another role", authority.tls("holdfast://7/placement/s1")),
        ("a client", authority.tls("holdfast://7/client/s1")),
    ];
    for (case, tls) in cases {
        let server = server(tls).await;
        let error = echo(&caller(Role::Router, "r1", ours()), &server.addr).await;
        assert!(error.expect_err(case).certainly_not_delivered(), "{case}");
        assert_eq!(server.calls(), Vec::<Bytes>::new(), "{case}");
        server.stop().await;
    }
    let plain = Running::start().await;
    assert!(
        echo(&caller(Role::Router, "r1", ours()), &plain.addr)
            .await
            .is_err()
    );
    plain.stop().await;
}

#[tokio::test]
async fn a_role_may_call_only_what_it_is_for() {
    let authority = Authority::new();
    let server = server(authority.tls("holdfast://7/store/s1")).await;
    let admin = caller(Role::Admin, "ops", Some(authority.tls("holdfast://7/admin/ops")));
    let refused = echo(&admin, &server.addr).await;
    assert!(
        matches!(
            refused,
            Err(Error::Remote {
                code: ErrorCode::Forbidden,
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(server.calls(), Vec::<Bytes>::new());
    server.stop().await;
}

/// New certificates, of a new authority, while requests go on: none of them fails.
#[tokio::test]
async fn certificates_are_exchanged_under_load() {
    let (old, new) = (Authority::new(), Authority::new());
    let dirs = [TempDir::new(), TempDir::new()].map(|dir| dir.expect("a directory"));
    let uris = ["holdfast://7/store/s1", "holdfast://7/router/r1"];
    let [server_tls, client_tls] =
        [0, 1].map(|i| Tls::load(old.issue_to(dirs[i].path(), uris[i], |_| ())).expect("certificates"));
    let server = server(server_tls.clone()).await;
    let done = Arc::new(AtomicBool::new(false));
    let calls = {
        let (addr, tls, done) = (server.addr.clone(), client_tls.clone(), done.clone());
        tokio::spawn(async move {
            let mut calls = 0;
            while !done.load(Ordering::Relaxed) {
                // A client of its own each time, so that each call makes a connection.
                let client = caller(Role::Router, "r1", Some(tls.clone()));
                assert_eq!(echo(&client, &addr).await, Ok(number(1)));
                calls += 1;
            }
            calls
        })
    };
    let both = old.issuer.pem() + &new.issuer.pem();
    let old_pem = |tls: &Tls| Arc::as_ptr(&tls.current());
    // Both are trusted first, then certificates are exchanged, then the old one is trusted no more.
    for step in 0..3 {
        for (dir, (uri, tls)) in dirs.iter().zip(uris.iter().zip([&server_tls, &client_tls])) {
            let before = old_pem(tls);
            let ca = dir.path().join("ca.pem");
            match step {
                0 => std::fs::write(&ca, &both).expect("a file"),
                1 => {
                    new.issue_to(dir.path(), uri, |_| ());
                    std::fs::write(&ca, &both).expect("a file");
                }
                _ => std::fs::write(&ca, new.issuer.pem()).expect("a file"),
            }
            while old_pem(tls) == before {
                clock::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    done.store(true, Ordering::Relaxed);
    assert!(calls.await.expect("no call failed") > 0);
    let outdated = caller(Role::Router, "r1", Some(old.tls("holdfast://7/router/r1")));
    assert!(
        echo(&outdated, &server.addr).await.is_err(),
        "the old authority is trusted no more"
    );
    server.stop().await;
}

#[test]
fn files_that_do_not_fit_are_refused_and_the_old_ones_stay() {
    let (authority, dir) = (Authority::new(), TempDir::new().expect("a directory"));
    let files = authority.issue_to(dir.path(), "holdfast://7/store/s1", |_| ());
    let other = TempDir::new().expect("a directory");
    let mut mixed = authority.issue_to(other.path(), "holdfast://7/store/s1", |_| ());
    mixed.cert = files.cert.clone();
    assert!(Tls::load(mixed).is_err(), "the key of another certificate");
    for (what, broken) in [
        (
            "no authority",
            Files {
                ca: files.key.clone(),
                ..files.clone()
            },
        ),
        (
            "no certificate",
            Files {
                cert: files.key.clone(),
                ..files.clone()
            },
        ),
        (
            "no key",
            Files {
                key: files.cert.clone(),
                ..files.clone()
            },
        ),
        (
            "no file",
            Files {
                key: dir.path().join("none"),
                ..files.clone()
            },
        ),
    ] {
        let error = Tls::load(broken).expect_err(what).to_string();
        assert!(!error.contains("PRIVATE KEY-"), "{error}");
    }
    let nameless = authority.issue_to(dir.path(), "https://example.com", |_| ());
    assert!(Tls::load(nameless).is_err(), "nobody's");
}
