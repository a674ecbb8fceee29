//! `holdfast cert`: the certificates with which processes and clients prove who they are.
//!
//! [`authority`] is the cluster's own authority and what it signs, [`files`] where both are kept, [`show`] what a certificate
//! says. The names in certificates are `common::tls::identity`'s.

mod authority;
mod files;
mod show;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use holdfast_common::clock;
use holdfast_common::ids::ClusterId;
use holdfast_common::net::Role;
use holdfast_common::tls::{Identity, Kind};

use self::authority::{Authority, Wish};
use crate::exit::{Failure, Outcome};
use crate::output::{self, Format};

const CA_DAYS: i64 = 3_650;
const NODE_DAYS: i64 = 365;
const CLIENT_DAYS: i64 = 90;

/// Longest validity, in days: a hundred years.
const MAX_DAYS: i64 = 36_500;

#[derive(Debug, Subcommand)]
pub(crate) enum CertCommand {
    /// Found an authority: ca.pem, which every process and client gets, and ca-key.pem, which stays where it is
    CreateCa(CaArgs),
    /// Sign a certificate for a placement member, a store or a router
    CreateNode(NodeArgs),
    /// Sign a certificate for a client of the HTTP interfaces
    CreateClient(ClientArgs),
    /// Print what a certificate says
    Show {
        /// The certificate, PEM
        file: PathBuf,
        /// How it is printed
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CaArgs {
    /// The cluster that the authority is for; a cluster that is founded with its certificates gets this id [default: random]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(1..))]
    cluster_id: Option<u64>,
    /// Where to write ca.pem and ca-key.pem
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    #[command(flatten)]
    life: Life,
}

#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// What the process is
    #[arg(long, value_enum)]
    role: NodeRole,
    /// The name with which it is started; a router takes it from here
    #[arg(long)]
    name: String,
    /// Host names and IP addresses by which HTTP clients reach it, besides localhost
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    #[command(flatten)]
    signing: Signing,
    #[command(flatten)]
    life: Life,
}

#[derive(Debug, Args)]
pub(crate) struct ClientArgs {
    /// The name to which rights are granted: `holdfast token create --certificate NAME`
    #[arg(long)]
    name: String,
    /// It may do everything, without a grant; it is good until it ends, or until the authority is exchanged
    #[arg(long)]
    admin: bool,
    #[command(flatten)]
    signing: Signing,
    #[command(flatten)]
    life: Life,
}

/// Where the authority is, and where its work goes.
#[derive(Debug, Args)]
pub(crate) struct Signing {
    /// Where ca.pem and ca-key.pem are
    #[arg(long, value_name = "DIR", default_value = ".")]
    ca: PathBuf,
    /// Where to write NAME.pem and NAME-key.pem
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
}

/// How long a certificate is good, and whether it may take the place of another.
#[derive(Debug, Args)]
pub(crate) struct Life {
    /// Days for which it is good [default: 3650 for an authority, 365 for a node, 90 for a client]
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..=MAX_DAYS))]
    days: Option<i64>,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum NodeRole {
    Placement,
    Store,
    Router,
}

impl From<NodeRole> for Kind {
    fn from(role: NodeRole) -> Self {
        Self::Node(match role {
            NodeRole::Placement => Role::Placement,
            NodeRole::Store => Role::Store,
            NodeRole::Router => Role::Router,
        })
    }
}

/// Runs a cert command.
pub(crate) fn run(command: CertCommand) -> Outcome {
    match command {
        CertCommand::CreateCa(args) => create_ca(&args),
        CertCommand::CreateNode(args) => {
            let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
            let hosts = hosts.into_iter().chain(args.hosts).collect();
            sign(args.role.into(), &args.name, hosts, &args.signing, &args.life)
        }
        CertCommand::CreateClient(args) => {
            let kind = if args.admin {
                Kind::Node(Role::Admin)
            } else {
                Kind::Client
            };
            sign(kind, &args.name, Vec::new(), &args.signing, &args.life)
        }
        CertCommand::Show { file, output } => show::run(&file, output),
    }
}

fn create_ca(args: &CaArgs) -> Outcome {
    let cluster = ClusterId(args.cluster_id.unwrap_or_else(clock::random_id));
    let made = Authority::found(cluster, args.life.days.unwrap_or(CA_DAYS))?;
    files::write(&args.out, "ca", &made, args.life.force)?;
    output::line(format_args!(
        "authority of cluster {cluster} in {}",
        args.out.display()
    ))
}

fn sign(kind: Kind, name: &str, hosts: Vec<String>, signing: &Signing, life: &Life) -> Outcome {
    let authority = Authority::read(&signing.ca)?;
    let identity = Identity::new(authority.cluster(), kind, name).map_err(Failure::usage)?;
    let hosts_reach_it = !hosts.is_empty();
    let made = authority.sign(&Wish {
        identity: &identity,
        hosts,
        days: life
            .days
            .unwrap_or(if hosts_reach_it { NODE_DAYS } else { CLIENT_DAYS }),
    })?;
    files::write(&signing.out, name, &made, life.force)?;
    output::line(format_args!("{identity} in {}", signing.out.display()))
}
