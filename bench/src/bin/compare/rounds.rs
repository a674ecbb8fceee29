//! The measuring: every case on every system, round after round.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use holdfast_bench::{Report, Target, Workload, run as run_load};
use serde::Serialize;

use crate::{
    cpu::{Processes, Usage, used_by_machine, used_by_self},
    fleet::Fleet,
};

/// The systems compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum System {
    /// The system of this repository.
    Holdfast,
    /// The peer.
    Etcd,
}

/// One running cluster, ready for load.
pub(crate) struct Contender {
    pub(crate) system: System,
    pub(crate) target: Target,
    /// All its processes, by name.
    pub(crate) servers: Processes,
}

/// One run of one case on one system.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) system: System,
    /// Counted from 1.
    pub(crate) round: u32,
    pub(crate) report: Report,
    /// Processor time an operation cost the load generator, in microseconds, system time included.
    pub(crate) client_cpu_us: f64,
    /// The same for each server process.
    pub(crate) server_cpu_us: BTreeMap<String, f64>,
    /// Cores kept busy meanwhile by anything but the generator and these servers: the other system's idling, and noise.
    pub(crate) other_cores: f64,
}

/// Readings around a run.
struct Meters {
    at: Instant,
    servers: Usage,
    client: Duration,
    machine: Duration,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Holdfast => "holdfast",
            Self::Etcd => "etcd",
        }
    }
}

/// Runs all cases, printing each result as it comes.
pub(crate) fn run(
    cases: &[Workload],
    rounds: u32,
    contenders: &[Contender],
    fleet: &Fleet,
) -> anyhow::Result<Vec<Run>> {
    let mut runs = Vec::new();
    for round in 1..=rounds {
        for case in cases {
            for contender in order(contenders, round) {
                fleet.check()?;
                let run = run_once(case, contender, round)?;
                println!("{}", one_line(&run));
                runs.push(run);
            }
        }
    }
    Ok(runs)
}

/// The contenders, the first one last in every second round.
fn order(contenders: &[Contender], round: u32) -> impl Iterator<Item = &Contender> {
    let turn = round as usize - 1;
    (0..contenders.len()).map(move |place| &contenders[(place + turn) % contenders.len()])
}

fn run_once(case: &Workload, contender: &Contender, round: u32) -> anyhow::Result<Run> {
    let before = Meters::read(contender)?;
    let report = run_load(case, &contender.target)?;
    let after = Meters::read(contender)?;

    let servers = after.servers.since(&before.servers);
    let client = after.client.saturating_sub(before.client);
    let ours = client + servers.values().sum::<Duration>();
    let others = after.machine.saturating_sub(before.machine).saturating_sub(ours);
    // The processor worked for the warm-up too, so its operations count here.
    let per_operation = |used: Duration| used.as_secs_f64() * 1e6 / report.answered_in_all.max(1) as f64;
    Ok(Run {
        system: contender.system,
        round,
        client_cpu_us: per_operation(client),
        server_cpu_us: servers
            .into_iter()
            .map(|(name, used)| (name, per_operation(used)))
            .collect(),
        other_cores: others.as_secs_f64() / (after.at - before.at).as_secs_f64(),
        report,
    })
}

impl Meters {
    fn read(contender: &Contender) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            servers: contender.servers.usage()?,
            client: used_by_self()?,
            machine: used_by_machine()?,
        })
    }
}

fn one_line(run: &Run) -> String {
    let Run {
        system,
        round,
        report,
        ..
    } = run;
    let (name, workload, clients) = (system.name(), &report.workload, report.clients);
    let errors = if report.error_count() == 0 {
        String::new()
    } else {
        format!("  errors {:?}", report.errors)
    };
    format!(
        "round {round}  {workload:<9} {clients:>4} clients  {name:<8} {:>8.0} ops/s  p50 {:>7.2} ms  p99 {:>7.2} ms  others' cores {:.2}{errors}",
        report.operations_per_second,
        report.latency.p50_us as f64 / 1000.0,
        report.latency.p99_us as f64 / 1000.0,
        run.other_cores,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_take_turns_to_go_first() {
        let contender = |system| Contender {
            system,
            target: Target::holdfast(["127.0.0.1:1"]).expect("an address"),
            servers: Processes::default(),
        };
        let contenders = [contender(System::Holdfast), contender(System::Etcd)];
        let order_in = |round| {
            order(&contenders, round)
                .map(|contender| contender.system)
                .collect::<Vec<_>>()
        };
        assert_eq!(order_in(1), [System::Holdfast, System::Etcd]);
        assert_eq!(order_in(2), [System::Etcd, System::Holdfast]);
        assert_eq!(order_in(3), order_in(1));
    }
}
