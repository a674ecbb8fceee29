//! A store that runs, without its link to the placement driver: databases, replicas, and the RPC service over them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures::{StreamExt, stream};
use holdfast_common::ids::StoreId;
use holdfast_common::net::{Client, ClusterIdCell, PeerInfo, Role, Server, ServerConfig};
use holdfast_common::proto::permitted;
use holdfast_common::raft::journal;
use holdfast_common::raft::log::{self, LogEngine};
use holdfast_common::raft::network::{Inbound, Outbound, RaftTimings, SnapshotLimits, Staging};
use holdfast_common::tls::Tls;
use holdfast_common::{blocking, clock};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::addresses::Addresses;
use crate::check::{self, Checks};
use crate::chores;
use crate::config::Config;
use crate::disk::{DiskGuard, Limits};
use crate::engine::{self, Engine};
use crate::hibernate::liveness::Liveness;
use crate::hibernate::{self, Dormitory};
use crate::host::{self, Host};
use crate::ledger::{self, Ledger};
use crate::memory::{Room, Shares};
use crate::quarantine::{self, Found};
use crate::ranges::Ranges;
use crate::read::lease::Terms;
use crate::recovery;
use crate::replica::Replica;
use crate::replica::queue::Bounds;
use crate::service::StoreService;
use crate::site::{Alarm, Site};
use crate::startup;

/// Longest time that handing leaderships over may take when the store stops.
const HAND_OVER: Duration = Duration::from_secs(2);

/// Leaderships handed over at a time.
const HAND_OVERS: usize = 32;

/// Why a store does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory can't be used.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: std::io::Error,
    },
    /// The log does not open.
    #[error(transparent)]
    OpenLog(#[from] journal::OpenError),
    /// The log failed.
    #[error(transparent)]
    Log(#[from] log::Error),
    /// The data does not open.
    #[error(transparent)]
    OpenData(#[from] engine::OpenError),
    /// The store's records can't be read.
    #[error(transparent)]
    Ledger(#[from] ledger::Error),
    /// What is on disk does not fit together.
    #[error(transparent)]
    Recover(#[from] startup::Error),
    /// A range that was being brought back from its survivor here can't be.
    #[error(transparent)]
    Recovery(#[from] recovery::Error),
    /// A replica does not start.
    #[error(transparent)]
    Replica(#[from] host::Error),
    /// Raft's timings contradict each other.
    #[error("Raft timings: {0}")]
    Timings(#[from] openraft::ConfigError),
    /// A thread of the runtime panicked.
    #[error("opening the databases was interrupted")]
    Interrupted,
}

impl Error {
    /// Whether it came up after the databases were opened: what they hold may be why.
    pub(crate) fn is_doubtful(&self) -> bool {
        !matches!(
            self,
            Self::Io { .. } | Self::Timings(_) | Self::OpenLog(_) | Self::OpenData(_)
        )
    }

    /// The damage that it tells of, if it says that what is on disk is not what was written.
    pub(crate) fn damage(&self) -> Option<Found> {
        let is_damage = match self {
            Self::OpenLog(error) => matches!(error, journal::OpenError::Damaged { .. }),
            Self::Log(error) => error.is_damage(),
            Self::OpenData(error) => error.is_damage(),
            Self::Ledger(error) => error.is_damage(),
            Self::Recover(error) => error.is_damage(),
            Self::Recovery(error) => error.is_damage(),
            Self::Replica(error) => error.is_damage(),
            Self::Io { .. } | Self::Timings(_) | Self::Interrupted => false,
        };
        let file = match self {
            Self::OpenLog(journal::OpenError::Damaged { file, .. })
            | Self::OpenData(engine::OpenError::Journal(journal::OpenError::Damaged { file, .. })) => {
                Some(file.clone())
            }
            _ => None,
        };
        let reason = self.to_string();
        is_damage.then_some(Found { file, reason })
    }
}

/// A store that runs.
pub(crate) struct Store {
    pub host: Arc<Host>,
    pub log: LogEngine,
    /// Where RPC is served.
    pub rpc: SocketAddr,
    engine: Engine,
    /// Ends the RPC service.
    serving: CancellationToken,
    /// Ends everything else.
    background: CancellationToken,
    service: TaskTracker,
    tasks: TaskTracker,
    grace: Duration,
}

impl Store {
    /// Opens the databases in `dir`, starts what is in them, and serves RPC.
    ///
    /// # Errors
    /// See [`Error`]; nothing runs then.
    pub(crate) async fn start(
        config: &Config,
        dir: &Path,
        store: StoreId,
        cluster: ClusterIdCell,
        (client, tls): (Client, Option<Tls>),
    ) -> Result<Self, Error> {
        let timings = timings(config);
        let Shares { engine, log, waiting } = config.memory().apart_from_others(store);
        let (log, engine, disk) = open(dir, config, log, engine).await?;
        let ledger = Ledger::open(log.clone())?;
        recovery::resume(&engine, &log, &ledger, store).await?;
        let found = startup::recover(&engine, &log, &ledger).await?;
        let staging = dir.join("snapshots");
        let staging = Staging::open(&staging, SnapshotLimits::default()).map_err(io(|| display(&staging)))?;

        let site = Arc::new(Site {
            store,
            engine: engine.clone(),
            terms: Terms::for_election_timeout(timings.election_max),
            client: client.clone(),
            addresses: Arc::new(Addresses::load(&log)?),
            ranges: Ranges::default(),
            staging: staging.clone(),
            disk,
            changed: Notify::new(),
            waiting: Bounds {
                items: config.max_waiting,
                bytes: config.max_waiting_bytes,
            },
            room: Room::new(waiting),
            alarm: Alarm::default(),
            removed: CancellationToken::new(),
            pressed: AtomicBool::new(false),
            dormitory: dormitory(config, &timings),
            checks: Checks::new(config.check_pace()),
            started: clock::now(),
        });
        let outbound = Outbound::new(client, site.addresses.clone(), staging.clone(), timings.clone());
        let host = Host::new(site, log.clone(), ledger, outbound, &timings)?;
        let inbound = Inbound::new(host.clone(), staging);
        let service = Arc::new(StoreService::new(host.clone(), inbound));
        let identity = PeerInfo::new(Role::Store, store.0, config.name.clone());
        let server = ServerConfig {
            grace: config.shutdown_grace(),
            tls,
            permits: |caller, method| permitted(Role::Store, caller, method),
            ..ServerConfig::new(identity, cluster)
        };
        let server = Server::bind(&config.rpc, server, service)
            .await
            .map_err(io(|| config.rpc.clone()))?;
        let rpc = server.local_addr().map_err(io(|| config.rpc.clone()))?;
        host.start_all(found).await?;

        let running = Self {
            host,
            log,
            rpc,
            engine,
            serving: CancellationToken::new(),
            background: CancellationToken::new(),
            service: TaskTracker::new(),
            tasks: TaskTracker::new(),
            grace: config.shutdown_grace(),
        };
        running.service.spawn(server.serve(running.serving.clone()));
        running.look_after();
        Ok(running)
    }

    /// The damage that one of the databases has met, if one has.
    pub(crate) fn damage(&self) -> Option<Found> {
        let data = self.engine.failure().borrow().clone();
        let log = self.log.failure().borrow().clone();
        let data = data
            .filter(engine::Error::is_damage)
            .map(|error| error.to_string());
        let log = log.filter(log::Error::is_damage).map(|error| error.to_string());
        data.or(log).map(|reason| Found { file: None, reason })
    }

    /// Ends when the store can't go on, with the reason.
    pub(crate) async fn failed(&self) -> String {
        self.host.site.alarm.raised().await
    }

    /// Stops in order: no new requests, those in flight answered, leaderships handed over, groups shut down, databases
    /// closed.
    pub(crate) async fn stop(self) {
        self.serving.cancel();
        self.service.close();
        // Raft goes on meanwhile, so what is in flight is answered.
        if clock::timeout(self.grace, self.service.wait()).await.is_err() {
            tracing::warn!("requests in flight did not end in time");
        }
        hand_over(self.host.replicas()).await;
        self.background.cancel();
        self.host.stop_all().await;
        self.host.site.checks.stop().await;
        self.tasks.close();
        self.tasks.wait().await;
        self.engine.close().await;
        self.log.close().await;
    }

    fn look_after(&self) {
        let site = &self.host.site;
        self.tasks
            .spawn(chores::run(self.host.clone(), self.background.clone()));
        self.tasks
            .spawn(hibernate::run(self.host.clone(), self.background.clone()));
        self.tasks
            .spawn(check::schedule::run(self.host.clone(), self.background.clone()));
        let (host, stopped) = (self.host.clone(), self.background.clone());
        self.tasks
            .spawn(async move { stopped.run_until_cancelled(host.end_grace()).await });
        self.tasks.spawn(site.disk.clone().watch(self.background.clone()));
        self.watch_failure("the data", self.engine.failure());
        self.watch_failure("the log", self.log.failure());
    }

    /// Raises the alarm when a database fails: what it holds can't be relied upon until it is opened again.
    fn watch_failure<E>(&self, what: &'static str, mut failure: watch::Receiver<Option<E>>)
    where
        E: std::fmt::Display + Send + Sync + 'static,
    {
        let (site, stopped) = (self.host.site.clone(), self.background.clone());
        self.tasks.spawn(async move {
            let failed = stopped
                .run_until_cancelled(failure.wait_for(Option::is_some))
                .await;
            if let Some(Ok(failure)) = failed
                && let Some(error) = failure.as_ref()
            {
                site.alarm.raise(format!("{what}: {error}"));
            }
        });
    }
}

/// The timings that groups run by.
fn timings(config: &Config) -> RaftTimings {
    RaftTimings {
        heartbeat: Duration::from_millis(config.raft_heartbeat_ms),
        election_min: Duration::from_millis(config.raft_election_min_ms),
        election_max: Duration::from_millis(config.raft_election_max_ms),
        ..RaftTimings::default()
    }
}

fn dormitory(config: &Config, timings: &RaftTimings) -> Dormitory {
    let after = Duration::from_millis(config.hibernate_after_ms);
    Dormitory {
        incarnation: clock::random_id(),
        after: (!after.is_zero()).then_some(after),
        heartbeat: timings.heartbeat,
        election_min: timings.election_min,
        liveness: Liveness::new(timings.election_max),
    }
}

/// Opens both databases and takes a first look at the disk, where blocking is allowed.
async fn open(
    dir: &Path,
    config: &Config,
    for_log: log::Options,
    for_engine: engine::Options,
) -> Result<(LogEngine, Engine, Arc<DiskGuard>), Error> {
    let (dir, limits) = (
        dir.to_owned(),
        Limits::new(config.disk_reserve_bytes, config.disk_soft_limit_bytes),
    );
    let open = move || {
        if let Some(doubt) = quarantine::doubt(&dir) {
            tracing::warn!(
                doubt,
                "the store failed before: every table is read before anything is used"
            );
            quarantine::read_tables(&dir)?;
        }
        let log = LogEngine::open(&dir.join("raft"), for_log)?;
        let engine = Engine::open(&dir.join("data"), for_engine)?;
        let disk = DiskGuard::new(&dir, limits).map_err(io(|| display(&dir)))?;
        Ok((log, engine, Arc::new(disk)))
    };
    blocking::run(open).await.map_err(|_| Error::Interrupted)?
}

/// Hands over what leaderships can be, in bounded time.
async fn hand_over(replicas: Vec<Arc<Replica>>) {
    let led = replicas.into_iter().filter(|replica| replica.leads());
    let handing = stream::iter(led).for_each_concurrent(HAND_OVERS, |replica| async move {
        let Ok(_slot) = replica.begin_step() else { return };
        let Some(to) = replica.successor(&[]) else { return };
        if let Err(error) = replica.hand_over(to).await {
            tracing::info!(range = %replica.range, %error, "a leadership was not handed over");
        }
    });
    if clock::timeout(HAND_OVER, handing).await.is_err() {
        tracing::warn!("not every leadership was handed over in time");
    }
}

fn io(what: impl FnOnce() -> String) -> impl FnOnce(std::io::Error) -> Error {
    move |error| Error::Io { what: what(), error }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
