//! A router that is told nothing but where the placement driver is.

use bytes::Bytes;
use holdfast_common::net::{ErrorCode, Reply, Request, Server, ServerConfig, Service};
use holdfast_common::proto::placement::Error as Refusal;
use holdfast_common::proto::{self, method};
use parking_lot::Mutex;

use super::*;

/// A placement member: sends the map to whoever watches, and keeps the stream open.
struct Member {
    map: MapEvent,
    open: Mutex<Vec<net::StreamReply>>,
}

impl Service for Member {
    fn call(&self, request: Request, reply: Reply) {
        if request.method != method::PLACEMENT_WATCH_MAP {
            // As a member of a release without credentials.
            return reply.fail(ErrorCode::UnknownMethod, "not a method of this member");
        }
        let mut stream = reply.into_stream();
        let event: Bytes = proto::encode(&Ok::<_, Refusal>(&self.map));
        stream.try_send(event).expect("room for the first event");
        self.open.lock().push(stream);
    }
}

#[tokio::test]
async fn a_router_learns_its_cluster_and_map_from_any_member() {
    let cluster = Cluster::start().await;
    let mut config = ServerConfig::new(
        PeerInfo::new(Role::Placement, 1, "placement-1"),
        ClusterIdCell::known(CLUSTER),
    );
    config.accept_unknown_cluster = true;
    let member = Arc::new(Member {
        map: cluster.map(),
        open: Mutex::default(),
    });
    let server = Server::bind("127.0.0.1:0", config, member).await.expect("a port");
    let address = server.local_addr().expect("an address").to_string();
    let stop = CancellationToken::new();
    let _stopped_when_dropped = stop.clone().drop_guard();
    tokio::spawn(server.serve(stop.clone()));

    let nobody = "127.0.0.1:1".to_owned();
    let config = Config {
        http: "127.0.0.1:0".parse().expect("an address"),
        placement: vec![nobody, address],
        name: "router-1".to_owned(),
        advertise: None,
        insecure: false,
        auth: false,
        tls_ca: None,
        tls_cert: None,
        tls_key: None,
        limits: Limits::default(),
    };
    let router = Router::bind(config, Arc::new(String::new))
        .await
        .expect("a router");
    let (address, shutdown) = (router.local_addr(), CancellationToken::new());
    let serving = tokio::spawn(router.serve(shutdown.clone()));
    let mut client = Client::connect(address).await;
    // Waits for the map, and is let in by the stores.
    assert_eq!(client.put("/v1/kv/a", b"v").await.status, 201);
    assert_eq!(client.get("/ready").await.status, 200);
    shutdown.cancel();
    serving.await.expect("no panic");
}
