//! `holdfast-bench`: the load generator on its own, against a running Holdfast cluster or etcd member.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use holdfast_bench::{LoadArgs, Target, load, run};

/// Load generator for Holdfast
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    load: LoadArgs,
    /// Router to load; may be given more than once
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7400")]
    router: Vec<String>,
    /// etcd member to load instead, best the leader
    #[cfg(feature = "etcd")]
    #[arg(long, value_name = "URL", conflicts_with = "router")]
    etcd: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    fn target(&self) -> Result<Target, holdfast_bench::Error> {
        #[cfg(feature = "etcd")]
        if let Some(url) = &self.etcd {
            return Ok(Target::Etcd(holdfast_bench::etcd::Endpoint::new(url)?));
        }
        let target = Target::holdfast(&self.router)?;
        Ok(target.with_clients_per_connection(self.load.clients_per_connection))
    }
}

fn main() -> ExitCode {
    match measure(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfast-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> anyhow::Result<()> {
    let (workload, target) = (args.load.workload()?, args.target()?);
    if !args.load.no_load {
        let loaded = load(&workload, &target)?;
        eprintln!(
            "loaded {} keys in {:.1} s ({} retries)",
            loaded.keys, loaded.seconds, loaded.retries
        );
    }
    let report = run(&workload, &target)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}
