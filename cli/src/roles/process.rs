//! What all roles have in common once they are configured: logs, metrics, the runtime, signals.

use std::ffi::OsString;

use holdfast_common::telemetry::{self, LogFormat, Metrics};
use rustix::process::{Resource, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::scheduling::Scheduling;
use super::{ProcessArgs, settings};
use crate::exit::{Exit, Failure, Outcome};

/// Configures and runs a role until it ends or is told to.
///
/// `flags` are the role's own; `body` gets its configuration, the metrics and the token that SIGINT and SIGTERM cancel.
pub(super) fn run<C, F>(
    role: &'static str,
    process: &ProcessArgs,
    flags: &(impl Serialize + ?Sized),
    body: impl FnOnce(C, Metrics, CancellationToken) -> F,
) -> Outcome
where
    C: DeserializeOwned,
    F: Future<Output = Result<(), Box<dyn std::error::Error + Send + Sync>>>,
{
    if process.die_with_parent {
        set_parent_process_death_signal(Some(Signal::TERM)).map_err(std::io::Error::from)?;
    }
    let mut settings = settings::layered(
        role,
        process.config.as_deref(),
        environment(),
        &Flags { process, flags },
    )?;
    let format = settings::take::<LogFormat>(&mut settings, "log_format")?.unwrap_or_default();
    let threads = settings::take::<usize>(&mut settings, "threads")?.unwrap_or_else(default_threads);
    let scheduling = settings::take::<Scheduling>(&mut settings, "scheduling")?.unwrap_or_default();
    let insecure = settings.get("insecure").and_then(toml::Value::as_bool) == Some(true);
    let config = settings::parse(settings)?;
    telemetry::init_logs(format).map_err(anyhow::Error::from)?;
    raise_descriptor_limit();
    scheduling.take_effect();
    let metrics = Metrics::install(role).map_err(anyhow::Error::from)?;
    telemetry::tell_insecure(insecure);
    runtime(threads)?.block_on(async {
        let shutdown = CancellationToken::new();
        tokio::spawn(metrics.clone().upkeep());
        tokio::spawn(cancel_on_signal(shutdown.clone()));
        match body(config, metrics, shutdown).await {
            Ok(()) => {
                tracing::info!("stopped");
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, "ended");
                let damaged = error.downcast_ref::<holdfast_store::Error>();
                let exit = match damaged.is_some_and(holdfast_store::Error::is_damage) {
                    true => Exit::Damaged,
                    false => Exit::Other,
                };
                Err(Failure::new(exit, error))
            }
        }
    })
}

/// A role's flags together with those of every role.
#[derive(Serialize)]
struct Flags<'a, T: ?Sized> {
    #[serde(flatten)]
    process: &'a ProcessArgs,
    #[serde(flatten)]
    flags: &'a T,
}

/// File descriptors with which a process warns: each connection and each open table takes one.
const FEW_DESCRIPTORS: u64 = 8_192;

/// Takes as many file descriptors as it may have: the usual soft limit of 1,024 is for programs that call select(2).
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files can't be raised");
    }
    if let Some(limit) = getrlimit(Resource::Nofile)
        .current
        .filter(|limit| *limit < FEW_DESCRIPTORS)
    {
        tracing::warn!(
            limit,
            "few files may be open; raise the limit (ulimit -Hn) to {FEW_DESCRIPTORS} or more"
        );
    }
}

fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// On few processors one thread beats several, which would only wake each other; see docs/benchmarks.md.
fn default_threads() -> usize {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        0..=4 => 1,
        many => many / 2,
    }
}

fn runtime(threads: usize) -> Outcome<tokio::runtime::Runtime> {
    let mut builder = match threads {
        0 => return Err(Failure::usage("threads must not be zero")),
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    Ok(builder.worker_threads(threads).enable_all().build()?)
}

/// The first signal asks for an ordered end; a second one does not wait for it.
async fn cancel_on_signal(shutdown: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("no signal handlers: this process can only be killed");
        return;
    };
    for cancel in [true, false] {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if !cancel {
            tracing::warn!("second signal: ending at once");
            std::process::exit(130);
        }
        tracing::info!("stopping");
        shutdown.cancel();
    }
}
