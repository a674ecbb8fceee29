//! Transport security: TLS 1.3 with a certificate on both sides, under authorities of the cluster's own.
//!
//! [`Tls`] is a process's end of it: what it shows, whom it believes. The files behind it are looked at again at most once a
//! second, when a connection is made; when they have changed, new connections use the new ones and the others go on.
//! [`identity`] is who a certificate speaks for, [`material`] what is made of the files, [`socket`] a connection with or
//! without TLS, [`listener`] accepts HTTP clients. `docs/security.md` tells the whole.

pub mod identity;
pub mod listener;
mod material;
#[cfg(feature = "axum")]
mod served;
pub mod socket;
mod verifier;

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use parking_lot::Mutex;

pub use self::identity::{Identity, Kind};
pub use self::material::{Error, Files, Material, read_chain, read_key, read_roots};
#[cfg(feature = "axum")]
pub use self::served::Remote;
use crate::clock::{self, Instant};
use crate::ids::ClusterId;
use crate::net::Role;

/// How often, at most, the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A process's certificates, always the latest. Clones share them.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: Files,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    material: Arc<Material>,
    stamps: [Option<Stamp>; 3],
    looked_at: Instant,
}

/// What tells one content of a file from the next: inode, length, and time of change in seconds and nanoseconds.
type Stamp = (u64, u64, i64, i64);

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with which of them.
    pub fn load(files: Files) -> Result<Self, Error> {
        let stamps = stamps(&files);
        let material = Arc::new(Material::read(&files)?);
        tell_expiry(&material);
        Ok(Self(Arc::new(Shared {
            files,
            state: Mutex::new(State {
                material,
                stamps,
                looked_at: clock::now(),
            }),
        })))
    }

    /// Whom this process's certificate names; that never changes.
    pub fn identity(&self) -> Identity {
        self.0.state.lock().material.identity.clone()
    }

    /// What to make a connection with now.
    pub fn current(&self) -> Arc<Material> {
        let mut state = self.0.state.lock();
        let now = clock::now();
        if now.saturating_duration_since(state.looked_at) >= LOOK_EVERY {
            state.looked_at = now;
            self.0.look(&mut state);
        }
        state.material.clone()
    }
}

impl Shared {
    /// Takes in new files. Those that can't be used are told of once, and the old ones stay: between the exchange of the
    /// certificate and that of its key they do not fit each other.
    fn look(&self, state: &mut State) {
        let stamps = stamps(&self.files);
        if stamps == state.stamps {
            return;
        }
        state.stamps = stamps;
        match Material::read(&self.files) {
            Ok(new) if new.identity == state.material.identity => {
                tracing::info!(identity = %new.identity, not_after = new.not_after, "new certificates are in use");
                counter!("holdfast_tls_reloads_total", "result" => "ok").increment(1);
                tell_expiry(&new);
                state.material = Arc::new(new);
            }
            Ok(new) => {
                let (ours, theirs) = (&state.material.identity, &new.identity);
                tracing::warn!(%ours, %theirs, "the new certificate names somebody else and is not used");
                counter!("holdfast_tls_reloads_total", "result" => "failed").increment(1);
            }
            Err(error) => {
                tracing::warn!(%error, "the new certificates can't be used, the old ones stay");
                counter!("holdfast_tls_reloads_total", "result" => "failed").increment(1);
            }
        }
    }
}

fn tell_expiry(material: &Material) {
    gauge!("holdfast_tls_certificate_not_after_seconds").set(material.not_after as f64);
}

fn stamps(files: &Files) -> [Option<Stamp>; 3] {
    [&files.ca, &files.cert, &files.key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ))
    })
}

impl Tls {
    /// The certificates of a process that calls itself `name`, if it is configured with files. Without a name of its own it
    /// takes the certificate's.
    ///
    /// # Errors
    /// What is wrong with which file, or that the certificate is another's.
    pub fn of_process(files: Option<Files>, role: Role, name: Option<&str>) -> Result<Option<Self>, Error> {
        let Some(files) = files else {
            return Ok(None);
        };
        let path = files.cert.clone();
        let tls = Self::load(files)?;
        let identity = tls.identity();
        let name = name.unwrap_or(&identity.name);
        identity
            .check_claim(role, name, ClusterId::NONE)
            .map_err(|source| Error::Identity { path, source })?;
        tracing::info!(%identity, "connections are encrypted, and both sides show certificates");
        Ok(Some(tls))
    }

    /// The cluster of its certificate.
    pub fn cluster(&self) -> ClusterId {
        self.0.state.lock().material.identity.cluster
    }
}
