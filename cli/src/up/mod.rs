//! `holdfast up`: a local cluster, every member its own process.
//!
//! [`plan`] decides who there is and on which ports (pure), [`member`] is one child process, [`members`] are all of them,
//! [`cluster_file`] tells the outside who runs, [`control`] takes its [`wishes`] ([`leave`] is the one that takes long), [`ready`] waits for the first write to be
//! possible and [`launcher`] holds it all together.

mod cluster_file;
mod control;
mod launcher;
mod leave;
mod member;
mod members;
mod plan;
mod ready;
mod wishes;

use std::path::PathBuf;

use clap::Args;

use crate::exit::Outcome;

#[derive(Clone, Debug, Args)]
pub(crate) struct UpArgs {
    /// Where members keep their data and logs
    #[arg(long, value_name = "DIR", default_value = "holdfast-data")]
    data_dir: PathBuf,
    /// Stores
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=30))]
    stores: u16,
    /// Placement members: 1, 3 or 5
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = placements)]
    placements: u16,
    /// Routers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=9))]
    routers: u16,
    /// Routers listen here and after, placement members from ten on, stores from twenty on, internal RPC from fifty on
    #[arg(long, value_name = "P", default_value_t = 7400, value_parser = clap::value_parser!(u16).range(1024..=65000))]
    base_port: u16,
    /// Use a temporary directory, removed at the end
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// Start a member that died again
    #[arg(long)]
    restart: bool,
}

impl Default for UpArgs {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("holdfast-data"),
            stores: 3,
            placements: 1,
            routers: 1,
            base_port: 7400,
            ephemeral: false,
            restart: false,
        }
    }
}

fn placements(text: &str) -> Result<u16, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("1, 3 or 5: a majority of an even number survives no more failures than of one less".into()),
    }
}

/// Runs the cluster until it is told to stop.
pub(crate) fn run(args: UpArgs) -> Outcome {
    // The thread that starts a child must outlive it, or the child is told that its parent has died; so the launcher stays
    // on this one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)?;
    runtime.block_on(launcher::run(args))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        up: UpArgs,
    }

    #[test]
    fn no_argument_means_the_documented_defaults() {
        let parsed = Line::parse_from(["up"]).up;
        assert_eq!(format!("{parsed:?}"), format!("{:?}", UpArgs::default()));
        assert!(Line::try_parse_from(["up", "--placements", "2"]).is_err());
    }
}
