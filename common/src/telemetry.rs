//! What a process tells of itself: logs through `tracing`, metrics through `metrics` in Prometheus' text format.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;

use crate::clock;

pub mod catalogue;
pub mod disk;
pub mod exposition;
mod peers;

pub use peers::peer_label;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// Why telemetry could not be set up; each can only happen when it is set up twice.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Logging was set up before.
    #[error("logging: {0}")]
    Logs(#[from] Box<dyn std::error::Error + Send + Sync>),
    /// The metrics recorder was set up before.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
}

/// Upper bounds of the buckets of every `_seconds` histogram: 0.1 ms to 10 s in 16 steps.
pub const SECONDS_BUCKETS: [f64; 16] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 3.2,
    10.0,
];

/// Upper bounds of the buckets of every histogram that counts things.
const COUNT_BUCKETS: [f64; 12] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 4096.0, 16384.0,
];

/// Upper bounds of the buckets of every histogram that measures bytes.
const BYTES_BUCKETS: [f64; 12] = [
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];

/// What is logged unless someone asks for something else.
///
/// Openraft tells at `info` what only someone debugging openraft wants to read, and warns of a peer that is down with every
/// message that it has for it; the network reports that once. A call or a heartbeat that meets a replica which is being
/// stopped, or leads no more, gets an error, and openraft shouts about it as if the group had failed: callers know what to
/// do, and what does fail a group is reported by its store.
const QUIET: &str =
    "info,openraft=error,openraft::raft=off,openraft::core::heartbeat::worker=off,fjall=warn,lsm_tree=warn";

/// Upper bounds of the buckets of what takes seconds to minutes: operators and snapshots.
const LONG_BUCKETS: [f64; 12] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0,
];

/// What takes that long.
const LONG: [&str; 2] = [
    "holdfast_placement_operator_duration_seconds",
    "holdfast_raft_snapshot_duration_seconds",
];

/// Says, where nobody can overlook it, that this process was told to do without encryption and authentication. To be called
/// once metrics are recorded.
pub fn tell_insecure(insecure: bool) {
    metrics::gauge!("holdfast_insecure").set(f64::from(u8::from(insecure)));
    if insecure {
        tracing::warn!(
            "INSECURE: started with --insecure; whoever can reach this process can read and change all data"
        );
    }
}

/// Sends log lines to standard error. `HOLDFAST_LOG` filters them (`tracing`'s directives, default `info`).
pub fn init_logs(format: LogFormat) -> Result<(), Error> {
    let filter = EnvFilter::try_from_env("HOLDFAST_LOG").unwrap_or_else(|_| EnvFilter::new(QUIET));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(SystemTime)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).try_init()?,
    }
    Ok(())
}

/// Renders every metric of the process; cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    process: Arc<metrics_process::Collector>,
    clock: metrics::Gauge,
}

impl Metrics {
    /// Installs the recorder, and describes the build under the name of the process's role.
    pub fn install(role: &'static str) -> Result<Self, Error> {
        let mut builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)?
            .set_buckets_for_metric(Matcher::Suffix("_entries".into()), &COUNT_BUCKETS)?
            .set_buckets_for_metric(Matcher::Suffix("_bytes".into()), &BYTES_BUCKETS)?;
        for name in LONG {
            builder = builder.set_buckets_for_metric(Matcher::Full(name.into()), &LONG_BUCKETS)?;
        }
        let handle = builder.install_recorder()?;
        catalogue::describe(catalogue::EVERY_PROCESS);
        catalogue::begin_at_zero();
        let commit = option_env!("HOLDFAST_COMMIT").unwrap_or("unknown");
        metrics::gauge!("holdfast_build_info", "version" => env!("CARGO_PKG_VERSION"), "commit" => commit, "role" => role).set(1.0);
        let process = metrics_process::Collector::default();
        catalogue::describe(catalogue::OF_THE_PROCESS);
        Ok(Self {
            handle,
            process: Arc::new(process),
            clock: metrics::gauge!("holdfast_wall_clock_seconds"),
        })
    }

    /// Folds what histograms have gathered, every few seconds, for as long as the future is polled; without it they grow.
    pub async fn upkeep(self) {
        let mut ticks = clock::every(Duration::from_secs(5));
        loop {
            ticks.tick().await;
            self.handle.run_upkeep();
        }
    }

    /// Prometheus' text exposition of everything.
    pub fn render(&self) -> String {
        self.clock.set(clock::wall_ms() as f64 / 1_000.0);
        self.process.collect();
        self.handle.render()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_histograms_in_order() {
        assert!(SECONDS_BUCKETS.is_sorted() && COUNT_BUCKETS.is_sorted() && BYTES_BUCKETS.is_sorted());
        assert!(LONG_BUCKETS.is_sorted());
        let metrics = Metrics::install("test").unwrap();
        metrics::histogram!("holdfast_example_seconds").record(0.003);
        let text = metrics.render();
        assert!(
            text.contains("holdfast_example_seconds_bucket{le=\"0.004\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("holdfast_build_info{") && text.contains("process_resident_memory_bytes"),
            "{text}"
        );
    }
}
