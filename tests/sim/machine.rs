//! A machine of the simulation: a process of the cluster, its runtime and its clocks.

use std::cell::Cell;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use holdfast_common::failpoint::Step;
use holdfast_common::simulation::World;
use holdfast_common::simulation::volume::Crash;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

/// The wall clock of a machine whose clock is right, when the simulation begins: milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_750_000_000_000;

/// What a process ends with.
pub(crate) type Life = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// What runs on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Placement,
    Store,
    Router,
    Clients,
}

thread_local! {
    static SHOWN: Cell<(u64, IpAddr)> = const { Cell::new((0, IpAddr::V4(Ipv4Addr::UNSPECIFIED))) };
}

/// The time and the machine, in logs.
pub(crate) struct Shown;

impl FormatTime for Shown {
    fn format_time(&self, writer: &mut Writer<'_>) -> std::fmt::Result {
        let (now, machine) = SHOWN.get();
        write!(writer, "{now} ms {machine}")
    }
}

/// A machine.
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) at: IpAddr,
    dir: PathBuf,
    process: Option<Process>,
    /// What its wall clock is wrong by, milliseconds.
    pub(crate) wrong_by_ms: i64,
    /// It stands still until then.
    pub(crate) stopped_until: u64,
}

struct Process {
    // Dropped in this order: what a task holds may need the runtime.
    tasks: LocalSet,
    life: JoinHandle<Result<(), String>>,
    runtime: Runtime,
    /// When it was started, by the clock of the simulation and by its own.
    begun: (u64, Instant),
}

impl Machine {
    pub(crate) fn new(name: &str, role: Role, number: u8, below: &Path) -> Self {
        Self {
            name: name.to_owned(),
            role,
            at: Ipv4Addr::new(127, 0, 0, number).into(),
            dir: below.join(name),
            process: None,
            wrong_by_ms: 0,
            stopped_until: 0,
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// An address on it.
    pub(crate) fn port(&self, port: u16) -> String {
        SocketAddr::new(self.at, port).to_string()
    }

    fn wall_ms(&self, now: u64) -> u64 {
        (EPOCH_MS + now).saturating_add_signed(self.wrong_by_ms)
    }

    /// Starts its process.
    pub(crate) fn start(&mut self, world: &Arc<World>, now: u64, life: Life) -> anyhow::Result<()> {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        world.network().start(self.at);
        world.falls().start(self.at, &self.dir);
        let tasks = LocalSet::new();
        let process = world.run(self.at, self.wall_ms(now), || {
            let (begun, life) = runtime.block_on(async { (Instant::now(), tasks.spawn_local(life)) });
            Process {
                tasks,
                life,
                runtime,
                begun: (now, begun),
            }
        });
        self.process = Some(process);
        Ok(())
    }

    /// Lets it run until `now`; what its process ended with, if it ended.
    pub(crate) fn step(&mut self, world: &Arc<World>, now: u64) -> Option<Result<(), String>> {
        let wall_ms = self.wall_ms(now);
        SHOWN.set((now, self.at));
        if self.stopped_until > now {
            return None;
        }
        let Process {
            tasks,
            life,
            runtime,
            begun: (begun, base),
        } = self.process.as_mut()?;
        let until = *base + Duration::from_millis(now - *begun);
        world.run(self.at, wall_ms, || {
            runtime.block_on(tasks.run_until(async {
                let behind = until.saturating_duration_since(Instant::now());
                if behind > Duration::from_millis(1) {
                    // It stood still, and finds that all this time has passed.
                    tokio::time::advance(behind - Duration::from_millis(1)).await;
                }
                tokio::time::sleep_until(until).await;
            }));
            if !life.is_finished() {
                return None;
            }
            let ended = runtime.block_on(life);
            Some(ended.unwrap_or_else(|error| Err(error.to_string())))
        })
    }

    /// The step at which its process has fallen, if it has.
    pub(crate) fn fallen(&self, world: &World) -> Option<Step> {
        self.process.as_ref()?;
        world.falls().fallen(self.at)
    }

    /// Has it lose everything on its disks. It must not run.
    pub(crate) fn wipe(&self, world: &World) {
        world.volumes().wipe(&self.dir);
        let _ = std::fs::remove_dir_all(&self.dir);
    }

    /// Ends its process, or its power.
    pub(crate) fn crash(&mut self, world: &Arc<World>, now: u64, crash: Crash) {
        let has_fallen = self.fallen(world).is_some();
        let wall_ms = self.wall_ms(now);
        if let Some(process) = self.process.take() {
            world.run(self.at, wall_ms, || {
                let Process {
                    tasks, life, runtime, ..
                } = process;
                let entered = runtime.enter();
                drop((tasks, life));
                drop(entered);
                drop(runtime);
            });
        }
        self.stopped_until = 0;
        if crash == Crash::Power {
            // They are not synced, and so may be as old as they like after a power cut: as old as can be.
            for database in ["raft", "data"] {
                let _ = std::fs::remove_file(self.dir.join(database).join("acknowledged"));
            }
        }
        world.network().stop(self.at, crash == Crash::Power);
        if has_fallen {
            return; // Its disks crashed when it fell.
        }
        let (mut volumes, mut random) = (world.volumes(), world.random());
        volumes.crash(&self.dir, crash, &mut *random);
    }
}

/// The life of a process that runs a role.
pub(crate) fn life<E: std::fmt::Display>(run: impl Future<Output = Result<(), E>> + 'static) -> Life {
    Box::pin(async move { run.await.map_err(|error| error.to_string()) })
}

/// Nobody asks a simulated process to stop.
pub(crate) fn never() -> CancellationToken {
    CancellationToken::new()
}
