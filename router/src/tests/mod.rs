//! A whole router, spoken to over HTTP, in front of a cluster that exists in memory.

mod access;
mod batches;
mod client;
mod cluster;
mod driver;
mod faults;
mod keys;
mod limits;
mod manners;
mod operations;
mod scans;
mod seeds;

use std::net::SocketAddr;
use std::sync::Arc;

use futures::StreamExt;
use holdfast_common::net::{self, ClientConfig, ClusterIdCell, PeerInfo, Role};
use holdfast_common::proto::access::{Rules, Told};
use holdfast_common::proto::placement::MapEvent;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use self::client::Client;
use self::cluster::{CLUSTER, Cluster};
use crate::{Config, Limits, Router};

/// A router under test. Dropped, it stops.
struct Running {
    address: SocketAddr,
    /// Stands for the placement driver.
    driver: mpsc::UnboundedSender<MapEvent>,
    /// By which it tells who may do what.
    rules: mpsc::UnboundedSender<Told>,
    shutdown: CancellationToken,
    _stopped_when_dropped: DropGuard,
    serving: JoinHandle<()>,
}

impl Running {
    /// A router that knows nothing yet.
    async fn cold(limits: Limits) -> Self {
        let (driver, mut events) = mpsc::unbounded_channel();
        let config = Config {
            http: "127.0.0.1:0".parse().expect("an address"),
            placement: vec!["127.0.0.1:1".to_owned()],
            name: "router-1".to_owned(),
            advertise: None,
            insecure: false,
            auth: false,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            limits,
        };
        let identity = PeerInfo::new(Role::Router, 0, "router-1");
        let client = net::Client::new(ClientConfig::default(), ClusterIdCell::known(CLUSTER), identity);
        let events = futures::stream::poll_fn(move |context| events.poll_recv(context)).boxed();
        let (rules, mut told) = mpsc::unbounded_channel();
        rules.send(Told::Rules(Rules::default())).expect("a receiver");
        let access = futures::stream::poll_fn(move |context| told.poll_recv(context)).boxed();
        let render = Arc::new(|| "# metrics\n".to_owned());
        let router = Router::bind_with(config, render, (client, None), (events, access))
            .await
            .expect("a router");
        let (address, shutdown) = (router.local_addr(), CancellationToken::new());
        let serving = tokio::spawn(router.serve(shutdown.clone()));
        let _stopped_when_dropped = shutdown.clone().drop_guard();
        Self {
            address,
            driver,
            rules,
            shutdown,
            _stopped_when_dropped,
            serving,
        }
    }

    fn tell(&self, event: MapEvent) {
        self.driver.send(event).expect("the router listens");
    }

    async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.serving.await.expect("no panic");
    }
}

/// A cluster, a router that has its map, and a client of it.
async fn start() -> (Cluster, Running, Client) {
    start_with(Limits::default()).await
}

async fn start_with(limits: Limits) -> (Cluster, Running, Client) {
    let cluster = Cluster::start().await;
    let router = Running::cold(limits).await;
    router.tell(cluster.map());
    let client = router.client().await;
    (cluster, router, client)
}
