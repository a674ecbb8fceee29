//! `holdfast bench`: load on a router.

use std::sync::Arc;

use clap::Args;
use holdfast_bench::{Access, Error, LoadArgs, Target};

use crate::api::Login;
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
    /// How the report is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    #[command(flatten)]
    login: Login,
}

/// Writes the key set, puts the load on and reports what it took.
pub(crate) fn run(args: BenchArgs) -> Outcome {
    let workload = args.load.workload().map_err(Failure::usage)?;
    let access = Access {
        tls: args.login.tls()?.map(Arc::new),
        token: args.login.token()?,
    };
    let target = Target::holdfast_as(&args.router, &access).map_err(failure)?;
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

fn failure(error: Error) -> Failure {
    match error {
        Error::InvalidWorkload(_) | Error::InvalidTarget { .. } => Failure::usage(error),
        error => Failure::from(anyhow::Error::from(error)),
    }
}
