//! One placement member from its start to its end, top to bottom.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holdfast_common::ids::{ClusterId, MemberId, ReplicaId};
use holdfast_common::net::{Client, ClientConfig, ClusterIdCell, PeerInfo, Role, Server, ServerConfig};
use holdfast_common::proto::permitted;
use holdfast_common::proto::placement::MemberStatus;
use holdfast_common::raft::log::{LogEngine, OpenError, Options};
use holdfast_common::raft::network::{Inbound, Outbound, SnapshotLimits, Staging};
use holdfast_common::raft::types::{Node, Raft};
use holdfast_common::tls::{self, Tls};
use holdfast_common::{blocking, clock};
use openraft::async_runtime::watch::WatchReceiver;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Admin, Upstreams};
use crate::admission::{self, Newcomer, Status, announce};
use crate::command::Command;
use crate::config::{Config, Invalid, Peers};
use crate::group::{Addresses, Door, GROUP, Group};
use crate::identity::{self, DataDir, Phase};
use crate::machine::Machine;
use crate::member::Member;
use crate::roster::replica;
use crate::service::Rpc;
use crate::snapshot::{self, Snapshots};
use crate::{duties, figures};
use crate::{metrics, state};

/// Renders the metrics of the process in Prometheus' text format.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// How long a leading member that stops waits for another to take over.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

/// How long requests in flight have when the member stops.
const GRACE: Duration = Duration::from_secs(2);

/// Time between two looks at the log's files.
const OBSERVE_EVERY: Duration = Duration::from_secs(2);

/// Pause before another try to write the cluster's first command.
const FOUND_PAUSE: Duration = Duration::from_millis(20);

/// Why a member ends other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its configuration.
    #[error(transparent)]
    Config(#[from] Invalid),
    /// Its certificate.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// Its directory.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// Its cluster.
    #[error(transparent)]
    Admission(#[from] admission::Error),
    /// Its Raft log.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// Its snapshot.
    #[error(transparent)]
    Snapshot(#[from] snapshot::Error),
    /// An address that can't be served.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// A directory that can't be used.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The group or its log failed while it ran.
    #[error("the placement group failed: {0}")]
    Group(String),
}

/// Runs a placement member until `shutdown`, or until it can't go on.
///
/// # Errors
/// Why it can't.
pub async fn run(config: Config, render: Render, shutdown: CancellationToken) -> Result<(), Error> {
    let peers = Arc::new(config.validate()?);
    metrics::describe();
    let tls = Tls::of_process(config.tls_files()?, Role::Placement, Some(&config.name))?;
    let mut dir = DataDir::claim(&config.data_dir, &config.name, &peers.names())?;
    let known = dir.phase().known();
    let cluster = known.map_or_else(ClusterIdCell::default, |(cluster, _)| {
        ClusterIdCell::known(cluster)
    });
    let identity = PeerInfo::new(
        Role::Placement,
        known.map_or(0, |(_, number)| number.0),
        config.name.clone(),
    );
    let client_config = ClientConfig {
        tls: tls.clone(),
        ..ClientConfig::default()
    };
    let client = Client::new(client_config, cluster.clone(), identity.clone());
    let staging_dir = dir.join("staging");
    let staging = Staging::open(&staging_dir, SnapshotLimits::default());
    let staging = staging.map_err(|source| Error::Io {
        path: staging_dir,
        source,
    })?;

    let (door, member) = (Door::default(), Arc::new(OnceLock::new()));
    let status = MemberStatus {
        name: config.name.clone(),
        cluster: known.map(|(cluster, _)| cluster),
        bootstrapping: false,
    };
    let status: Status = Arc::new(parking_lot::RwLock::new(status));
    let inbound = Inbound::new(Arc::new(door.clone()), staging.clone());
    let service = Arc::new(Rpc::new(status.clone(), inbound, member.clone()));
    let ended = CancellationToken::new();
    let stop_serving = ended.clone().drop_guard();
    let server_config = ServerConfig {
        accept_unknown_cluster: true,
        grace: GRACE,
        tls: tls.clone(),
        permits: |caller, method| permitted(Role::Placement, caller, method),
        ..ServerConfig::new(identity, cluster.clone())
    };
    // Who this is has to be right from the first answer on: a member that is to bootstrap says so before it listens.
    let newcomer = Newcomer {
        config: &config,
        peers: &peers,
        client: &client,
        status: &status,
        cluster: &cluster,
        certified: tls.as_ref().map(Tls::cluster),
    };
    newcomer.prepare(&mut dir)?;
    let listen = |address: &str, source| Error::Listen {
        address: address.to_owned(),
        source,
    };
    let server = Server::bind(&config.rpc, server_config, service)
        .await
        .map_err(|source| listen(&config.rpc, source))?;
    let serving = tokio::spawn(server.serve(ended.child_token()));
    let upstreams = Upstreams::new(config.routers.clone(), config.control.clone(), tls.clone());
    let admin = Admin::new(
        member.clone(),
        upstreams,
        render,
        admin::Posture {
            demands_credentials: config.demands_credentials(),
            insecure: config.insecure,
        },
        shutdown.clone(),
    );
    let http = admin::serve(&config.http, tls.clone(), admin, ended.child_token()).await;
    let http = http.map_err(|source| listen(&config.http, source))?;

    let entered = tokio::select! {
        entered = newcomer.enter(&mut dir) => Some(entered?),
        () = shutdown.cancelled() => None,
    };
    let outcome = match entered {
        Some((cluster, number)) => {
            let parts = Parts {
                config: &config,
                peers,
                client,
                staging,
                door,
                member: &member,
                tls,
            };
            parts.live(&mut dir, cluster, number, shutdown).await
        }
        None => Ok(()),
    };
    drop(stop_serving);
    // They end by themselves once nothing is in flight; a panic in one has been logged.
    let quiet = async { tokio::join!(serving, http) };
    if clock::timeout(GRACE, quiet).await.is_err() {
        tracing::info!("ending although requests are in flight");
    }
    outcome
}

/// What a member is made of before it is one.
struct Parts<'a> {
    config: &'a Config,
    peers: Arc<Peers>,
    client: Client,
    staging: Arc<Staging>,
    door: Door,
    member: &'a OnceLock<Arc<Member>>,
    tls: Option<Tls>,
}

impl Parts<'_> {
    /// Takes part in the group until `shutdown`.
    async fn live(
        self,
        dir: &mut DataDir,
        cluster: ClusterId,
        number: MemberId,
        shutdown: CancellationToken,
    ) -> Result<(), Error> {
        let log = open_log(dir.raft()).await?;
        let machine = Machine::open(Snapshots::open(&dir.join("state"))?)?;
        let shared = machine.shared();
        let me = replica(&number);
        let timings = self.config.timings();
        let raft_config = timings
            .config()
            .map_err(|error| Error::Group(error.to_string()))?;
        let addresses = Arc::new(Addresses(self.peers.clone()));
        let outbound = Outbound::new(self.client.clone(), addresses, self.staging.clone(), timings);
        // Every command may be one that somebody waits for at another member.
        let network = outbound.group(GROUP, me, |_| false);
        let raft = Raft::new(
            me,
            Arc::new(raft_config),
            network,
            log.group(GROUP, me, None),
            machine,
        )
        .await;
        let raft = raft.map_err(|error| Error::Group(error.to_string()))?;
        let group = Group::new(raft.clone(), shared, self.peers.clone());
        self.door.open(me, raft.clone());

        let lived = async {
            if let Phase::Founding { .. } = dir.phase() {
                self.found(&group, me, number, cluster, dir.nonce()).await?;
                dir.enter(Phase::Admitted {
                    cluster,
                    member: number,
                })?;
            }
            let member = Arc::new(Member::new(
                number,
                self.config.name.clone(),
                cluster,
                group.clone(),
                self.client.clone(),
            ));
            // Set once: there is one member in a process.
            let _ = self.member.set(member.clone());
            let stop_duties = shutdown.child_token();
            let _stop_when_dropped = stop_duties.clone().drop_guard();
            let routers = self.config.routers.clone();
            let survey = figures::survey::run(member.clone(), routers, self.tls.clone(), stop_duties.clone());
            let survey = tokio::spawn(survey);
            let duties = tokio::spawn(duties::run(member, stop_duties.clone()));
            let nonce = dir.nonce();
            let ended = tokio::select! {
                error = self.stay_known(nonce, (cluster, number)) => Err(error),
                error = failure(&log, &raft) => Err(error),
                never = observe(&log) => match never {},
                () = shutdown.cancelled() => Ok(()),
            };
            if ended.is_ok() {
                hand_over(&group, me).await;
            }
            stop_duties.cancel();
            // A panic in them has been logged.
            let _ = tokio::join!(duties, survey);
            ended
        };
        let outcome = tokio::select! {
            outcome = lived => outcome,
            error = failure(&log, &raft) => Err(error),
        };
        // Openraft only says that its core is gone, which is what is asked for.
        let _ = raft.shutdown().await;
        log.close().await;
        outcome
    }

    /// Begins the group, with this member alone, and writes the cluster's first command. Whatever of that was done before a
    /// crash is not done again.
    async fn found(
        &self,
        group: &Group,
        me: ReplicaId,
        number: MemberId,
        cluster: ClusterId,
        nonce: u64,
    ) -> Result<(), Error> {
        let raft = group.raft();
        let failed = |error: &dyn std::fmt::Display| Error::Group(error.to_string());
        if !raft.is_initialized().await.map_err(|error| failed(&error))? {
            let members = std::collections::BTreeMap::from([(
                me,
                Node {
                    store: holdfast_common::ids::StoreId(number.0),
                },
            )]);
            raft.initialize(members).await.map_err(|error| failed(&error))?;
        }
        let founder = state::Member {
            name: self.config.name.clone(),
            directory: nonce,
            rpc_address: self.config.rpc_address(),
            http_address: self.config.http_address(),
            is_running: true,
        };
        let command = Command::Found {
            cluster,
            number,
            founder,
        };
        while group.shared().state().cluster.is_none() {
            if let Err(error) = group.propose(&command).await {
                tracing::debug!(%error, "the cluster's first command was not taken yet");
                clock::sleep(clock::jittered(FOUND_PAUSE)).await;
            }
        }
        tracing::info!(%cluster, "founded");
        Ok(())
    }

    /// Announces this member, so that all know where it is; ends only when the cluster does not want it.
    async fn stay_known(&self, nonce: u64, known: (ClusterId, MemberId)) -> Error {
        let names = self.peers.names();
        let everyone = names
            .iter()
            .filter_map(|name| self.peers.address_of(name))
            .map(str::to_owned)
            .collect();
        match announce(
            self.config,
            &self.peers,
            &self.client,
            everyone,
            nonce,
            Some(known),
        )
        .await
        {
            Ok(joined) if (joined.cluster, joined.member) == known => std::future::pending().await,
            Ok(joined) => admission::Error::Contradiction {
                ours: known,
                theirs: (joined.cluster, joined.member),
            }
            .into(),
            Err(error) => error.into(),
        }
    }
}

async fn open_log(dir: PathBuf) -> Result<LogEngine, Error> {
    let options = Options {
        block_cache_bytes: 4 << 20,
        group_cache_bytes: 8 << 20,
        total_cache_bytes: 16 << 20,
        ..Options::default()
    };
    let runtime = tokio::runtime::Handle::current();
    let opened = blocking::run(move || {
        let _in_runtime = runtime.enter();
        LogEngine::open(&dir, options)
    });
    Ok(opened.await.map_err(|error| Error::Group(error.to_string()))??)
}

/// Measures the log, now and then.
async fn observe(log: &LogEngine) -> Infallible {
    let mut ticks = clock::every(OBSERVE_EVERY);
    loop {
        ticks.tick().await;
        log.observe();
    }
}

/// Returns when the log or the group has failed.
async fn failure(log: &LogEngine, raft: &Raft<Machine>) -> Error {
    let mut failed = log.failure();
    let mut metrics = raft.metrics();
    loop {
        if let Some(error) = failed.borrow_and_update().clone() {
            return Error::Group(error.to_string());
        }
        if let Err(error) = &metrics.borrow_watched().running_state {
            return Error::Group(error.to_string());
        }
        tokio::select! {
            changed = failed.changed() => if changed.is_err() { return Error::Group("the log is closed".to_owned()) },
            changed = metrics.changed() => if changed.is_err() { return Error::Group("the group has stopped".to_owned()) },
        }
    }
}

/// Gives the leadership to another member, if this one has it, so that nobody has to notice first that it is gone.
async fn hand_over(group: &Group, me: ReplicaId) {
    let raft = group.raft();
    let metrics = raft.metrics().borrow_watched().clone();
    if metrics.current_leader != Some(me) {
        return;
    }
    let others: Vec<_> = metrics
        .membership_config
        .membership()
        .voter_ids()
        .filter(|id| *id != me)
        .collect();
    let matched = metrics
        .replication
        .iter()
        .flatten()
        .filter(|(id, _)| others.contains(id));
    let Some((successor, _)) = matched.max_by_key(|(_, matched)| matched.as_ref().map(|id| id.index)) else {
        return;
    };
    if raft.trigger().transfer_leader(*successor).await.is_err() {
        return;
    }
    let wait = raft.wait(Some(HAND_OVER_WITHIN));
    let moved = wait
        .metrics(
            |now| now.current_leader.is_some_and(|leader| leader != me),
            "a successor",
        )
        .await;
    if moved.is_err() {
        tracing::info!("no other placement member took over in time");
    }
}
