//! The members of the cluster: what each is to be, what it is now, and the processes that make them.
//!
//! Every change is written to `cluster.json` before anybody is told of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use holdfast_common::clock;
use rustix::process::Signal;
use tokio::sync::mpsc;

use super::cluster_file::{ClusterFile, Entry, State};
use super::member::{self, Ended};
use super::plan::{self, Role, Spec};
use crate::exit::{Exit, Failure, Outcome};

/// How long a member may take to stop in order before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// Deaths that may wait to be noticed.
const MAX_DEATHS: usize = 64;

pub(super) struct Members {
    dir: PathBuf,
    specs: Vec<Spec>,
    file: ClusterFile,
    ended: mpsc::Receiver<Ended>,
    on_end: mpsc::Sender<Ended>,
    /// Those that were started once more because of damage.
    rebuilt: BTreeSet<String>,
}

impl Members {
    /// Members that are planned, none of them started.
    pub(super) fn new(dir: PathBuf, specs: Vec<Spec>) -> Self {
        let (on_end, ended) = mpsc::channel(MAX_DEATHS);
        let file = ClusterFile {
            members: specs.iter().map(entry).collect(),
        };
        Self {
            dir,
            specs,
            file,
            ended,
            on_end,
            rebuilt: BTreeSet::new(),
        }
    }

    /// Where the cluster keeps its data and logs.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What there is.
    pub(super) fn file(&self) -> &ClusterFile {
        &self.file
    }

    /// How a member is started.
    pub(super) fn spec(&self, name: &str) -> Option<&Spec> {
        self.specs.iter().find(|spec| spec.name == name)
    }

    /// What a member is now.
    pub(super) fn entry(&self, name: &str) -> Option<&Entry> {
        self.file.members.iter().find(|entry| entry.name == name)
    }

    /// Those of one role, in the order of their numbers.
    pub(super) fn of(&self, role: Role) -> Vec<Spec> {
        let of_role = self.specs.iter().filter(|spec| spec.role == role);
        of_role.cloned().collect()
    }

    /// Adds a member, which does not run yet.
    pub(super) fn add(&mut self, spec: Spec) {
        self.file.members.push(entry(&spec));
        self.specs.push(spec);
    }

    /// Removes a member that does not run, and its directory; tells what it was.
    pub(super) fn remove(&mut self, name: &str) -> Outcome<Option<Entry>> {
        let entry = self.file.members.iter().position(|entry| entry.name == name);
        let Some(entry) = entry.map(|i| self.file.members.remove(i)) else {
            return Ok(None);
        };
        self.specs.retain(|spec| spec.name != name);
        // First it is forgotten: a directory that is half removed must not be started on.
        self.file.write(&self.dir)?;
        if let Some(dir) = &entry.data_dir {
            match std::fs::remove_dir_all(dir) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        Ok(Some(entry))
    }

    /// Notes which ids the placement driver gave to stores.
    pub(super) fn note_store_ids(&mut self, ids: &[(String, u64)]) -> Outcome {
        let stores = self
            .file
            .members
            .iter_mut()
            .filter(|entry| entry.role == Role::Store);
        for entry in stores {
            let given = ids.iter().find(|(name, _)| *name == entry.name);
            entry.id = given.map(|(_, id)| *id).or(entry.id);
        }
        Ok(self.file.write(&self.dir)?)
    }

    /// The next member that ends.
    pub(super) async fn next_end(&mut self) -> Outcome<Ended> {
        // The channel stays open: a sender of it is here.
        let ended = self
            .ended
            .recv()
            .await
            .ok_or_else(|| Failure::new(Exit::Other, "nobody watches the members".to_owned()))?;
        self.note_end(&ended)?;
        Ok(ended)
    }

    /// Waits for `what`, unless a member dies first: then the start has failed, and its log says why. A store that finds its data
    /// damaged is started once more, to be rebuilt.
    pub(super) async fn or_death<T>(&mut self, what: impl Future<Output = T>) -> Outcome<T> {
        let mut what = pin!(what);
        loop {
            let ended = tokio::select! {
                done = &mut what => return Ok(done),
                ended = self.next_end() => ended?,
            };
            if self.is_to_be_rebuilt(&ended)
                && let Some(spec) = self.spec(&ended.name).cloned()
            {
                eprintln!("holdfast: the data of {} is damaged: it is rebuilt", ended.name);
                self.start(&spec)?;
                continue;
            }
            let name = ended.name;
            let tail = member::log_tail(&self.dir, &name);
            let why = format!("{name} ended while the cluster was starting:\n{tail}");
            return Err(Failure::new(Exit::Other, why));
        }
    }

    /// Whether a member has ended because of damage, for the first time.
    fn is_to_be_rebuilt(&mut self, ended: &Ended) -> bool {
        let code = ended.status.as_ref().ok().and_then(ExitStatus::code);
        code == Some(Exit::Damaged as i32) && self.rebuilt.insert(ended.name.clone())
    }

    /// Starts a member.
    pub(super) fn start(&mut self, spec: &Spec) -> Outcome {
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

    fn note_end(&mut self, ended: &Ended) -> Outcome {
        let pid = Some(ended.pid);
        self.update(&ended.name, |entry| {
            if entry.pid == pid {
                entry.pid = None;
                entry.state = State::Exited;
            }
        })
    }

    /// Asks these members to stop, all at once, and kills those that do not.
    pub(super) async fn stop(&mut self, names: &[String]) -> Outcome {
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
            self.next_end().await?;
        }
        Ok(())
    }

    fn update(&mut self, name: &str, change: impl FnOnce(&mut Entry)) -> Outcome {
        if let Some(entry) = self.file.members.iter_mut().find(|entry| entry.name == name) {
            change(entry);
        }
        Ok(self.file.write(&self.dir)?)
    }
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
