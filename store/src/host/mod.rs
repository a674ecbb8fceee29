//! The host: which replicas run on this store, from birth to destruction.
//!
//! At most one replica of a range runs at a time. A replica comes to be in five ways: found on disk at the start, created
//! as the first of the cluster, created empty on the driver's order to wait for a snapshot, born of a split, or put in the
//! place of a survivor whose group is lost. It ends by an order of the driver or by going into its left neighbour, and
//! leaves a tombstone. Whoever changes what runs of a range holds that range's *turn*, so a
//! split that is applied and an order that arrives never cross.

mod births;
mod effects;
mod groups;
mod recovery;
mod takeover;

use std::sync::{Arc, Weak};

use dashmap::DashMap;
use futures::{StreamExt, TryStreamExt, stream};
use holdfast_common::clock::{self, Instant};
use holdfast_common::ids::{RangeId, ReplicaId};
use holdfast_common::proto::placement::StepError;
use holdfast_common::raft::log::LogEngine;
use holdfast_common::raft::network::{Outbound, RaftTimings};
use holdfast_common::raft::types::{Raft, TypeConfig};
use openraft::errors::Fatal;
use openraft::{Config, ConfigError};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio_util::task::TaskTracker;

pub(crate) use self::births::Births;
use self::effects::Effects;
use self::takeover::Ended;
use crate::command;
use crate::destroy;
use crate::ledger::Ledger;
use crate::machine::{OpenError, RangeHost, RangeMachine, birth_log_id};
use crate::read::lease::Voting;
use crate::replica::{Group, Replica, retention};
use crate::site::Site;
use crate::startup::Found;
use crate::state::Identity;

/// Groups that are opened, or shut down, at a time.
const AT_A_TIME: usize = 16;

/// Why a replica does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its state machine does not open.
    #[error(transparent)]
    Machine(#[from] OpenError),
    /// Its log fails.
    #[error(transparent)]
    Log(#[from] holdfast_common::raft::log::Error),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] crate::engine::Error),
    /// Its group does not start.
    #[error("the Raft group of range {range} does not start: {fatal}")]
    Group {
        /// The range.
        range: RangeId,
        /// Why.
        fatal: Fatal<TypeConfig>,
    },
}

impl Error {
    /// Whether it says that what is on disk is not what was written.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Machine(error) => error.is_damage(),
            Self::Log(error) => error.is_damage(),
            Self::Engine(error) => error.is_damage(),
            Self::Group { .. } => false,
        }
    }
}

/// The right to change what runs of a range.
type Turn = OwnedMutexGuard<()>;

/// See the module.
pub(crate) struct Host {
    me: Weak<Self>,
    pub site: Arc<Site>,
    log: LogEngine,
    ledger: Ledger,
    births: Births,
    outbound: Outbound,
    replicas: DashMap<RangeId, Arc<Replica>>,
    turns: DashMap<RangeId, Arc<Mutex<()>>>,
    /// Turns held from before a split is applied until its child runs.
    splitting: DashMap<RangeId, Turn>,
    /// Replicas that are being taken over, from before that is applied until their burial.
    ended: DashMap<RangeId, Ended>,
    burials: TaskTracker,
    /// For replicas that take part in elections from the start.
    free: Arc<Config>,
    /// For replicas that must wait first.
    quiet: Arc<Config>,
    /// Until when those wait.
    grace_ends: Instant,
}

impl Host {
    /// A host without replicas.
    ///
    /// # Errors
    /// The timings contradict each other.
    pub(crate) fn new(
        site: Arc<Site>,
        log: LogEngine,
        ledger: Ledger,
        outbound: Outbound,
        timings: &RaftTimings,
    ) -> Result<Arc<Self>, ConfigError> {
        let config = Config {
            // Replicas see to that themselves: they sleep.
            quorum_loss_probe_interval: None,
            ..retention::by_owner(timings.config()?)
        };
        let quiet = Arc::new(Config {
            enable_elect: false,
            ..config.clone()
        });
        let grace_ends = site.started + site.terms.grace();
        let births = Births::new(log.clone());
        Ok(Arc::new_cyclic(|me| Self {
            me: me.clone(),
            site,
            log,
            ledger,
            births,
            outbound,
            replicas: DashMap::new(),
            turns: DashMap::new(),
            splitting: DashMap::new(),
            ended: DashMap::new(),
            burials: TaskTracker::new(),
            free: Arc::new(config),
            quiet,
            grace_ends,
        }))
    }

    /// Measures what the log and the engine take, and did since the last call.
    pub(crate) fn observe_storage(&self) {
        self.log.observe();
        self.site.engine.observe();
    }

    /// Starts what a start found on disk.
    ///
    /// # Errors
    /// A replica does not start: the store must not run without it.
    pub(crate) async fn start_all(self: &Arc<Self>, found: Found) -> Result<(), Error> {
        let stored = found
            .stored
            .into_iter()
            .map(|stored| (stored.range, stored.replica));
        let mut all: Vec<_> = stored.chain(found.empty).collect();
        for (range, replica) in self.births.all()? {
            let superseded =
                all.iter().any(|(known, _)| *known == range) || found.unborn.contains(&(range, replica));
            if superseded || self.ledger.buried(replica) {
                self.births.forget(replica).await?;
            } else {
                all.push((range, replica));
            }
        }
        let count = all.len();
        let started = stream::iter(all).map(|(range, replica)| async move {
            let turn = self.turn(range).await;
            if self.ledger.is_taken_over(replica) || self.ledger.buried(replica) {
                // Its left neighbour was started before it, and has taken it over by now.
                return Ok(());
            }
            self.start(&turn, range, replica, false).await.map(drop)
        });
        started
            .buffer_unordered(AT_A_TIME)
            .try_for_each(|()| async { Ok(()) })
            .await?;
        tracing::info!(replicas = count, "the replicas run");
        Ok(())
    }

    /// The replica of a range that runs here.
    pub(crate) fn replica(&self, range: RangeId) -> Option<Arc<Replica>> {
        self.replicas.get(&range).map(|replica| replica.clone())
    }

    /// All replicas that run here.
    pub(crate) fn replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.iter().map(|replica| replica.clone()).collect()
    }

    /// Destroys a replica, which need not be here, and leaves its tombstone. Not one that a majority follows, whoever asks:
    /// but one that only believes that it leads, because those who could tell it are gone, has nothing to lead.
    pub(crate) async fn destroy(&self, range: RangeId, replica: ReplicaId) -> Result<(), StepError> {
        if let Some(running) = self.replica(range).filter(|running| running.id == replica)
            && running.leads()
            && running.standing().voting != Voting::No
            && let Ok(Ok(())) = clock::timeout(self.site.terms.lease, running.confirm()).await
        {
            return Err(StepError::Refused(format!(
                "replica {replica} leads range {range}"
            )));
        }
        self.fence(range, replica).await
    }

    /// Destroys a replica whose range is known to be no more, or whose group was given up, even if it leads it.
    pub(crate) async fn fence(&self, range: RangeId, replica: ReplicaId) -> Result<(), StepError> {
        if self.ledger.buried(replica) && self.replica(range).is_none_or(|running| running.id != replica) {
            return Ok(());
        }
        let turn = self.turn(range).await;
        if let Some(running) = self.replica(range).filter(|running| running.id == replica) {
            self.stop(&turn, &running).await;
        }
        let destroyed = destroy::destroy(&self.site.engine, &self.log, &self.ledger, range, replica).await;
        if let Err(error) = destroyed {
            self.site
                .alarm
                .raise(format!("destroying replica {replica} of range {range}: {error}"));
            return Err(StepError::Busy("the store has failed".to_owned()));
        }
        self.births
            .forget(replica)
            .await
            .map_err(|error| self.log_failed(&error))?;
        tracing::info!(%range, %replica, "a replica was destroyed");
        // Nobody else waits for the turn: the map and this hold it.
        self.turns
            .remove_if(&range, |_, turn| Arc::strong_count(turn) <= 2);
        self.site.changed.notify_one();
        Ok(())
    }

    /// Shuts every group down.
    pub(crate) async fn stop_all(&self) {
        let replicas = self.replicas();
        stream::iter(replicas)
            .for_each_concurrent(AT_A_TIME, |replica| async move {
                let turn = self.turn(replica.range).await;
                self.stop(&turn, &replica).await;
            })
            .await;
        self.burials.close();
        self.burials.wait().await;
    }

    /// Waits for the turn of a range.
    async fn turn(&self, range: RangeId) -> Turn {
        let turn = self.turns.entry(range).or_default().clone();
        turn.lock_owned().await
    }

    /// Starts a replica whose turn is held. `fresh`: it never ran before, so it can't have promised anything.
    async fn start(
        &self,
        _turn: &Turn,
        range: RangeId,
        replica: ReplicaId,
        fresh: bool,
    ) -> Result<Arc<Replica>, Error> {
        let identity = Identity {
            range,
            replica,
            store: self.site.store,
        };
        let machines = TaskTracker::new();
        let host: Arc<dyn RangeHost> = Arc::new(Effects::new(self.me.clone(), &machines));
        let machine = RangeMachine::open(identity, self.site.engine.clone(), host).await?;
        let shared = machine.shared();
        // What no leader wrote is a birth, and there is no log of it.
        let origin = shared
            .get()
            .applied
            .filter(|applied| applied.leader_id.term == birth_log_id().leader_id.term);
        let log = self.log.group(range, replica, origin);
        let network = self
            .outbound
            .group(range, replica, |command| command::is_writes(&command.0));
        let hush = network.hush();
        let config = if fresh { &self.free } else { &self.quiet };
        let raft = Raft::new(replica, config.clone(), network, log, machine).await;
        let raft = raft.map_err(|fatal| Error::Group { range, fatal })?;
        self.site.ranges.insert(range, replica, shared.clone());
        let group = Group {
            raft,
            shared,
            machines,
            hush,
        };
        let replica = Replica::start(self.site.clone(), (range, replica), group, fresh);
        if self.may_stand(&replica) {
            replica.allow_elections();
        }
        self.replicas.insert(range, replica.clone());
        self.site.changed.notify_one();
        Ok(replica)
    }

    /// Stops a replica whose turn is held. When this returns, its state machine writes no more.
    async fn stop(&self, _turn: &Turn, replica: &Replica) {
        self.replicas
            .remove_if(&replica.range, |_, running| running.id == replica.id);
        replica.stop().await;
        self.site.ranges.remove(replica.range);
        self.site.changed.notify_one();
    }

    /// Whether a replica may take part in elections: not if it may have promised something that it does not remember.
    pub(crate) fn may_stand(&self, replica: &Replica) -> bool {
        replica.is_fresh() || clock::now() >= self.grace_ends
    }

    /// Lets replicas take part in elections once no promise of theirs can be in force any more.
    pub(crate) async fn end_grace(self: Arc<Self>) {
        clock::sleep_until(self.grace_ends).await;
        for replica in self.replicas() {
            replica.allow_elections();
        }
    }

    fn log_failed(&self, error: &holdfast_common::raft::log::Error) -> StepError {
        self.site.alarm.raise(format!("the log failed: {error}"));
        StepError::Busy("the store has failed".to_owned())
    }
}
