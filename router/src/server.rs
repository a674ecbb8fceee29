//! A router from start to end: everything is wired here, top to bottom, and taken down in the opposite order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{BoxStream, StreamExt};
use holdfast_common::net::tcp::TcpListener;
use holdfast_common::net::{Client, ClientConfig, ClusterIdCell, PeerInfo, Role};
use holdfast_common::placement_client::PlacementClient;
use holdfast_common::proto::access::Told;
use holdfast_common::proto::placement::MapEvent;
use holdfast_common::tls::listener::Listener;
use holdfast_common::tls::{self, Tls};
use tokio_util::sync::CancellationToken;

use crate::config::{self, Config, Limits};
use crate::directory::Directory;
use crate::gate::Gate;
use crate::http::listener::{self, Manners};
use crate::http::{Bounds, Front, Patience, ReadLimits};
use crate::metrics::Metrics;
use crate::sender::Sender;
use crate::{RenderMetrics, map_feed};

/// Longest time that what a refused client still sends is read and thrown away.
const LINGER: Duration = Duration::from_secs(2);

/// Why a router did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration can't be run.
    #[error(transparent)]
    Config(#[from] config::Invalid),
    /// Its certificate.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The HTTP address can't be bound.
    #[error("can't serve HTTP at {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

/// A router that has its port and serves once [`Router::serve`] runs.
pub struct Router {
    listener: Listener,
    address: SocketAddr,
    limits: Limits,
    client: Client,
    directory: Arc<Directory>,
    metrics: Arc<Metrics>,
    render_metrics: RenderMetrics,
    events: BoxStream<'static, MapEvent>,
    access: BoxStream<'static, Told>,
    demands_credentials: bool,
}

impl Router {
    /// Takes the port.
    ///
    /// # Errors
    /// The configuration is not valid, or the port can't be had.
    pub async fn bind(config: Config, render_metrics: RenderMetrics) -> Result<Self, Error> {
        config.validate()?;
        let cluster = ClusterIdCell::default();
        let tls = Tls::of_process(config.tls_files()?, Role::Router, None)?;
        let certified = tls.as_ref().map(|tls| tls.identity().name);
        let name = certified.unwrap_or_else(|| config.name.clone());
        let identity = PeerInfo::new(Role::Router, 0, name);
        let client_config = ClientConfig {
            tls: tls.clone(),
            ..ClientConfig::default()
        };
        let client = Client::new(client_config, cluster.clone(), identity);
        let access = PlacementClient::new(config.placement.clone(), client.clone()).watch_access();
        let events = map_feed::events(client.clone(), config.placement.clone(), cluster);
        Self::bind_with(config, render_metrics, (client, tls), (events, access)).await
    }

    /// Takes the port, for a router that calls stores with `client` and hears of the map by `events`.
    pub(crate) async fn bind_with(
        config: Config,
        render_metrics: RenderMetrics,
        (client, tls): (Client, Option<Tls>),
        (events, access): (BoxStream<'static, MapEvent>, BoxStream<'static, Told>),
    ) -> Result<Self, Error> {
        let failed = |source| Error::Bind {
            address: config.http,
            source,
        };
        let listener = TcpListener::bind(config.http).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let metrics = Arc::new(Metrics::new());
        let directory = Arc::new(Directory::new(client.clone(), metrics.clone()));
        let advertise = config.advertise.as_deref();
        tracing::info!(%address, advertise, name = config.name, "the router takes HTTP");
        let demands_credentials = config.demands_credentials();
        Ok(Self {
            listener: Listener::new(listener, tls),
            address,
            limits: config.limits,
            client,
            directory,
            metrics,
            render_metrics,
            events,
            access,
            demands_credentials,
        })
    }

    /// Where it listens; tells the port when it was bound to port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`; then stops listening, finishes the requests in flight within their grace, and closes its
    /// connections to the stores.
    pub async fn serve(mut self, shutdown: CancellationToken) {
        let limits = &self.limits;
        let attempt_timeout = Duration::from_millis(limits.attempt_timeout_ms);
        let sender = Arc::new(Sender::new(
            self.directory.clone(),
            self.metrics.clone(),
            attempt_timeout,
        ));
        let patience = Duration::from_millis(limits.access_stale_ms);
        let gate = Gate::new(
            self.demands_credentials,
            (!patience.is_zero()).then_some(patience),
        );
        let gate = Arc::new(gate);
        while let Some(Some(told)) = self.access.next().now_or_never() {
            gate.learn(told);
        }
        let front = Front::new(
            sender,
            self.directory.clone(),
            self.metrics,
            self.render_metrics,
            gate.clone(),
            bounds(limits),
            shutdown.clone(),
        );
        let rules = tokio::spawn(gate.follow(self.access));
        let feed = tokio::spawn(map_feed::follow(self.events, self.directory));
        listener::serve(self.listener, Arc::new(front), manners(limits), shutdown).await;
        feed.abort();
        rules.abort();
        self.client.close();
        tracing::info!("the router has stopped");
    }
}

fn bounds(limits: &Limits) -> Bounds {
    Bounds {
        read: ReadLimits {
            bytes: limits.max_value_bytes,
            idle: Duration::from_millis(limits.body_idle_timeout_ms),
            total: Duration::from_millis(limits.body_timeout_ms),
        },
        body_bytes: limits.max_body_bytes_in_flight,
        scans: limits.max_scans,
        principal_connections: limits.max_connections_per_principal,
        idempotency_window_ms: limits.idempotency_window_ms,
    }
}

fn manners(limits: &Limits) -> Manners {
    Manners {
        max_connections: limits.max_connections,
        patience: Patience {
            idle: Duration::from_millis(limits.idle_timeout_ms),
            headers: Duration::from_millis(limits.header_timeout_ms),
            linger: LINGER,
        },
        grace: limits.shutdown_grace(),
    }
}
