//! What happens on the machine of the clients: load, changes and, with the faults over, everything that has to hold then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use holdfast_tests::load::{Clocks, Load, Recorded};
use holdfast_tests::nemesis::changes::{self, Made};
use holdfast_tests::{Admin, Range, healing, replicas};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::machine::Life;

/// Clients: one group that shares keys.
const CLIENTS: usize = 8;

/// Where the play is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Act {
    /// The cluster comes to be.
    Founding,
    /// It is broken.
    Faults,
    /// Nothing is broken any more.
    Healed,
    /// All that clients have to do is done.
    Over,
}

/// What the clients' machine and the rest of the play have in common.
pub(crate) struct Scene {
    act: watch::Sender<Act>,
    pub(crate) told: Mutex<Told>,
}

/// What the clients have to tell.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) recorded: Recorded,
    pub(crate) changes: Made,
    pub(crate) writable_after: Duration,
    pub(crate) replicated_after: Duration,
    /// In the end, with nobody writing and nothing moving.
    pub(crate) ranges: Vec<Range>,
    /// Stores by their ids.
    pub(crate) stores: Vec<(u64, String)>,
    pub(crate) findings: Vec<String>,
}

impl Scene {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            act: watch::Sender::new(Act::Founding),
            told: Mutex::default(),
        })
    }

    pub(crate) fn act(&self) -> Act {
        *self.act.borrow()
    }

    pub(crate) fn begin(&self, act: Act) {
        self.act.send_replace(act);
    }

    /// What the clients do, from beginning to end.
    pub(crate) fn clients(self: &Arc<Self>, seed: u64) -> Life {
        let scene = self.clone();
        Box::pin(async move {
            if let Err(error) = scene.play(seed).await {
                scene.told.lock().findings.push(format!("{error:#}"));
            }
            scene.begin(Act::Over);
            Ok(())
        })
    }

    async fn play(&self, seed: u64) -> anyhow::Result<()> {
        let admins: Vec<Admin> = Cluster::admins().into_iter().map(Admin::new).collect();
        let admin = admins.first().context("a member")?;
        admin
            .settled(3, Duration::from_secs(30))
            .await
            .context("the cluster does not come to be")?;
        let load = Load::start(Cluster::routers(), CLIENTS, seed, 1, Clocks::AreSet);
        load.progress(50, Duration::from_secs(30)).await?;
        let stop = Arc::new(AtomicBool::new(false));
        let changing = tokio::task::spawn_local(changes::make(admins.clone(), seed, stop.clone()));
        self.begin(Act::Faults);
        let mut acts = self.act.subscribe();
        acts.wait_for(|act| *act >= Act::Healed).await?;
        stop.store(true, Ordering::Relaxed);
        let writable = healing::writable(&Cluster::routers()).await;
        let changes = changing.await?;
        let replicated = healing::replicated(admin).await;
        let mut stopped = load.stop().await?;
        let compared = replicas::read_each(admin, &mut stopped).await;
        {
            let mut told = self.told.lock();
            told.recorded = stopped.recorded();
            told.changes = changes;
            told.writable_after = *writable.as_ref().unwrap_or(&Duration::ZERO);
            told.replicated_after = *replicated.as_ref().unwrap_or(&Duration::ZERO);
        }
        writable?;
        replicated?;
        compared.context("replicas read one by one")?;
        self.stand_still(admin).await
    }

    /// Has nothing move any more, and tells what there is.
    async fn stand_still(&self, admin: &Admin) -> anyhow::Result<()> {
        admin.place_by_hand().await?;
        let ranges = admin.settled(3, Duration::from_secs(30)).await?;
        let stores = admin.get("/v1/stores").await?;
        let stores = stores["items"].as_array().into_iter().flatten();
        let named =
            |store: &serde_json::Value| Some((store["id"].as_u64()?, store["name"].as_str()?.to_owned()));
        {
            let mut told = self.told.lock();
            told.ranges = ranges;
            told.stores = stores.filter_map(named).collect();
        }
        // What has been applied is in memory, and goes to the disk within a while.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(())
    }
}
