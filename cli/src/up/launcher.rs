//! Starts the members in order, watches them, and stops them in order.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use holdfast_common::clock;

use super::UpArgs;
use super::cluster_file::{ClusterFile, Entry, State};
use super::control::{self, Action, Refusal, Request};
use super::member::{self, Ended};
use super::plan::{self, Role, Spec};
use super::ready::Probe;
use crate::exit::{Exit, Failure, Outcome};

/// How long the cluster may take until the first write would succeed.
const START_WITHIN: Duration = Duration::from_secs(120);

/// How long the first ranges may take to get all their replicas before the addresses are printed anyway.
const REPLICATE_WITHIN: Duration = Duration::from_secs(20);

/// How long a member may take to stop in order before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How long a member that died stays down before `--restart` starts it again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

struct Launcher {
    args: UpArgs,
    dir: PathBuf,
    specs: Vec<Spec>,
    file: ClusterFile,
    probe: Probe,
    ended: mpsc::Receiver<Ended>,
    on_end: mpsc::Sender<Ended>,
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
        let (on_end, ended) = mpsc::channel(64);
        let (control, requests) = mpsc::channel(16);
        let file = ClusterFile {
            members: specs.iter().map(entry).collect(),
        };
        Ok(Self {
            args,
            dir,
            specs,
            file,
            probe: Probe::new()?,
            ended,
            on_end,
            requests,
            control,
            _lock: lock,
            _temporary: temporary,
        })
    }

    /// Starts everything, says so, and stays.
    async fn live(&mut self) -> Outcome {
        control::serve(self.args.base_port + 9, self.control.clone()).await?;
        let started = clock::timeout(START_WITHIN, self.start()).await;
        started.map_err(|_| {
            Failure::new(
                Exit::Unavailable,
                format!(
                    "not ready after {START_WITHIN:?}; see {}/logs",
                    self.dir.display()
                ),
            )
        })??;
        self.announce();
        loop {
            tokio::select! {
                Some(ended) = self.ended.recv() => self.member_died(ended).await?,
                Some(Request { action, reply }) = self.requests.recv() => {
                    // Whoever asked may have gone away meanwhile.
                    let _ = reply.send(self.act(action).await);
                }
            }
        }
    }

    /// Starts members in order. Stores come one after another, so that a new cluster numbers them as they are named.
    async fn start(&mut self) -> Outcome {
        let probe = self.probe.clone();
        for role in [Role::Placement, Role::Store, Role::Router] {
            for spec in self.specs_of(role) {
                self.start_member(&spec)?;
                if role == Role::Store {
                    self.or_death(probe.ready(&spec.http)).await?;
                }
            }
        }
        for router in self.specs_of(Role::Router) {
            self.or_death(probe.serving(&router.http)).await?;
        }
        let placement = self.specs_of(Role::Placement)[0].http.clone();
        let replicated = clock::timeout(
            REPLICATE_WITHIN,
            probe.replicated(&placement, usize::from(self.args.placements)),
        );
        if self.or_death(replicated).await?.is_err() {
            eprintln!("holdfast: not everything has all its replicas yet");
        }
        self.note_store_ids(&probe).await
    }

    /// Waits for `what`, unless a member dies first: then the start has failed, and its log says why.
    async fn or_death<T>(&mut self, what: impl Future<Output = T>) -> Outcome<T> {
        tokio::select! {
            done = what => Ok(done),
            Some(ended) = self.ended.recv() => {
                let name = ended.name.clone();
                self.note_end(&ended)?;
                let tail = member::log_tail(&self.dir, &name);
                Err(Failure::new(Exit::Other, format!("{name} ended while the cluster was starting:\n{tail}")))
            }
        }
    }

    fn start_member(&mut self, spec: &Spec) -> Outcome {
        let pid = member::start(spec, &self.dir, &self.on_end)?;
        // A cluster is founded once; started again, the member must not be told to.
        if let Some(spec) = self.specs.iter_mut().find(|known| known.name == spec.name) {
            spec.command.retain(|argument| argument != plan::BOOTSTRAP);
        }
        self.update(&spec.name, |entry| {
            entry.pid = Some(pid);
            entry.state = State::Running;
        })
    }

    /// Notes a death, and starts the member again where that was asked for.
    async fn member_died(&mut self, ended: Ended) -> Outcome {
        self.note_end(&ended)?;
        eprintln!("holdfast: {} ended ({})", ended.name, status_text(&ended));
        if self.args.restart
            && let Some(spec) = self.spec(&ended.name).cloned()
        {
            clock::sleep(RESTART_AFTER).await;
            self.start_member(&spec)?;
            eprintln!("holdfast: {} started again", spec.name);
        }
        Ok(())
    }

    /// Does what the control API was asked for.
    async fn act(&mut self, action: Action) -> Result<Vec<Entry>, Refusal> {
        let failed = |failure: Failure| Refusal::Failed(failure.to_string());
        let name = match action {
            Action::List => return Ok(self.file.members.clone()),
            Action::Add(name) => {
                let spec = self.plan_store(&name)?;
                self.file.members.push(entry(&spec));
                self.specs.push(spec.clone());
                self.start_member(&spec).map_err(failed)?;
                self.learn_store_id(&spec).await.map_err(failed)?;
                name
            }
            Action::Stop(name) => {
                self.entry(&name)?
                    .pid
                    .ok_or_else(|| Refusal::Conflict(format!("{name} does not run")))?;
                self.stop_members(std::slice::from_ref(&name))
                    .await
                    .map_err(failed)?;
                name
            }
            Action::Start(name) => {
                if self.entry(&name)?.pid.is_some() {
                    return Err(Refusal::Conflict(format!("{name} runs already")));
                }
                let spec = self
                    .spec(&name)
                    .cloned()
                    .ok_or_else(|| Refusal::Unknown(name.clone()))?;
                self.start_member(&spec).map_err(failed)?;
                name
            }
        };
        Ok(vec![self.entry(&name)?.clone()])
    }

    /// A store of this name with the first free number.
    fn plan_store(&self, name: &str) -> Result<Spec, Refusal> {
        control::check_name(name)?;
        if self.spec(name).is_some() || self.dir.join(name).exists() {
            return Err(Refusal::Conflict(format!("there is a {name} already")));
        }
        let taken = self.file.stores();
        let number = (1..=plan::MAX_STORES).find(|number| taken.iter().all(|(other, _)| other != number));
        let number = number
            .ok_or_else(|| Refusal::Conflict(format!("there are {} stores already", plan::MAX_STORES)))?;
        Ok(plan::store(&self.args, &self.dir, number, name))
    }

    /// Waits until a new store has registered, and notes the id it was given. One that takes long shows up without.
    async fn learn_store_id(&mut self, spec: &Spec) -> Outcome {
        let probe = self.probe.clone();
        if clock::timeout(STOP_WITHIN, probe.ready(&spec.http)).await.is_ok() {
            self.note_store_ids(&probe).await?;
        }
        Ok(())
    }

    async fn note_store_ids(&mut self, probe: &Probe) -> Outcome {
        let placement = self.specs_of(Role::Placement)[0].http.clone();
        let ids = probe.store_ids(&placement).await;
        for entry in self
            .file
            .members
            .iter_mut()
            .filter(|entry| entry.role == Role::Store)
        {
            entry.id = ids
                .iter()
                .find(|(name, _)| *name == entry.name)
                .map(|(_, id)| *id)
                .or(entry.id);
        }
        Ok(self.file.write(&self.dir)?)
    }

    fn spec(&self, name: &str) -> Option<&Spec> {
        self.specs.iter().find(|spec| spec.name == name)
    }

    fn entry(&self, name: &str) -> Result<&Entry, Refusal> {
        self.file
            .members
            .iter()
            .find(|entry| entry.name == name)
            .ok_or_else(|| Refusal::Unknown(name.to_owned()))
    }

    fn note_end(&mut self, ended: &Ended) -> Outcome {
        let pid = Some(ended.pid);
        self.update(&ended.name, |entry| {
            if entry.pid == pid {
                entry.pid = None;
                entry.state = State::Exited;
            }
        })
    }

    /// Stops routers, then stores, then the placement driver: clients first, so that nothing is cut in the middle.
    async fn stop(&mut self) -> Outcome {
        for role in [Role::Router, Role::Store, Role::Placement] {
            let names: Vec<String> = self.specs_of(role).into_iter().map(|spec| spec.name).collect();
            self.stop_members(&names).await?;
        }
        Ok(())
    }

    /// Asks these members to stop, all at once, and kills those that do not.
    async fn stop_members(&mut self, names: &[String]) -> Outcome {
        let running = |file: &ClusterFile| -> Vec<(String, u32)> {
            let chosen = file.members.iter().filter(|entry| names.contains(&entry.name));
            chosen
                .filter_map(|entry| Some((entry.name.clone(), entry.pid?)))
                .collect()
        };
        let asked = running(&self.file);
        for (_, pid) in &asked {
            member::signal(*pid, Signal::TERM);
        }
        if clock::timeout(STOP_WITHIN, self.all_ended(names)).await.is_err() {
            for (name, pid) in running(&self.file) {
                eprintln!("holdfast: {name} did not stop within {STOP_WITHIN:?}, killing it");
                member::signal(pid, Signal::KILL);
            }
            self.all_ended(names).await?;
        }
        for (name, _) in asked {
            self.update(&name, |entry| entry.state = State::Stopped)?;
        }
        Ok(())
    }

    /// Waits until none of these members runs.
    async fn all_ended(&mut self, names: &[String]) -> Outcome {
        while self
            .file
            .members
            .iter()
            .any(|entry| names.contains(&entry.name) && entry.pid.is_some())
        {
            match self.ended.recv().await {
                Some(ended) => self.note_end(&ended)?,
                None => break,
            }
        }
        Ok(())
    }

    fn update(&mut self, name: &str, change: impl FnOnce(&mut Entry)) -> Outcome {
        if let Some(entry) = self.file.members.iter_mut().find(|entry| entry.name == name) {
            change(entry);
        }
        Ok(self.file.write(&self.dir)?)
    }

    fn specs_of(&self, role: Role) -> Vec<Spec> {
        self.specs
            .iter()
            .filter(|spec| spec.role == role)
            .cloned()
            .collect()
    }

    fn announce(&self) {
        let count = |role, one: &str| match self.file.count(role) {
            1 => format!("1 {one}"),
            n => format!("{n} {one}s"),
        };
        let (routers, placements) = (self.specs_of(Role::Router), self.specs_of(Role::Placement));
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
        println!("  data     {}", self.dir.display());
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

fn entry(spec: &Spec) -> Entry {
    Entry {
        role: spec.role,
        name: spec.name.clone(),
        number: spec.number,
        id: (spec.role != Role::Store).then_some(u64::from(spec.number)),
        pid: None,
        http: spec.http.clone(),
        rpc: spec.rpc.clone(),
        data_dir: spec.data_dir.clone(),
        state: State::Stopped,
    }
}

fn status_text(ended: &Ended) -> String {
    match &ended.status {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}
