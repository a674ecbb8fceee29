//! The load's parameters as command-line arguments, shared by every program that offers them.

use std::time::Duration;

use crate::{
    InvalidWorkload,
    workload::{Consistency, Distribution, Kind, Workload},
};

/// Command-line arguments that describe a workload; flatten them into a command that knows its target.
#[derive(Clone, Debug, clap::Args)]
pub struct LoadArgs {
    /// put, get, mixed, scan or ycsb-a to ycsb-f; mixed:READ% and scan:ITEMS set the share of reads and the length
    #[arg(value_name = "WORKLOAD", default_value = "mixed")]
    pub kind: Kind,
    /// Concurrent clients, each with one request under way
    #[arg(long, default_value_t = 64)]
    pub clients: usize,
    /// Clients that share a connection, by HTTP/2; 1 gives each its own, by HTTP/1.1
    #[arg(long, default_value_t = 1, value_parser = sharing)]
    pub clients_per_connection: usize,
    /// Threads to spread the clients over
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Seconds to measure
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub seconds: f64,
    /// Seconds of load before measuring
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub warm_up: f64,
    /// Length of the values written, in bytes
    #[arg(long, default_value_t = 128)]
    pub value_size: usize,
    /// Number of keys, k000000000000000 onwards, spread evenly over the key space
    #[arg(long, default_value_t = 50_000)]
    pub keys: u64,
    /// How keys are chosen [default: zipfian for ycsb, else uniform]
    #[arg(long, value_enum)]
    pub distribution: Option<Distribution>,
    /// What reads must see
    #[arg(long, value_enum, default_value = "linearizable")]
    pub consistency: Consistency,
    /// Open loop: operations a second in all, latency counted from the instant each was due
    #[arg(long)]
    pub rate: Option<f64>,
    /// Seconds until a request is given up
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub timeout: f64,
    /// Seed of all random choices
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Do not write the key set first
    #[arg(long)]
    pub no_load: bool,
}

impl LoadArgs {
    /// The workload described, with its bounds checked.
    pub fn workload(&self) -> Result<Workload, InvalidWorkload> {
        let workload = Workload {
            kind: self.kind,
            clients: self.clients,
            threads: self.threads,
            duration: Duration::from_secs_f64(self.seconds),
            warm_up: Duration::from_secs_f64(self.warm_up),
            value_bytes: self.value_size,
            keys: self.keys,
            distribution: self.distribution,
            consistency: self.consistency,
            rate: self.rate,
            timeout: Duration::from_secs_f64(self.timeout),
            seed: self.seed,
        };
        workload.validate()?;
        Ok(workload)
    }
}

/// Reads how many clients share a connection.
///
/// # Errors
/// It is not a number of at least 1.
pub fn sharing(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(clients) if clients > 0 => Ok(clients),
        _ => Err("must be a number of clients, at least 1".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("must be seconds, 0 to 86400".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn workload(line: &str) -> Result<Workload, String> {
        let command = Command::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        command.load.workload().map_err(|error| error.to_string())
    }

    #[test]
    fn no_arguments_are_the_defaults() {
        let expected = Workload::new(Kind::Mixed { read_percent: 50 });
        assert_eq!(
            format!("{:?}", workload("bench")),
            format!("{:?}", Ok::<_, String>(expected))
        );
    }

    #[test]
    fn bad_arguments_are_refused() {
        for line in [
            "bench nothing",
            "bench --seconds -1",
            "bench --seconds 0",
            "bench --clients 0",
            "bench --clients-per-connection 0",
            "bench --rate 0",
        ] {
            assert!(workload(line).is_err(), "{line}");
        }
    }
}
