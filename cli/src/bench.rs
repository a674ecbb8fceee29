//! `holdfast bench`: load on a router.

use std::sync::Arc;

use clap::{Args, ValueEnum};
use holdfast_bench::{Access, Error, LoadArgs, Routers, Target};
use holdfast_client::Options;

use crate::api::{Login, absolute};
use crate::exit::{Failure, Outcome};
use crate::output::{self, Format};

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    #[command(flatten)]
    load: LoadArgs,
    /// A router to load; may be given more than once
    #[arg(
        long,
        value_name = "URL",
        env = "HOLDFAST_ROUTER",
        default_value = "http://127.0.0.1:7400"
    )]
    router: Vec<String>,
    /// How requests are sent
    #[arg(long, value_enum, default_value_t)]
    via: Via,
    /// How the report is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    login: Login,
}

/// How requests are sent.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Via {
    /// By bare connections, which cost the generator little: what the cluster can do
    #[default]
    Wire,
    /// By the client crate, with its retries and write-once names: what a program gets
    Client,
}

/// Writes the key set, puts the load on and reports what it took.
pub(crate) fn run(args: BenchArgs) -> Outcome {
    let workload = args.load.workload().map_err(Failure::usage)?;
    let target = args.target()?;
    if !args.load.no_load {
        let loaded = holdfast_bench::load(&workload, &target).map_err(failure)?;
        eprintln!("loaded {} keys in {:.1} s", loaded.keys, loaded.seconds);
    }
    let report = holdfast_bench::run(&workload, &target).map_err(failure)?;
    match args.output {
        Format::Json => output::json(&report),
        Format::Table => output::line(report),
    }
}

impl BenchArgs {
    fn target(&self) -> Outcome<Target> {
        let target = match self.via {
            Via::Wire => {
                let access = Access {
                    tls: self.login.tls()?.map(Arc::new),
                    token: self.login.token()?,
                };
                Target::holdfast_as(&self.router, &access)
                    .map(|target| target.with_clients_per_connection(self.load.clients_per_connection))
            }
            Via::Client => Target::library(Routers {
                addresses: self.router.iter().map(|router| absolute(router)).collect(),
                options: Options {
                    http2: self.load.clients_per_connection > 1,
                    ..self.login.options()?
                },
                sharing: self.load.clients_per_connection,
            }),
        };
        target.map_err(failure)
    }
}

fn failure(error: Error) -> Failure {
    match error {
        Error::InvalidWorkload(_) | Error::InvalidTarget { .. } => Failure::usage(error),
        error => Failure::from(anyhow::Error::from(error)),
    }
}
