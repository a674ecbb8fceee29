//! Three etcd members on this machine, with etcd's own defaults and every write synced.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::bail;
use holdfast_bench::{Target, etcd::Endpoint};

use crate::{
    cpu::Processes,
    fleet::Fleet,
    ports,
    rounds::{Contender, System},
};

const MEMBERS: usize = 3;
/// How long the members may take to elect a leader.
const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(100);

/// A running cluster.
pub(crate) struct EtcdCluster {
    processes: Processes,
    leader_url: String,
}

struct Member {
    name: String,
    client_url: String,
    peer_url: String,
}

impl EtcdCluster {
    /// Starts the members and waits until they agree on a leader.
    pub(crate) async fn start(fleet: &Fleet, program: &Path) -> anyhow::Result<Self> {
        let ports = ports::free(2 * MEMBERS)?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let members: Vec<_> = (1..=MEMBERS)
            .zip(ports.chunks_exact(2))
            .map(|(number, ports)| Member {
                name: format!("etcd-{number}"),
                client_url: url(ports[0]),
                peer_url: url(ports[1]),
            })
            .collect();
        let everyone: Vec<_> = members
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url))
            .collect();
        let everyone = everyone.join(",");

        let mut processes = Processes::default();
        for member in &members {
            let pid = fleet.spawn(
                &member.name,
                &mut member.command(program, fleet.scratch(), &everyone),
            )?;
            processes.0.insert(member.name.clone(), pid);
        }
        Ok(Self {
            processes,
            leader_url: await_leader(&members, fleet).await?,
        })
    }

    /// The leader's client URL.
    pub(crate) fn leader(&self) -> &str {
        &self.leader_url
    }

    /// The cluster as one side of the comparison. The load goes to the leader, which spares etcd the hop from a follower.
    pub(crate) fn contender(self, clients_per_connection: usize) -> anyhow::Result<Contender> {
        let endpoint = Endpoint::new(&self.leader_url)?.with_clients_per_connection(clients_per_connection);
        Ok(Contender {
            system: System::Etcd,
            target: Target::Etcd(endpoint),
            servers: self.processes,
        })
    }
}

impl Member {
    fn command(&self, program: &Path, scratch: &Path, everyone: &str) -> Command {
        let mut command = Command::new(program);
        command
            .args(["--name", &self.name])
            .arg("--data-dir")
            .arg(scratch.join(&self.name))
            .args([
                "--listen-client-urls",
                &self.client_url,
                "--advertise-client-urls",
                &self.client_url,
            ])
            .args([
                "--listen-peer-urls",
                &self.peer_url,
                "--initial-advertise-peer-urls",
                &self.peer_url,
            ])
            .args(["--initial-cluster", everyone, "--initial-cluster-state", "new"])
            .args([
                "--initial-cluster-token",
                "holdfast-compare",
                "--log-level",
                "error",
            ])
            // The largest size that etcd supports: no run may end in its "no space" alarm.
            .args(["--quota-backend-bytes", "8589934592"]);
        command
    }
}

/// The client URL of the member that all take for the leader.
async fn await_leader(members: &[Member], fleet: &Fleet) -> anyhow::Result<String> {
    let deadline = Instant::now() + START_TIMEOUT;
    while Instant::now() < deadline {
        fleet.check()?;
        if let Some(leader) = agreed_leader(members).await? {
            return Ok(leader);
        }
        tokio::time::sleep(POLL).await;
    }
    bail!("etcd has no leader after {} s", START_TIMEOUT.as_secs());
}

async fn agreed_leader(members: &[Member]) -> anyhow::Result<Option<String>> {
    let (mut leader_id, mut leader_url) = (None, None);
    for member in members {
        let Ok(status) = Endpoint::new(&member.client_url)?.status().await else {
            return Ok(None);
        };
        if status.leader == 0 || *leader_id.get_or_insert(status.leader) != status.leader {
            return Ok(None);
        }
        if status.leader == status.member {
            leader_url = Some(member.client_url.clone());
        }
    }
    Ok(leader_url)
}
