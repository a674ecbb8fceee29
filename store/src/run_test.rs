//! A whole store, from its configuration on, with a placement driver that a test plays.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use holdfast_common::clock;
use holdfast_common::ids::{ClusterId, RangeId, ReplicaId, SessionId, StoreId};
use holdfast_common::key::Key;
use holdfast_common::net::{
    Client, ClientConfig, ClusterIdCell, ErrorCode, Lane, PeerInfo, Reply, Request, Role, Server,
    ServerConfig, Service, StreamReply,
};
use holdfast_common::placement_client;
use holdfast_common::proto::kv::{self, Condition, Mutation, Target, WriteOutcome, WriteRequest};
use holdfast_common::proto::placement::{
    Error as Refusal, Heartbeat, HeartbeatAnswer, IdBlock, MapEvent, MapVersion, Register, Registered, Step,
    StoreRoute,
};
use holdfast_common::proto::{self, method};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{Config, Error, run};

const PATIENCE: Duration = Duration::from_secs(30);
const CLUSTER: ClusterId = ClusterId(7);
const FIRST: Step = Step::CreateFirst {
    range: RangeId(1),
    replica: ReplicaId(101),
};

/// A placement driver that knows one store.
#[derive(Default)]
struct Driver {
    refuses: AtomicBool,
    has_removed: AtomicBool,
    introductions: Mutex<Vec<Register>>,
    heartbeats: Mutex<Vec<Heartbeat>>,
    /// For the next answer.
    steps: Mutex<Vec<Step>>,
    watchers: Mutex<Vec<StreamReply>>,
}

impl Service for Driver {
    fn call(&self, request: Request, reply: Reply) {
        match request.method {
            method::PLACEMENT_REGISTER => {
                let introduction: Register = proto::decode(&request.body).unwrap();
                let taken = Refusal::NameTaken {
                    name: introduction.name.clone(),
                    store: StoreId(9),
                };
                self.introductions.lock().push(introduction);
                let known = Registered {
                    cluster: CLUSTER,
                    store: StoreId(1),
                };
                let answer = if self.refuses.load(Ordering::Relaxed) {
                    Err(taken)
                } else {
                    Ok(known)
                };
                reply.send(proto::encode(&answer));
            }
            method::PLACEMENT_HEARTBEAT => {
                self.heartbeats.lock().push(proto::decode(&request.body).unwrap());
                let steps = std::mem::take(&mut *self.steps.lock());
                let answer = HeartbeatAnswer {
                    want_full: false,
                    interval_ms: 50,
                    split_bytes: 2_000,
                    steps,
                    sample_above: u64::MAX,
                    move_bytes_per_second: 64 << 20,
                };
                let removed = self.has_removed.load(Ordering::Relaxed);
                let unknown = Err(Refusal::UnknownStore(StoreId(1)));
                reply.send(proto::encode(&if removed { unknown } else { Ok(answer) }));
            }
            method::PLACEMENT_ALLOCATE_IDS => {
                reply.send(proto::encode(&Ok::<_, Refusal>(IdBlock {
                    first: 1_000,
                    count: 100,
                })));
            }
            method::PLACEMENT_WATCH_MAP => {
                let mut stream = reply.into_stream();
                let event = MapEvent {
                    version: MapVersion { stream: 1, number: 1 },
                    full: true,
                    ranges: Vec::new(),
                    gone: Vec::new(),
                    stores: vec![StoreRoute {
                        id: StoreId(1),
                        rpc_address: "127.0.0.1:1".to_owned(),
                    }],
                };
                stream.try_send(proto::encode(&Ok::<_, Refusal>(event))).unwrap();
                self.watchers.lock().push(stream);
            }
            _ => reply.fail(ErrorCode::UnknownMethod, "not here"),
        }
    }
}

/// A driver that is served, until it is told to fall silent.
struct Served {
    driver: Arc<Driver>,
    address: String,
    silence: CancellationToken,
    server: JoinHandle<()>,
}

impl Served {
    async fn start() -> Self {
        let driver = Arc::new(Driver::default());
        let identity = PeerInfo::new(Role::Placement, 1, "placement-1");
        let config = ServerConfig::new(identity, ClusterIdCell::known(CLUSTER));
        let config = ServerConfig {
            accept_unknown_cluster: true,
            grace: Duration::ZERO,
            ..config
        };
        let server = Server::bind("127.0.0.1:0", config, driver.clone()).await.unwrap();
        let address = server.local_addr().unwrap().to_string();
        let silence = CancellationToken::new();
        let server = tokio::spawn(server.serve(silence.clone()));
        Self {
            driver,
            address,
            silence,
            server,
        }
    }

    async fn fall_silent(self) {
        self.silence.cancel();
        self.server.await.unwrap();
    }
}

/// A store under way.
struct Running {
    config: Config,
    shutdown: CancellationToken,
    ended: JoinHandle<Result<(), Error>>,
}

impl Running {
    fn start(dir: &Path, placement: &str) -> Self {
        Self::with(config(dir, placement))
    }

    fn with(config: Config) -> Self {
        let shutdown = CancellationToken::new();
        let render = Arc::new(|| "metrics".to_owned());
        let ended = tokio::spawn(run(config.clone(), render, shutdown.clone()));
        Self {
            config,
            shutdown,
            ended,
        }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.ended.await.unwrap().unwrap();
    }

    /// Status and body of a GET.
    async fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut socket = TcpStream::connect(&self.config.http).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: store\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    async fn ranges(&self) -> Option<Vec<Value>> {
        let (_, body) = self.get("/debug/ranges").await?;
        serde_json::from_str::<Value>(&body).ok()?["items"]
            .as_array()
            .cloned()
    }

    async fn await_ready(&self) {
        eventually("readiness", || async {
            (self.get("/ready").await?.0 == 200).then_some(())
        })
        .await;
    }

    async fn await_leader(&self) {
        eventually("a leader", || async {
            self.ranges().await?.first()?["leads"].as_bool()?.then_some(())
        })
        .await;
    }

    async fn put(&self, sequence: u64, name: &str, value: &str) {
        let cluster = ClusterIdCell::known(CLUSTER);
        let client = Client::new(
            ClientConfig::default(),
            cluster,
            PeerInfo::new(Role::Router, 0, "test"),
        );
        let request = WriteRequest {
            target: Target {
                range: RangeId(1),
                bounds: 1,
            },
            session: SessionId(1),
            sequence,
            finished_below: 0,
            key: Key::new(name.to_owned()).unwrap(),
            condition: Condition::None,
            mutation: Mutation::Put {
                value: Bytes::copy_from_slice(value.as_bytes()),
                ttl_ms: 0,
            },
        };
        let body = proto::encode(&request);
        let deadline = clock::now() + PATIENCE;
        let answer = client
            .call(&self.config.rpc, Lane::Fast, method::KV_WRITE, body, deadline)
            .await
            .unwrap();
        proto::decode::<Result<WriteOutcome, kv::Error>>(&answer)
            .unwrap()
            .unwrap();
    }
}

/// An address that was free a moment ago.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

fn config(dir: &Path, placement: &str) -> Config {
    Config {
        name: "store-1".to_owned(),
        data_dir: dir.to_owned(),
        http: free_address(),
        rpc: free_address(),
        placement: vec![placement.to_owned()],
        disk_reserve_bytes: 0,
        shutdown_grace_ms: 200,
        ..Config::default()
    }
}

async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut attempt: impl FnMut() -> F) -> T {
    let tries = async {
        loop {
            if let Some(found) = attempt().await {
                return found;
            }
            clock::sleep(Duration::from_millis(10)).await;
        }
    };
    clock::timeout(PATIENCE, tries)
        .await
        .unwrap_or_else(|_| panic!("in vain: {what}"))
}

#[tokio::test]
async fn a_store_registers_does_as_told_and_works_on_without_the_driver() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start().await;
    served.driver.steps.lock().push(FIRST);
    let store = Running::start(dir.path(), &served.address);
    store.await_ready().await;
    store.await_leader().await;
    store.put(1, "a", "1").await;
    let introduction = served.driver.introductions.lock()[0].clone();
    assert_eq!(
        (introduction.name.as_str(), introduction.known),
        ("store-1", None)
    );
    eventually("a report of what it leads", || async {
        let heartbeats = served.driver.heartbeats.lock();
        // Earlier heartbeats may have told of the range before the write.
        let mut leading = heartbeats
            .iter()
            .flat_map(|heartbeat| &heartbeat.replicas)
            .filter_map(|report| report.leading.as_ref());
        leading.any(|leading| leading.keys == 1).then_some(())
    })
    .await;
    assert_eq!(store.get("/metrics").await, Some((200, "metrics".to_owned())));
    assert_eq!(store.get("/health").await.map(|(status, _)| status), Some(200));
    store.stop().await;

    let address = served.address.clone();
    served.fall_silent().await;
    let store = Running::start(dir.path(), &address);
    store.await_ready().await;
    store.await_leader().await;
    store.put(2, "b", "2").await;
    store.stop().await;
}

#[tokio::test]
async fn a_known_store_tells_the_driver_who_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start().await;
    let store = Running::start(dir.path(), &served.address);
    store.await_ready().await;
    store.stop().await;
    let store = Running::start(dir.path(), &served.address);
    eventually("the second introduction", || async {
        let introductions = served.driver.introductions.lock();
        let second = introductions.get(1)?;
        assert_eq!(second.known, Some((CLUSTER, StoreId(1))));
        assert_eq!(second.directory, introductions[0].directory);
        Some(())
    })
    .await;
    store.stop().await;
    served.fall_silent().await;
}

#[tokio::test]
async fn a_store_that_is_refused_ends_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start().await;
    served.driver.refuses.store(true, Ordering::Relaxed);
    let store = Running::start(dir.path(), &served.address);
    let ended = clock::timeout(PATIENCE, store.ended).await.unwrap().unwrap();
    assert!(
        matches!(
            ended,
            Err(Error::Refused(placement_client::Error::Refused(
                Refusal::NameTaken { .. }
            )))
        ),
        "{ended:?}"
    );
    served.fall_silent().await;
}

#[tokio::test]
async fn a_store_that_was_removed_says_so_and_serves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start().await;
    served.driver.steps.lock().push(FIRST);
    let store = Running::start(dir.path(), &served.address);
    store.await_ready().await;
    store.await_leader().await;
    served.driver.has_removed.store(true, Ordering::Relaxed);
    eventually("an alarm", || async {
        let (status, body) = store.get("/health").await?;
        (status == 503 && body.contains("can be stopped")).then_some(())
    })
    .await;
    let (status, body) = store.get("/ready").await.unwrap();
    assert!(status == 503 && body.contains("removed"), "{body}");
    eventually("its replicas are stopped", || async {
        store.ranges().await?.is_empty().then_some(())
    })
    .await;
    store.stop().await;
    served.fall_silent().await;
}

#[tokio::test]
async fn a_foreign_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("photo.jpg"), "not a store's").unwrap();
    let refused = Running::start(dir.path(), "127.0.0.1:1").ended.await.unwrap();
    assert!(matches!(refused, Err(Error::Identity(_))), "{refused:?}");
}

#[tokio::test]
async fn a_store_that_waits_for_the_driver_can_be_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let store = Running::start(dir.path(), "127.0.0.1:1");
    eventually("health", || async {
        (store.get("/health").await?.0 == 200).then_some(())
    })
    .await;
    assert_eq!(store.get("/ready").await.map(|(status, _)| status), Some(503));
    store.stop().await;
}

#[tokio::test]
async fn a_range_that_grew_far_too_large_is_split_without_the_driver() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start().await;
    served.driver.steps.lock().push(FIRST);
    let store = Running::with(Config {
        split_alone_after_ms: 200,
        ..config(dir.path(), &served.address)
    });
    store.await_ready().await;
    store.await_leader().await;
    // More than half of the size to split at, so that ids are asked for; then more than twice it.
    for n in 0..15 {
        store.put(n, &format!("{n:02}"), &"x".repeat(100)).await;
    }
    let beats = served.driver.heartbeats.lock().len();
    eventually("two more heartbeats", || async {
        (served.driver.heartbeats.lock().len() > beats + 2).then_some(())
    })
    .await;
    served.fall_silent().await;
    for n in 15..60 {
        store.put(n, &format!("{n:02}"), &"x".repeat(100)).await;
    }
    let ranges = eventually("a split", || async {
        store.ranges().await.filter(|ranges| ranges.len() > 1)
    })
    .await;
    assert!(
        ranges[1]["range"]
            .as_u64()
            .is_some_and(|id| (1_000..1_100).contains(&id)),
        "{ranges:?}"
    );
    store.stop().await;
}
