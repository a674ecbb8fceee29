//! Whole placement drivers in one process, over TCP, with stores made of thin air.

mod access;
mod fake_store;
mod live;
mod members;
mod ranges;
mod session;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_common::clock;
use holdfast_common::net::{Client, ClientConfig, ClusterIdCell, PeerInfo, Role};
use holdfast_common::placement_client::PlacementClient;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

use crate::{Config, Error, run};

/// Long enough for anything that is going to happen at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Placement members and where they live.
struct Driver {
    configs: Vec<Config>,
    running: Vec<Option<Running>>,
    http: reqwest::Client,
    /// Removed last.
    _dir: TempDir,
}

/// A member that runs, on a runtime of its own, so that it can be killed.
struct Running {
    runtime: Runtime,
    shutdown: CancellationToken,
    ended: JoinHandle<Result<(), Error>>,
}

impl Driver {
    /// `count` members, the first of them to bootstrap; none runs.
    fn new(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(2 * count);
        let rpc = |i: usize| format!("127.0.0.1:{}", ports[i]);
        let members: Vec<String> = (0..count).map(|i| format!("p{}={}", i + 1, rpc(i))).collect();
        let config = |i: usize| Config {
            name: format!("p{}", i + 1),
            data_dir: dir.path().join(format!("p{}", i + 1)),
            http: format!("127.0.0.1:{}", ports[count + i]),
            rpc: rpc(i),
            members: members.clone(),
            bootstrap: i == 0,
            ..Config::default()
        };
        let configs = (0..count).map(config).collect();
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self {
            configs,
            running: (0..count).map(|_| None).collect(),
            http,
            _dir: dir,
        }
    }

    /// `count` members that run, and one of them leads.
    async fn started(count: usize) -> Self {
        let mut driver = Self::new(count);
        for i in 0..count {
            driver.start(i);
        }
        driver.settled().await;
        for config in &mut driver.configs {
            config.bootstrap = false;
        }
        driver
    }

    fn start(&mut self, i: usize) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let shutdown = CancellationToken::new();
        let render = Arc::new(|| "metrics".to_owned());
        let ended = runtime.spawn(run(self.configs[i].clone(), render, shutdown.clone()));
        self.running[i] = Some(Running {
            runtime,
            shutdown,
            ended,
        });
    }

    /// How a member ends that does not stay.
    async fn outcome(&mut self, i: usize) -> Result<(), Error> {
        let running = self.running[i].take().unwrap();
        let outcome = clock::timeout(PATIENCE, running.ended)
            .await
            .expect("it ends")
            .expect("it does not panic");
        spawn_blocking(move || drop(running.runtime)).await.unwrap();
        outcome
    }

    async fn stop(&mut self, i: usize) {
        self.running[i].as_ref().unwrap().shutdown.cancel();
        self.outcome(i).await.expect("it ends in order");
    }

    /// The member is gone in the middle of whatever it was doing.
    async fn kill(&mut self, i: usize) {
        let running = self.running[i].take().unwrap();
        spawn_blocking(move || running.runtime.shutdown_timeout(PATIENCE))
            .await
            .unwrap();
    }

    /// Loses the member's directory.
    fn wipe(&self, i: usize) {
        std::fs::remove_dir_all(self.path(i)).unwrap();
    }

    fn path(&self, i: usize) -> PathBuf {
        self.configs[i].data_dir.clone()
    }

    fn is_running(&self, i: usize) -> bool {
        self.running[i].is_some()
    }

    /// Waits until every running member has a vote and knows the leader.
    async fn settled(&self) {
        let expected: Vec<_> = (0..self.configs.len()).filter(|i| self.is_running(*i)).collect();
        for i in expected {
            until("a member to vote and to be ready", async || {
                let ready = self
                    .request(i, Method::GET, "/ready", None)
                    .await
                    .is_some_and(|(status, _)| status == StatusCode::OK);
                let cluster = self.get(i, "/v1/cluster").await;
                let members = cluster["members"].as_array().cloned().unwrap_or_default();
                let mine = members
                    .iter()
                    .find(|member| member["name"] == self.configs[i].name.as_str());
                ready && mine.is_some_and(|mine| mine["role"] == "leader" || mine["role"] == "follower")
            })
            .await;
        }
    }

    /// The position of the leading member, by the word of any that runs.
    async fn leader(&self) -> usize {
        let mut leader = None;
        until("a leader", async || {
            for i in (0..self.configs.len()).filter(|i| self.is_running(*i)) {
                let cluster = self.get(i, "/v1/cluster").await;
                leader = self
                    .configs
                    .iter()
                    .position(|config| cluster["leader"] == config.name.as_str());
                if leader.is_some_and(|leader| self.is_running(leader)) {
                    return true;
                }
            }
            false
        })
        .await;
        leader.unwrap()
    }

    /// An answer; none when nobody is there.
    async fn request(
        &self,
        i: usize,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Option<(StatusCode, Value)> {
        let mut request = self
            .http
            .request(method, format!("http://{}{path}", self.configs[i].http));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status();
        Some((status, answer.json().await.unwrap_or(Value::Null)))
    }

    async fn get(&self, i: usize, path: &str) -> Value {
        self.request(i, Method::GET, path, None)
            .await
            .map_or(Value::Null, |(_, body)| body)
    }

    async fn post(&self, i: usize, path: &str, body: Value) -> (StatusCode, Value) {
        self.request(i, Method::POST, path, Some(body))
            .await
            .expect("an answer")
    }

    /// A client of the driver, as a store or a router has it.
    fn client(&self) -> PlacementClient {
        let identity = PeerInfo::new(Role::Router, 0, "test");
        let client = Client::new(ClientConfig::default(), ClusterIdCell::default(), identity);
        PlacementClient::new(
            self.configs.iter().map(|config| config.rpc.clone()).collect(),
            client,
        )
    }

    fn rpc_addresses(&self) -> Vec<String> {
        self.configs.iter().map(|config| config.rpc.clone()).collect()
    }

    async fn configure(&self, patch: Value) {
        let (status, body) = self
            .request(0, Method::PATCH, "/v1/config", Some(patch))
            .await
            .expect("an answer");
        assert_eq!(status, StatusCode::OK, "{body}");
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for running in self.running.drain(..).flatten() {
            // Its directory is removed next: nothing may write there any more.
            std::thread::spawn(move || running.runtime.shutdown_timeout(PATIENCE))
                .join()
                .unwrap();
        }
    }
}

/// Waits until `holds`.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = clock::now() + PATIENCE;
    while !holds().await {
        assert!(clock::now() < deadline, "waited in vain for {what}");
        clock::sleep(Duration::from_millis(20)).await;
    }
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect()
}

fn identity(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("IDENTITY")).unwrap()).unwrap()
}

fn names_and_roles(cluster: &Value) -> Value {
    let members = cluster["members"].as_array().cloned().unwrap_or_default();
    json!(
        members
            .iter()
            .map(|member| json!([member["id"], member["name"], member["role"]]))
            .collect::<Vec<_>>()
    )
}
