//! What the control API was asked for, done by the launcher.

use std::time::Duration;

use holdfast_common::clock;

use super::cluster_file::Entry;
use super::control::{self, Action, Refusal};
use super::launcher::Launcher;
use super::plan::{self, Spec};
use crate::exit::{Failure, Outcome};

/// How long whoever adds a store waits for the id that it is given.
const REGISTER_WITHIN: Duration = Duration::from_secs(20);

impl Launcher {
    /// Does it, and tells of the members it concerns.
    pub(super) async fn act(&mut self, action: Action) -> Result<Vec<Entry>, Refusal> {
        let name = match action {
            Action::List => return Ok(self.members.file().members.clone()),
            Action::Add(name) => self.add_store(name).await?,
            Action::Stop(name) => self.stop_member(name).await?,
            Action::Start(name) => self.start_member(name)?,
            Action::Forget(name) => return self.forget_store(name).await,
        };
        Ok(vec![self.entry(&name)?.clone()])
    }

    async fn add_store(&mut self, name: String) -> Result<String, Refusal> {
        let spec = self.plan_store(&name)?;
        self.members.add(spec.clone());
        self.members.start(&spec).map_err(failed)?;
        self.learn_store_id(&spec).await.map_err(failed)?;
        Ok(name)
    }

    async fn stop_member(&mut self, name: String) -> Result<String, Refusal> {
        if self.entry(&name)?.pid.is_none() {
            return Err(Refusal::Conflict(format!("{name} does not run")));
        }
        let stopped = self.members.stop(std::slice::from_ref(&name)).await;
        stopped.map_err(failed)?;
        Ok(name)
    }

    fn start_member(&mut self, name: String) -> Result<String, Refusal> {
        if self.entry(&name)?.pid.is_some() {
            return Err(Refusal::Conflict(format!("{name} runs already")));
        }
        let spec = self.members.spec(&name).cloned();
        let spec = spec.ok_or_else(|| Refusal::Unknown(name.clone()))?;
        self.members.start(&spec).map_err(failed)?;
        Ok(name)
    }

    /// Stops a store if it runs, and removes it and its directory; tells what it was.
    async fn forget_store(&mut self, name: String) -> Result<Vec<Entry>, Refusal> {
        self.entry(&name)?;
        let stopped = self.members.stop(std::slice::from_ref(&name)).await;
        stopped.map_err(failed)?;
        let gone = self.members.remove(&name).map_err(failed)?;
        Ok(gone.into_iter().collect())
    }

    /// A store of this name with the first free number.
    fn plan_store(&self, name: &str) -> Result<Spec, Refusal> {
        control::check_name(name)?;
        if self.members.spec(name).is_some() || self.members.dir().join(name).exists() {
            return Err(Refusal::Conflict(format!("there is a {name} already")));
        }
        let taken = self.members.file().stores();
        let number = (1..=plan::MAX_STORES).find(|number| taken.iter().all(|(other, _)| other != number));
        let number = number
            .ok_or_else(|| Refusal::Conflict(format!("there are {} stores already", plan::MAX_STORES)))?;
        Ok(plan::store(&self.args, self.members.dir(), number, name))
    }

    /// Waits until a new store has registered, and notes the id it was given. One that takes long shows up without.
    async fn learn_store_id(&mut self, spec: &Spec) -> Outcome {
        if clock::timeout(REGISTER_WITHIN, self.probe.ready(&spec.http))
            .await
            .is_ok()
        {
            self.note_store_ids().await?;
        }
        Ok(())
    }

    fn entry(&self, name: &str) -> Result<&Entry, Refusal> {
        self.members
            .entry(name)
            .ok_or_else(|| Refusal::Unknown(name.to_owned()))
    }
}

fn failed(failure: Failure) -> Refusal {
    Refusal::Failed(failure.to_string())
}
