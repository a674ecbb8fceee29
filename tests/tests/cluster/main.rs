//! Clusters of real processes, started by `holdfast up`, written to, killed and started again.

mod check;
mod client;
mod counting;
mod damage;
mod driver;
mod edges;
mod exposed;
mod hibernation;
mod import_export;
mod kill;
mod load;
mod membership;
mod merge;
mod metrics;
mod motion;
mod operations;
mod placing;
mod recovery;
mod refusals;
mod rights;
mod secured;
mod seeds;
mod underneath;

use anyhow::Context;
use holdfast_tests::{Cluster, Options};

/// The `holdfast` under test.
const PROGRAM: &str = env!("CARGO_BIN_EXE_holdfast-under-test");

/// Starts a cluster and waits until its ranges have all their replicas.
async fn cluster(options: Options) -> anyhow::Result<Cluster> {
    let cluster = Cluster::start(PROGRAM, options)?;
    let voters = usize::from(options.stores.min(3));
    cluster
        .admin()
        .settled(voters, std::time::Duration::from_secs(60))
        .await?;
    Ok(cluster)
}

/// A number from the environment.
fn from_environment(name: &str, otherwise: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(value) => value.parse().with_context(|| format!("{name}={value}")),
        Err(_) => Ok(otherwise),
    }
}
