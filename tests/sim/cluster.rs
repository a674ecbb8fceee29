//! The cluster on its machines: three placement members, four stores, two routers, and the machine of the clients.

use std::path::Path;
use std::sync::Arc;

use holdfast_common::failpoint::Step;
use holdfast_common::simulation::World;
use holdfast_common::simulation::volume::Crash;
use rand::Rng;

use crate::machine::{Life, Machine, Role, life, never};

const PLACEMENTS: u8 = 3;
const STORES: u8 = 4;
const ROUTERS: u8 = 2;

const PLACEMENT_HTTP: u16 = 7410;
const PLACEMENT_RPC: u16 = 7450;
const STORE_HTTP: u16 = 7420;
const STORE_RPC: u16 = 7460;
const ROUTER_HTTP: u16 = 7400;

/// All machines, and the time.
pub(crate) struct Cluster {
    pub(crate) world: Arc<World>,
    pub(crate) machines: Vec<Machine>,
    /// Milliseconds since the simulation began.
    pub(crate) now: u64,
    /// Processes that ended by themselves, and why.
    pub(crate) ended: Vec<String>,
    /// Who has fallen at which step, and when.
    pub(crate) fallen: Vec<(u64, String, Step)>,
    /// When machines that are down start again.
    restarts: Vec<(u64, usize)>,
}

impl Cluster {
    /// Starts every process, each on an empty disk, with what is done by the clients.
    pub(crate) fn start(seed: u64, below: &Path, clients: Life) -> anyhow::Result<Self> {
        let mut machines = Vec::new();
        let mut add = |role, name: &str, count: u8, first: u8| {
            for number in 1..=count {
                machines.push(Machine::new(
                    &format!("{name}{number}"),
                    role,
                    first + number,
                    below,
                ));
            }
        };
        add(Role::Placement, "p", PLACEMENTS, 10);
        add(Role::Store, "s", STORES, 20);
        add(Role::Router, "r", ROUTERS, 30);
        add(Role::Clients, "c", 1, 40);
        let mut cluster = Self {
            world: World::new(seed),
            machines,
            now: 0,
            ended: Vec::new(),
            fallen: Vec::new(),
            restarts: Vec::new(),
        };
        for at in 0..cluster.machines.len() {
            if cluster.machines[at].role != Role::Clients {
                cluster.boot(at)?;
            }
        }
        let now = cluster.now;
        if let Some(machine) = cluster.machines.last_mut() {
            machine.start(&cluster.world, now, clients)?;
        }
        Ok(cluster)
    }

    /// HTTP addresses of the routers.
    pub(crate) fn routers() -> Vec<String> {
        (1..=ROUTERS)
            .map(|number| format!("http://127.0.0.{}:{ROUTER_HTTP}", 30 + number))
            .collect()
    }

    /// HTTP addresses of the placement members.
    pub(crate) fn admins() -> Vec<String> {
        (1..=PLACEMENTS)
            .map(|number| format!("http://127.0.0.{}:{PLACEMENT_HTTP}", 10 + number))
            .collect()
    }

    /// The machines of a role, by their places.
    pub(crate) fn of(&self, role: Role) -> Vec<usize> {
        let all = self.machines.iter().enumerate();
        all.filter(|(_, machine)| machine.role == role)
            .map(|(at, _)| at)
            .collect()
    }

    /// A millisecond passes.
    pub(crate) fn tick(&mut self) -> anyhow::Result<()> {
        self.now += 1;
        let now = self.now;
        self.world.network().advance(now);
        let (due, later) = self.restarts.iter().partition(|(at, _)| *at <= now);
        self.restarts = later;
        let due: Vec<(u64, usize)> = due;
        for (_, machine) in due {
            self.boot(machine)?;
        }
        let count = self.machines.len();
        for turn in 0..count {
            let machine = &mut self.machines[(turn + now as usize) % count];
            let outcome = machine.step(&self.world, now);
            if let Some(step) = machine.fallen(&self.world) {
                machine.crash(&self.world, now, Crash::Process);
                let down = self.world.random().random_range(20..1_500);
                self.restarts.push((now + down, (turn + now as usize) % count));
                self.fallen.push((now, machine.name.clone(), step));
                continue;
            }
            if let Some(outcome) = outcome {
                let name = machine.name.clone();
                machine.crash(&self.world, now, Crash::Process);
                if machine.role != Role::Clients || outcome.is_err() {
                    self.ended
                        .push(format!("{now} ms: {name} ended by itself: {outcome:?}"));
                }
            }
        }
        Ok(())
    }

    /// Takes a machine down, and up again after a while.
    pub(crate) fn crash(&mut self, machine: usize, crash: Crash, for_ms: u64) {
        if self.machines[machine].runs() {
            self.machines[machine].crash(&self.world, self.now, crash);
            self.restarts.push((self.now + for_ms.max(1), machine));
        }
    }

    /// Takes a machine down, removes all that is on its disks, and starts it again after a while.
    pub(crate) fn wipe(&mut self, machine: usize, for_ms: u64) {
        self.crash(machine, Crash::Process, for_ms);
        self.machines[machine].wipe(&self.world);
    }

    /// Starts what is down.
    pub(crate) fn start_all(&mut self) -> anyhow::Result<()> {
        for (_, machine) in std::mem::take(&mut self.restarts) {
            self.boot(machine)?;
        }
        Ok(())
    }

    fn boot(&mut self, at: usize) -> anyhow::Result<()> {
        let life = self.life(&self.machines[at]);
        let now = self.now;
        self.machines[at].start(&self.world, now, life)
    }

    fn life(&self, machine: &Machine) -> Life {
        let placement: Vec<String> = (1..=PLACEMENTS)
            .map(|number| format!("127.0.0.{}:{PLACEMENT_RPC}", 10 + number))
            .collect();
        let name = machine.name.clone();
        match machine.role {
            Role::Placement => {
                let member = |(number, rpc): (usize, &String)| format!("p{}={rpc}", number + 1);
                let config = holdfast_placement::Config {
                    bootstrap: name == "p1" && self.now == 0,
                    name,
                    data_dir: machine.dir().to_owned(),
                    http: machine.port(PLACEMENT_HTTP),
                    rpc: machine.port(PLACEMENT_RPC),
                    members: placement.iter().enumerate().map(member).collect(),
                    ..holdfast_placement::Config::default()
                };
                life(holdfast_placement::run(config, Arc::new(String::new), never()))
            }
            Role::Store => {
                let config = holdfast_store::Config {
                    name,
                    data_dir: machine.dir().to_owned(),
                    http: machine.port(STORE_HTTP),
                    rpc: machine.port(STORE_RPC),
                    placement,
                    hibernate_after_ms: 1_500,
                    // Not what this machine has: a seed plays the same everywhere.
                    memory_bytes: 1 << 30,
                    ..holdfast_store::Config::default()
                };
                life(holdfast_store::run(config, Arc::new(String::new), never()))
            }
            Role::Router => {
                let at = machine.port(ROUTER_HTTP);
                life(async move {
                    let config = serde_json::json!({"http": at, "placement": placement, "name": name});
                    let config = serde_json::from_value(config).map_err(|error| error.to_string())?;
                    let run = holdfast_router::run(config, Arc::new(String::new), never());
                    run.await.map_err(|error| error.to_string())
                })
            }
            Role::Clients => life(std::future::ready(Ok::<_, String>(()))),
        }
    }
}
