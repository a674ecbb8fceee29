//! What goes wrong, as the seed has it: the safety phase of a play.

use std::collections::BTreeMap;

use holdfast_common::failpoint::Step;
use holdfast_common::simulation::network::Weather;
use holdfast_common::simulation::volume::Crash;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use crate::cluster::Cluster;
use crate::machine::Role;

/// How long things go wrong, milliseconds.
const FAULTS_MS: u64 = 12_000;

/// Steps that are done all the time.
const HOT: [Step; 6] = [
    Step::LogWritten,
    Step::LogSynced,
    Step::DataWritten,
    Step::DataSynced,
    Step::EntryApplied,
    Step::CommandApplied,
];

/// Steps that are done when the cluster comes to be.
const FOUNDING: [Step; 4] = [
    Step::RangeFounded,
    Step::StoreRegistered,
    Step::StoreNamed,
    Step::OperatorBegun,
];

/// What a play has go wrong that others have not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wish {
    /// Processes end where they reach this step, and then at others, too.
    pub(crate) fall: Option<Step>,
    /// No process is killed; power is cut instead.
    pub(crate) power_alone: bool,
    /// Stores lose all that they have.
    pub(crate) wipes: bool,
}

impl Wish {
    /// Has processes fall that found the cluster, if that is wished for.
    pub(crate) fn at_first(self, cluster: &Cluster) {
        if let Some(step) = self.fall.filter(|step| FOUNDING.contains(step)) {
            cluster.world.falls().arm(step, Some(1));
        }
    }
}

/// The faults of a play.
pub(crate) struct Script {
    wish: Wish,
    /// Falls until now, once the first is prepared.
    fallen: Option<usize>,
    /// Where, after one fall, another is to come.
    second: Option<Step>,
    random: StdRng,
    ends: u64,
    next: u64,
    /// When the network is whole again, and the weather fair.
    network_until: u64,
    weather_until: u64,
    pub(crate) done: Vec<String>,
    /// How often what was done.
    pub(crate) counts: BTreeMap<&'static str, usize>,
}

impl Script {
    /// Begins at `now`.
    pub(crate) fn new(seed: u64, now: u64, wish: Wish) -> Self {
        Self {
            wish,
            fallen: None,
            second: None,
            random: StdRng::seed_from_u64(seed ^ 0x0073_6372_6970_7400),
            ends: now + FAULTS_MS,
            next: now + 100,
            network_until: 0,
            weather_until: 0,
            done: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Breaks what is due now; whether there is more to come.
    pub(crate) fn act(&mut self, cluster: &mut Cluster) -> anyhow::Result<bool> {
        let now = cluster.now;
        if now >= self.ends {
            self.heal(cluster)?;
            return Ok(false);
        }
        if self.network_until != 0 && now >= self.network_until {
            cluster.world.network().heal();
            self.network_until = 0;
        }
        if self.weather_until != 0 && now >= self.weather_until {
            cluster.world.network().set_weather(Weather::default());
            self.weather_until = 0;
        }
        self.prepare_falls(cluster);
        if now >= self.next {
            self.next = now + self.random.random_range(50..1_200);
            let (kind, what) = self.fault(cluster);
            *self.counts.entry(kind).or_default() += 1;
            self.done.push(format!("{now} ms: {what}"));
        }
        Ok(true)
    }

    /// Has the next process fall at the step that is wished for, and after each fall one at some other step, which the first
    /// is then recovering at.
    fn prepare_falls(&mut self, cluster: &mut Cluster) {
        let Some(step) = self.wish.fall else { return };
        if self.fallen == Some(cluster.fallen.len()) {
            return;
        }
        let mut falls = cluster.world.falls();
        if self.fallen.is_some() {
            if let Some(second) = self.second.take() {
                falls.arm(second, None);
            }
            let second = Step::ALL.choose(&mut self.random).copied().unwrap_or(step);
            falls.arm(second, Some(nth(&mut self.random, second)));
            self.second = Some(second);
        }
        falls.arm(step, Some(nth(&mut self.random, step)));
        self.fallen = Some(cluster.fallen.len());
    }

    /// Everything is whole again.
    fn heal(&mut self, cluster: &mut Cluster) -> anyhow::Result<()> {
        cluster.world.network().heal();
        cluster.world.network().set_weather(Weather::default());
        for step in Step::ALL {
            cluster.world.falls().arm(*step, None);
        }
        for machine in &mut cluster.machines {
            machine.stopped_until = 0;
            machine.wrong_by_ms = 0;
        }
        cluster.start_all()
    }

    /// Its kind, and what it did.
    fn fault(&mut self, cluster: &mut Cluster) -> (&'static str, String) {
        match self.random.random_range(0..100) {
            0..22 if self.wish.power_alone => ("power", self.kill(cluster, Crash::Power)),
            0..22 if self.wish.wipes => ("wipe", self.wipe(cluster)),
            0..22 => ("kill", self.kill(cluster, Crash::Process)),
            22..40 => ("power", self.kill(cluster, Crash::Power)),
            40..45 => ("power of all stores", self.all_stores_lose_power(cluster)),
            45..62 => ("cut", self.cut(cluster)),
            62..72 => ("reset", self.reset(cluster)),
            72..82 => ("weather", self.weather(cluster)),
            82..91 => ("stop", self.stop(cluster)),
            _ => ("clock", self.clock(cluster)),
        }
    }

    fn any(&mut self, cluster: &Cluster) -> usize {
        let role = match self.random.random_range(0..10) {
            0..7 => Role::Store,
            7..9 => Role::Placement,
            _ => Role::Router,
        };
        cluster
            .of(role)
            .choose(&mut self.random)
            .copied()
            .unwrap_or_default()
    }

    fn kill(&mut self, cluster: &mut Cluster, crash: Crash) -> String {
        let machine = self.any(cluster);
        let down = self.random.random_range(20..2_500);
        cluster.crash(machine, crash, down);
        format!("{crash:?} of {} for {down} ms", cluster.machines[machine].name)
    }

    fn wipe(&mut self, cluster: &mut Cluster) -> String {
        let stores = cluster.of(Role::Store);
        let store = stores.choose(&mut self.random).copied().unwrap_or_default();
        let down = self.random.random_range(20..1_000);
        cluster.wipe(store, down);
        format!(
            "{} loses all that it has, for {down} ms",
            cluster.machines[store].name
        )
    }

    fn all_stores_lose_power(&mut self, cluster: &mut Cluster) -> String {
        for store in cluster.of(Role::Store) {
            let down = self.random.random_range(50..800);
            cluster.crash(store, Crash::Power, down);
        }
        "every store lost its power".to_owned()
    }

    fn cut(&mut self, cluster: &mut Cluster) -> String {
        let took = self.random.random_range(300..4_000);
        self.network_until = cluster.now + took;
        let servers: Vec<_> = cluster
            .machines
            .iter()
            .filter(|machine| machine.role != Role::Clients)
            .map(|machine| (machine.name.clone(), machine.at))
            .collect();
        let alone = self.any(cluster);
        let (name, at) = {
            let machine = &cluster.machines[alone];
            (machine.name.clone(), machine.at)
        };
        let mut network = cluster.world.network();
        let kind = self.random.random_range(0..4);
        let mut halves = Vec::new();
        for (other, there) in &servers {
            match kind {
                0 => {
                    network.cut(at, *there);
                    network.cut(*there, at);
                }
                1 => network.cut(at, *there),
                2 => network.cut(*there, at),
                _ if self.random.random_bool(0.5) => halves.push((other.clone(), *there)),
                _ => {}
            }
        }
        for (_, one) in &halves {
            for (_, other) in servers.iter().filter(|server| !halves.contains(server)) {
                network.cut(*one, *other);
                network.cut(*other, *one);
            }
        }
        let what = match kind {
            0 => format!("{name} alone"),
            1 => format!("{name} not heard"),
            2 => format!("{name} deaf"),
            _ => format!(
                "{:?} apart",
                halves.iter().map(|(name, _)| name).collect::<Vec<_>>()
            ),
        };
        format!("{what} for {took} ms")
    }

    fn reset(&mut self, cluster: &mut Cluster) -> String {
        let (one, other) = (self.any(cluster), self.any(cluster));
        let (one, other) = (&cluster.machines[one], &cluster.machines[other]);
        cluster.world.network().reset(one.at, other.at);
        format!("connections between {} and {} broken", one.name, other.name)
    }

    fn weather(&mut self, cluster: &mut Cluster) -> String {
        let took = self.random.random_range(500..4_000);
        self.weather_until = cluster.now + took;
        let weather = Weather {
            min_ms: self.random.random_range(0..20),
            max_ms: self.random.random_range(20..300),
            loss: self.random.random_range(0.0..0.2),
        };
        cluster.world.network().set_weather(weather);
        format!("{weather:?} for {took} ms")
    }

    fn stop(&mut self, cluster: &mut Cluster) -> String {
        let machine = self.any(cluster);
        let took = self.random.random_range(100..3_000);
        let machine = &mut cluster.machines[machine];
        machine.stopped_until = cluster.now + took;
        format!("{} stands still for {took} ms", machine.name)
    }

    fn clock(&mut self, cluster: &mut Cluster) -> String {
        let machine = self.any(cluster);
        let wrong = self.random.random_range(-600_000..600_000);
        let machine = &mut cluster.machines[machine];
        machine.wrong_by_ms = wrong;
        format!("the clock of {} is {wrong} ms ahead", machine.name)
    }
}

/// At which time that a step is done it ends a process: seldom soon where it is done all the time.
fn nth(random: &mut StdRng, step: Step) -> u64 {
    let most: f64 = if HOT.contains(&step) { 1_500.0 } else { 3.0 };
    random.random_range(0.0..most.ln()).exp() as u64
}
