//! The `holdfast` command: a local cluster ([`up`]), the three roles ([`roles`]), data commands through a router ([`kv`])
//! and administration through the placement driver ([`admin`]).
#![forbid(unsafe_code)]

mod admin;
mod api;
mod args;
mod bench;
mod cert;
mod completions;
mod exit;
mod kv;
pub mod metrics;
mod output;
mod probe;
mod roles;
mod up;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Cli, Command};
use crate::exit::Outcome;

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("holdfast: {failure}");
            failure.exit_code()
        }
    }
}

fn run(cli: Cli) -> Outcome {
    match cli.command.unwrap_or_default() {
        Command::Up(args) => up::run(args),
        Command::Placement(args) => match args.command {
            Some(command) => client(admin::placement::run(command)),
            None => roles::placement::run(args.role),
        },
        Command::Store(args) => match args.command {
            Some(command) => client(admin::store::run(command)),
            None => roles::store::run(args.role),
        },
        Command::Router(args) => roles::router::run(args),
        Command::Kv(command) => client(kv::run(command)),
        Command::Range(command) => client(admin::range::run(command)),
        Command::Operator(command) => client(admin::operator::run(command)),
        Command::Plan(args) => client(admin::plan::run(args)),
        Command::Config(command) => client(admin::config::run(command)),
        Command::Status(args) => client(admin::status::run(args)),
        Command::Token(command) => client(admin::token::run(command)),
        Command::Cert(command) => cert::run(command),
        Command::Probe(args) => client(probe::run(args)),
        Command::Bench(args) => bench::run(args),
        Command::Completions { shell } => completions::run(shell),
    }
}

/// Runs a command that talks to a cluster and ends.
fn client(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    runtime.block_on(command)
}
