//! The command line, whole: `holdfast --help` is made from this file and those it names.

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use holdfast_client::Client;

use crate::api::{Api, Login};
use crate::exit::Outcome;
use crate::output::Format;
use crate::{admin, bench, cert, kv, probe, roles, up};

/// A sharded, strongly consistent key-value store. Without a command: a local cluster, as `holdfast up`.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true, max_term_width = 120)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What a data command takes besides its own.
#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    /// How results are printed; a table loses its borders where standard output is not a terminal
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// The router to ask
    #[arg(
        long = "router",
        value_name = "URL",
        env = "HOLDFAST_ROUTER",
        default_value = "http://127.0.0.1:7400"
    )]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) login: Login,
}

impl DataArgs {
    /// The router, as programs speak to it.
    pub(crate) fn client(&self) -> Outcome<Client> {
        self.login.client(&self.url)
    }
}

/// What an admin command takes besides its own.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// How results are printed; a table loses its borders where standard output is not a terminal
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// The placement member to ask; any will do
    #[arg(
        long = "placement",
        value_name = "URL",
        env = "HOLDFAST_PLACEMENT",
        default_value = "http://127.0.0.1:7410"
    )]
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) login: Login,
}

impl AdminArgs {
    /// The placement member.
    pub(crate) fn api(&self) -> Outcome<Api> {
        Api::new(&self.url, &self.login)
    }
}

/// What an admin command that starts a long operation takes.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Return as soon as the operation is planned instead of following it to its end
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a local cluster, every member its own process
    Up(up::UpArgs),
    /// Run a placement member, or administer the placement driver
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Placement(PlacementArgs),
    /// Run a store, or administer stores
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Store(StoreArgs),
    /// Run a router
    Router(roles::router::RouterArgs),
    /// Read and write data through a router
    #[command(subcommand)]
    Kv(kv::KvCommand),
    /// Look at ranges and change them
    #[command(subcommand)]
    Range(admin::range::RangeCommand),
    /// Look at planned changes and cancel them
    #[command(subcommand)]
    Operator(admin::operator::OperatorCommand),
    /// Say what would happen if stores came, left or failed; changes nothing
    Plan(admin::plan::PlanArgs),
    /// Look at live settings and change them
    #[command(subcommand)]
    Config(admin::config::ConfigCommand),
    /// Say how the cluster is
    Status(AdminArgs),
    /// Look at the tokens and certificates that let clients in, make and revoke them
    #[command(subcommand)]
    Token(admin::token::TokenCommand),
    /// Make the certificates with which processes and clients prove who they are
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Ask one process whether it is up
    Probe(probe::ProbeArgs),
    /// Put load on a router and report what it took
    Bench(bench::BenchArgs),
    /// Print a completion script
    Completions {
        /// The shell to complete for
        shell: Shell,
    },
}

impl Default for Command {
    fn default() -> Self {
        Self::Up(up::UpArgs::default())
    }
}

/// `holdfast placement`: a role, or a command about it.
#[derive(Debug, Args)]
pub(crate) struct PlacementArgs {
    #[command(subcommand)]
    pub(crate) command: Option<admin::placement::PlacementCommand>,
    #[command(flatten)]
    pub(crate) role: roles::placement::RoleArgs,
}

/// `holdfast store`: a role, or a command about it.
#[derive(Debug, Args)]
pub(crate) struct StoreArgs {
    #[command(subcommand)]
    pub(crate) command: Option<admin::store::StoreCommand>,
    #[command(flatten)]
    pub(crate) role: roles::store::RoleArgs,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
