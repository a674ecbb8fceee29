//! Starts the members in order, watches them, and stops them in order.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use holdfast_common::clock;

use super::UpArgs;
use super::cluster_file::ClusterFile;
use super::control::{self, Request};
use super::member::Ended;
use super::members::Members;
use super::plan::{self, Role, Spec};
use super::ready::Probe;
use crate::exit::{Exit, Failure, Outcome};

/// How long the cluster may take until the first write would succeed.
const START_WITHIN: Duration = Duration::from_secs(120);

/// How long the first ranges may take to get all their replicas before the addresses are printed anyway.
const REPLICATE_WITHIN: Duration = Duration::from_secs(20);

/// Wishes of the control API that may wait.
const MAX_REQUESTS: usize = 16;

/// How long a member that died stays down before `--restart` starts it again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Launcher {
    pub(super) args: UpArgs,
    pub(super) members: Members,
    pub(super) probe: Probe,
    requests: mpsc::Receiver<Request>,
    control: mpsc::Sender<Request>,
    // Held for as long as the launcher lives: the directory's lock, and the directory itself where it is temporary.
    _lock: File,
    _temporary: Option<TempDir>,
}

/// Runs the cluster until SIGINT or SIGTERM.
pub(super) async fn run(args: UpArgs) -> Outcome {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut launcher = Launcher::new(args)?;
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let outcome = tokio::select! {
        outcome = launcher.live() => outcome,
        () = stopped => Ok(()),
    };
    eprintln!("holdfast: stopping");
    launcher.stop().await?;
    outcome
}

impl Launcher {
    fn new(mut args: UpArgs) -> Outcome<Self> {
        let temporary = args
            .ephemeral
            .then(|| tempfile::Builder::new().prefix("holdfast-").tempdir())
            .transpose()?;
        let dir = temporary.as_ref().map_or(args.data_dir.as_path(), TempDir::path);
        std::fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        let lock = lock(&dir)?;
        let before = ClusterFile::read(&dir)?;
        if let Some(before) = &before {
            args.placements = keep_placements(args.placements, before.count(Role::Placement))?;
        }
        let stores = before.as_ref().map(ClusterFile::stores).unwrap_or_default();
        let first_start = before.is_none() && !plan::members(&args, &dir, false, &[]).iter().any(has_data);
        let specs = plan::members(&args, &dir, first_start, &stores);
        let (control, requests) = mpsc::channel(MAX_REQUESTS);
        Ok(Self {
            args,
            members: Members::new(dir, specs),
            probe: Probe::new()?,
            requests,
            control,
            _lock: lock,
            _temporary: temporary,
        })
    }

    /// Starts everything, says so, and stays.
    async fn live(&mut self) -> Outcome {
        control::serve(self.args.base_port + plan::CONTROL_PORT, self.control.clone()).await?;
        let started = clock::timeout(START_WITHIN, self.start()).await;
        started.map_err(|_| {
            Failure::new(
                Exit::Unavailable,
                format!(
                    "not ready after {START_WITHIN:?}; see {}/logs",
                    self.members.dir().display()
                ),
            )
        })??;
        self.announce();
        loop {
            tokio::select! {
                ended = self.members.next_end() => self.member_died(ended?).await?,
                Some(Request { action, reply }) = self.requests.recv() => {
                    // Whoever asked may have gone away meanwhile.
                    let _ = reply.send(self.act(action).await);
                }
            }
        }
    }

    /// Starts members in order. New stores come one after another, so that a new cluster numbers them as they are named; one whose data
    /// is damaged needs the others before it can be rebuilt.
    async fn start(&mut self) -> Outcome {
        let probe = self.probe.clone();
        for role in [Role::Placement, Role::Store, Role::Router] {
            for spec in self.members.of(role) {
                let is_new = !has_data(&spec);
                self.members.start(&spec)?;
                if role == Role::Store && is_new {
                    self.members.or_death(probe.ready(&spec.http)).await?;
                }
            }
            if role == Role::Store {
                for spec in self.members.of(role) {
                    self.members.or_death(probe.ready(&spec.http)).await?;
                }
            }
        }
        for router in self.members.of(Role::Router) {
            self.members.or_death(probe.serving(&router.http)).await?;
        }
        let placement = self.members.of(Role::Placement)[0].http.clone();
        let replicated = clock::timeout(
            REPLICATE_WITHIN,
            probe.replicated(&placement, usize::from(self.args.placements)),
        );
        if self.members.or_death(replicated).await?.is_err() {
            eprintln!("holdfast: not everything has all its replicas yet");
        }
        self.note_store_ids().await
    }

    /// Notes a death, and starts the member again where that was asked for.
    async fn member_died(&mut self, ended: Ended) -> Outcome {
        eprintln!("holdfast: {} ended ({})", ended.name, status_text(&ended));
        if self.args.restart
            && let Some(spec) = self.members.spec(&ended.name).cloned()
        {
            clock::sleep(RESTART_AFTER).await;
            self.members.start(&spec)?;
            eprintln!("holdfast: {} started again", spec.name);
        }
        Ok(())
    }

    /// Notes the ids that the placement driver gave to the stores.
    pub(super) async fn note_store_ids(&mut self) -> Outcome {
        let placement = self.members.of(Role::Placement)[0].http.clone();
        let ids = self.probe.store_ids(&placement).await;
        self.members.note_store_ids(&ids)
    }

    /// Stops routers, then stores, then the placement driver: clients first, so that nothing is cut in the middle.
    async fn stop(&mut self) -> Outcome {
        for role in [Role::Router, Role::Store, Role::Placement] {
            let names: Vec<String> = self.members.of(role).into_iter().map(|spec| spec.name).collect();
            self.members.stop(&names).await?;
        }
        Ok(())
    }

    fn announce(&self) {
        let count = |role, one: &str| match self.members.file().count(role) {
            1 => format!("1 {one}"),
            n => format!("{n} {one}s"),
        };
        let (routers, placements) = (self.members.of(Role::Router), self.members.of(Role::Placement));
        println!(
            "Holdfast is up: {}, {}, {}",
            count(Role::Store, "store"),
            count(Role::Router, "router"),
            count(Role::Placement, "placement member")
        );
        for router in &routers {
            println!("  router   {}", router.http);
        }
        for member in &placements {
            println!("  console  {}", member.http);
        }
        println!("  data     {}", self.members.dir().display());
        println!(
            "  try      curl -X PUT -d hello {}/v1/kv/greeting",
            routers[0].http
        );
        println!("Ctrl-C stops it.");
    }
}

/// Takes the directory for this launcher alone.
fn lock(dir: &Path) -> Outcome<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("LOCK"))?;
    file.try_lock()
        .map_err(|_| Failure::usage(format!("{} is in use by another `holdfast up`", dir.display())))?;
    Ok(file)
}

/// The number of placement members is fixed by the first start: their group has exactly these members.
fn keep_placements(asked: u16, before: u16) -> Outcome<u16> {
    match asked {
        1 => Ok(before.max(1)),
        n if n == before => Ok(n),
        n => Err(Failure::usage(format!(
            "this cluster was started with {before} placement members, not {n}"
        ))),
    }
}

fn has_data(spec: &Spec) -> bool {
    let dir = spec.data_dir.as_ref().and_then(|dir| std::fs::read_dir(dir).ok());
    dir.is_some_and(|mut entries| entries.next().is_some())
}

fn status_text(ended: &Ended) -> String {
    match &ended.status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}
