//! Stores that register, send heartbeats and do as they are told, without keeping anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::ids::{ClusterId, StoreId};
use holdfast_common::net::{
    Client, ClientConfig, ClusterIdCell, PeerInfo, Reply, Request, Role, Server, ServerConfig, Service,
};
use holdfast_common::placement_client::PlacementClient;
use holdfast_common::proto::placement::{HeartbeatAnswer, Register, Registered, Step, StepError};
use holdfast_common::proto::{self, method};
use parking_lot::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Driver, PATIENCE};
use crate::world::Stores;

/// All stores of a cluster.
pub(super) type Floor = Arc<Mutex<Stores>>;

/// A store that runs until it is dropped.
pub(super) struct FakeStore {
    pub(super) id: StoreId,
    _stop: DropGuard,
}

struct Obedient {
    floor: Floor,
    id: Arc<Mutex<StoreId>>,
}

impl Service for Obedient {
    fn call(&self, request: Request, reply: Reply) {
        assert_eq!(request.method, method::STORE_STEP);
        let step: Step = proto::decode(&request.body).unwrap();
        self.floor.lock().obey(*self.id.lock(), step);
        reply.send(proto::encode(&Ok::<(), StepError>(())));
    }
}

impl FakeStore {
    /// Starts a store with this number, which is also the id that it must be given.
    pub(super) async fn start(driver: &Driver, floor: &Floor, number: u64) -> Self {
        let cluster = ClusterIdCell::default();
        let identity = PeerInfo::new(Role::Store, 0, format!("store-{number}"));
        let id = Arc::new(Mutex::new(StoreId::NONE));
        let service = Arc::new(Obedient {
            floor: floor.clone(),
            id: id.clone(),
        });
        let config = ServerConfig::new(identity.clone(), cluster.clone());
        let server = Server::bind("127.0.0.1:0", config, service).await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(stop.clone()));

        let client = Client::new(ClientConfig::default(), cluster.clone(), identity);
        let placement = PlacementClient::new(driver.rpc_addresses(), client);
        let registered = register(&placement, number, &address, None).await.unwrap();
        assert_eq!(registered.store, StoreId(number));
        cluster.set(registered.cluster).unwrap();
        *id.lock() = registered.store;
        floor.lock().holds.entry(registered.store).or_default();
        tokio::spawn(beat(placement, floor.clone(), registered.store, stop.clone()));
        Self {
            id: registered.store,
            _stop: stop.drop_guard(),
        }
    }
}

/// Registers a store.
pub(super) async fn register(
    placement: &PlacementClient,
    number: u64,
    address: &str,
    known: Option<(ClusterId, StoreId)>,
) -> Result<Registered, holdfast_common::placement_client::Error> {
    let register = Register {
        name: format!("store-{number}"),
        known,
        directory: 1_000 + number,
        rpc_address: address.to_owned(),
        http_address: address.to_owned(),
        labels: BTreeMap::new(),
    };
    placement
        .call(method::PLACEMENT_REGISTER, &register, clock::now() + PATIENCE)
        .await
}

async fn beat(placement: PlacementClient, floor: Floor, store: StoreId, stop: CancellationToken) {
    let incarnation = clock::random_id();
    for sequence in 1.. {
        let heartbeat = floor.lock().heartbeat(store, incarnation, sequence);
        let call = placement.call(
            method::PLACEMENT_HEARTBEAT,
            &heartbeat,
            clock::now() + Duration::from_secs(5),
        );
        tokio::select! {
            answer = call => if let Ok(answer) = answer {
                let answer: HeartbeatAnswer = answer;
                answer.steps.into_iter().for_each(|step| floor.lock().obey(store, step));
            },
            () = stop.cancelled() => return,
        }
        tokio::select! {
            () = clock::sleep(Duration::from_millis(20)) => {}
            () = stop.cancelled() => return,
        }
    }
}
