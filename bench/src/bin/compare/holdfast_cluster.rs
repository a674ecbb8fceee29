//! A local Holdfast cluster through its own launcher, split into ranges with their leaders spread over the stores.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use holdfast_bench::{KeySpace, Target};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    admin::Admin,
    cpu::Processes,
    fleet::Fleet,
    rounds::{Contender, System},
};

/// How long the cluster may take until its router is ready, and its ranges to settle.
const TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// The placement driver's HTTP port, counted from the base port.
const PLACEMENT_PORT: u16 = 10;

/// A running cluster.
pub(crate) struct HoldfastCluster {
    router: SocketAddr,
    placement: Admin,
    data_dir: PathBuf,
}

/// What the launcher writes of its members.
#[derive(Deserialize)]
struct ClusterFile {
    members: Vec<ClusterMember>,
}

#[derive(Deserialize)]
struct ClusterMember {
    name: String,
    pid: Option<u32>,
}

#[derive(Deserialize)]
struct Listing<T> {
    items: Vec<T>,
}

#[derive(Deserialize)]
struct Range {
    id: Value,
    start: Option<String>,
    leader_store: Option<Value>,
}

#[derive(Deserialize)]
struct Store {
    id: Value,
    state: String,
}

impl HoldfastCluster {
    /// Starts the launcher and waits until the router is ready. The data directory is in the scratch directory rather than
    /// the launcher's own temporary one: it must share etcd's disk, and holds the list of members.
    pub(crate) async fn start(fleet: &Fleet, program: &Path, base_port: u16) -> anyhow::Result<Self> {
        let data_dir = fleet.scratch().join("holdfast");
        let mut command = Command::new(program);
        command
            .arg("up")
            .arg("--data-dir")
            .arg(&data_dir)
            .args(["--base-port", &base_port.to_string()]);
        fleet.spawn("holdfast-up", &mut command)?;

        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let cluster = Self {
            router: at(base_port),
            placement: Admin(at(base_port + PLACEMENT_PORT)),
            data_dir,
        };
        let deadline = Instant::now() + TIMEOUT;
        while !matches!(Admin(cluster.router).status("/ready").await, Ok(200)) {
            fleet.check()?;
            if Instant::now() > deadline {
                bail!("Holdfast's router is not ready after {} s", TIMEOUT.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(cluster)
    }

    /// Splits the key space evenly into ranges and gives every store its share of leaders. Returns the leaders of each store.
    /// From then on the ranges stay as they are: a single one that all clients write to would be divided after ten seconds.
    pub(crate) async fn split_and_spread(
        &self,
        keys: u64,
        ranges: u32,
    ) -> anyhow::Result<BTreeMap<String, usize>> {
        let still = json!({ "schedulers": { "split_by_load": false, "hot": false, "merge": false } });
        self.placement.patch("/v1/config", &still).await?;
        for key in KeySpace::new(keys).split_points(ranges) {
            self.placement
                .post("/v1/ranges/split?wait=true", &json!({ "key": key.as_str() }))
                .await?;
        }
        let stores: Vec<Store> = self.list("/v1/stores").await?;
        let mut stores: Vec<_> = stores
            .into_iter()
            .filter(|store| store.state == "up")
            .map(|store| store.id)
            .collect();
        stores.sort_by_key(id_text);
        if stores.is_empty() {
            bail!("no store is up");
        }
        for (range, store) in self
            .settled_ranges(ranges)
            .await?
            .iter()
            .zip(stores.iter().cycle())
        {
            if range.leader_store.as_ref() != Some(store) {
                let path = format!("/v1/ranges/{}/transfer-leader?wait=true", id_text(&range.id));
                self.placement.post(&path, &json!({ "to_store": store })).await?;
            }
        }
        let mut leaders = BTreeMap::new();
        for store in self
            .settled_ranges(ranges)
            .await?
            .iter()
            .filter_map(|range| range.leader_store.as_ref())
        {
            *leaders.entry(id_text(store)).or_default() += 1;
        }
        Ok(leaders)
    }

    /// The cluster as one side of the comparison.
    pub(crate) fn contender(&self, clients_per_connection: usize) -> anyhow::Result<Contender> {
        let file = self.data_dir.join("cluster.json");
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let members = serde_json::from_str::<ClusterFile>(&text)
            .with_context(|| format!("in {}", file.display()))?
            .members;
        let servers = members
            .into_iter()
            .filter_map(|member| Some((member.name, member.pid?)))
            .collect();
        let target =
            Target::holdfast([self.router.to_string()])?.with_clients_per_connection(clients_per_connection);
        Ok(Contender {
            system: System::Holdfast,
            target,
            servers: Processes(servers),
        })
    }

    /// The ranges in key order, once there are as many as asked and each has a leader.
    async fn settled_ranges(&self, at_least: u32) -> anyhow::Result<Vec<Range>> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let mut ranges: Vec<Range> = self.list("/v1/ranges?limit=1000").await?;
            if ranges.len() >= at_least as usize && ranges.iter().all(|range| range.leader_store.is_some()) {
                ranges.sort_by(|one, other| one.start.cmp(&other.start));
                return Ok(ranges);
            }
            if Instant::now() > deadline {
                bail!(
                    "{} ranges, not all with a leader, where {at_least} were asked for",
                    ranges.len()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn list<T: serde::de::DeserializeOwned>(&self, path: &str) -> anyhow::Result<Vec<T>> {
        let answer = self.placement.get(path).await?;
        Ok(serde_json::from_value::<Listing<T>>(answer)
            .with_context(|| format!("GET {path}"))?
            .items)
    }
}

/// An id as it stands in a path, whether JSON has it as a number or as text.
fn id_text(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}
