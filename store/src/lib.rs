//! The store: many ranges on one machine, each a Raft group, over one log and one database.
//!
//! Three layers, each in the words of the one below:
//!
//! - **state**: what a committed entry does, as a pure function ([`apply`], [`sessions`], [`tokens`]), what lies on disk ([`keys`],
//!   [`row`], [`record`], [`snapshot`]), the database under it ([`engine`]), and the shell that openraft drives
//!   ([`machine`]);
//! - **replicas**: one for each range here ([`replica`]), with its way of writes and reads around the Raft group, and the
//!   host that starts and ends them;
//! - **process**: configuration, identity, RPC and HTTP, the link to the placement driver, and the order in which all that
//!   starts and stops ([`run`]).
//!
//! `docs/life-of-a-write.md` follows a write, and a read, through all of it.
#![forbid(unsafe_code)]

mod addresses;
pub mod apply;
mod check;
mod chores;
#[cfg(test)]
mod cluster_test;
mod codec;
pub mod command;
pub mod config;
pub mod damage;
pub mod decoding;
pub mod destroy;
mod disk;
pub mod engine;
mod failpoint;
mod heartbeat;
mod hibernate;
mod host;
mod http;
pub mod identity;
pub mod keys;
pub mod ledger;
mod link;
mod load;
pub mod machine;
mod memory;
pub mod metrics;
pub mod middle;
#[cfg(test)]
mod mutants_test;
pub mod quarantine;
mod ranges;
mod read;
mod rebuild;
pub mod record;
pub mod recovery;
mod replica;
pub mod row;
#[cfg(test)]
mod run_test;
mod service;
pub mod sessions;
pub mod shared;
mod site;
pub mod snapshot;
pub mod startup;
pub mod state;
mod steps;
mod store;
mod takeover;
pub mod tokens;
pub mod verify;

use std::time::Duration;

use holdfast_common::net::{Client, ClientConfig, ClusterIdCell, PeerInfo, Role};
use holdfast_common::placement_client::{self, PlacementClient};
use holdfast_common::tls::{self, Tls};
use tokio_util::sync::CancellationToken;

pub use self::config::Config;
pub use self::http::Render;
use self::http::Window;
use self::identity::DataDir;
use self::store::Store;

/// Why a store ended, other than by having been told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its configuration is wrong.
    #[error("configuration: {0}")]
    Config(#[from] config::Invalid),
    /// Its directory is not its own.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// HTTP can't be served.
    #[error("http = {address:?}: {error}")]
    Http {
        /// The address.
        address: String,
        /// Why not.
        error: std::io::Error,
    },
    /// The placement driver does not take it.
    #[error("the placement driver refuses this store: {0}")]
    Refused(placement_client::Error),
    /// It does not start.
    #[error(transparent)]
    Start(#[from] store::Error),
    /// Its certificate.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// It failed while it ran.
    #[error("the store has failed: {0}")]
    Failed(String),
    /// What it has on disk is not what was written.
    #[error(
        "the data of this store is damaged: {0}. Its directory is quarantined, and the store is not to take part again with it: start it \
         with --rebuild-damaged, which sets the content aside and joins as a new store"
    )]
    Damaged(String),
}

impl Error {
    /// Whether the store must be rebuilt, rather than started again.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged(_) => true,
            Self::Identity(error) => error.is_damage(),
            _ => false,
        }
    }
}

/// Runs a store until `shutdown`, then stops it in order: no new requests, those in flight answered, leaderships handed
/// over, groups shut down, databases closed. `render` gives the metrics of the process as text; its recorder is to be
/// installed before this is called. Works on a runtime of one thread and of several.
///
/// # Errors
/// The store could not start, or could not go on: the process should exit, at once, with a failure. What was acknowledged
/// is on disk.
pub async fn run(config: Config, render: Render, shutdown: CancellationToken) -> Result<(), Error> {
    config.validate()?;
    metrics::init();
    let tls = Tls::of_process(config.tls_files()?, Role::Store, Some(&config.name))?;
    let Some(mut dir) = rebuild::claim(&config, tls.as_ref(), &shutdown).await? else {
        return Ok(());
    };
    let ended = CancellationToken::new();
    let _end_http = ended.clone().drop_guard();
    let window = Window::new(render, shutdown.clone());
    let served = http::serve(&config.http, tls.clone(), window.clone(), ended.clone()).await;
    served.map_err(|error| Error::Http {
        address: config.http.clone(),
        error,
    })?;

    let cluster = ClusterIdCell::default();
    let node = dir.known().map_or(0, |(_, store)| store.0);
    let identity = PeerInfo::new(Role::Store, node, config.name.clone());
    let client_config = ClientConfig {
        tls: tls.clone(),
        ..ClientConfig::default()
    };
    let client = Client::new(client_config, cluster.clone(), identity);
    let placement = PlacementClient::new(config.placement.clone(), client.clone());
    let mut introduction = Some(link::introduction(&config, &dir));
    if let (None, Some(first)) = (dir.known(), &introduction) {
        let registering = link::register(&placement, first);
        let Some(registered) = shutdown.run_until_cancelled(registering).await else {
            return Ok(());
        };
        let (cluster, store) = registered.map_err(Error::Refused)?;
        holdfast_common::failpoint::reached(holdfast_common::failpoint::Step::StoreNamed);
        dir.registered(cluster, store)?;
        introduction = None;
    }
    let Some((cluster_id, store_id)) = dir.known() else {
        return Ok(());
    };
    // A cell that was just made takes any cluster.
    let _ = cluster.set(cluster_id);
    tracing::info!(cluster = %cluster_id, store = %store_id, name = config.name, "this store is known");

    let started = Store::start(&config, dir.path(), store_id, cluster, (client.clone(), tls)).await;
    let store = match started {
        Ok(store) => store,
        Err(error) => return Err(not_started(&dir, &placement, error).await),
    };
    if let Err(error) = quarantine::dispel_doubt(dir.path()) {
        tracing::warn!(%error, "everything will be read again at the next start");
    }
    window.open(store.host.clone());
    tracing::info!(rpc = %store.rpc, http = config.http, "the store runs");
    let after = Duration::from_millis(config.split_alone_after_ms);
    let ended = tokio::select! {
        reason = store.failed() => return Err(failed(&dir, &store, reason)),
        ended = link::keep(&store, placement, introduction, after, shutdown) => ended,
    };
    store.stop().await;
    client.close();
    ended.map_err(Error::Refused)
}

/// A start that met damage marks the directory, and the placement driver hears of it. Where the cause is not known, the next start has
/// to look at everything.
async fn not_started(dir: &DataDir, placement: &PlacementClient, error: store::Error) -> Error {
    let Some(found) = error.damage() else {
        if error.is_doubtful()
            && let Err(error) = dir.doubt(&error.to_string())
        {
            tracing::error!(%error, "the directory could not be marked");
        }
        return error.into();
    };
    let reason = found.reason.clone();
    match dir.quarantine(found) {
        Ok(mark) => rebuild::part(placement, &mark).await,
        Err(error) => tracing::error!(%error, "the directory could not be marked as damaged"),
    }
    Error::Damaged(reason)
}

/// A store that has failed ends at once: it may lead. Damage is marked; of anything else the next start has to make sure that it left
/// none.
fn failed(dir: &DataDir, store: &Store, reason: String) -> Error {
    let marked = match store.damage() {
        Some(found) => dir.quarantine(found).map(|_| true),
        None => dir.doubt(&reason).map(|()| false),
    };
    match marked {
        Ok(true) => Error::Damaged(reason),
        Ok(false) => Error::Failed(reason),
        Err(error) => {
            tracing::error!(%error, "the directory could not be marked");
            Error::Failed(reason)
        }
    }
}
