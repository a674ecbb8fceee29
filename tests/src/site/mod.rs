//! A cluster whose every member has a network of its own: a process in a network namespace with one address, behind a bridge, so that
//! packets between any two members can be dropped, in either direction. Linux alone, and root alone: see [`network::enclose`].

mod damage;
mod members;
pub mod network;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::{Admin, Client};
pub use damage::{Filler, Tracer};
use members::Process;
pub use members::Role;
use network::Network;

/// How large a cluster, and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Stores.
    pub stores: usize,
    /// Placement members.
    pub placements: usize,
    /// Routers.
    pub routers: usize,
    /// What goes wrong in stores, as `FAILPOINTS` has it: see `store/src/failpoint.rs`.
    pub faults: String,
    /// Another version's program: members change between the two whenever they are started.
    pub beside: Option<PathBuf>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            stores: 4,
            placements: 3,
            routers: 2,
            faults: String::new(),
            beside: None,
        }
    }
}

/// A member, by its place in the site.
pub type MemberIndex = usize;

/// The cluster and its networks.
pub struct Site {
    dir: PathBuf,
    // Before what they run in.
    processes: Vec<Process>,
    network: Network,
}

impl Site {
    /// Starts a cluster with `program` in `dir` and waits until its first range has a replica on three stores.
    ///
    /// # Errors
    /// Networks can't be made here, or the cluster does not come up.
    pub async fn start(program: &Path, dir: &Path, plan: Plan) -> anyhow::Result<Self> {
        std::fs::create_dir_all(dir.join("logs"))?;
        // A build during the run changes nothing for it, and what is kept of a failure has the program that failed.
        let copy = dir.join("holdfast");
        std::fs::copy(program, &copy)?;
        let processes = members::lay_out(&copy, dir, &plan);
        let network = Network::build(processes.len())?;
        let mut site = Self {
            dir: dir.to_owned(),
            network,
            processes,
        };
        for process in &mut site.processes {
            process.prepare()?;
            process.start()?;
        }
        site.admin()
            .settled(plan.stores.min(3), Duration::from_secs(60))
            .await
            .context("the cluster did not come up")?;
        for router in site.of(Role::Router) {
            site.answers(router).await?;
        }
        Ok(site)
    }

    async fn answers(&self, router: MemberIndex) -> anyhow::Result<()> {
        let (client, begun) = (Client::new(self.processes[router].url()), Instant::now());
        while client.get("0").await.map(|answer| answer.status).unwrap_or(0) != 404 {
            ensure!(
                begun.elapsed() < Duration::from_secs(30),
                "a router does not answer"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Where everything lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The members with a role, in order.
    pub fn of(&self, role: Role) -> Vec<MemberIndex> {
        (0..self.processes.len())
            .filter(|member| self.processes[*member].role == role)
            .collect()
    }

    /// A member's name.
    pub fn name(&self, member: MemberIndex) -> &str {
        &self.processes[member].name
    }

    /// The member with this name.
    pub fn named(&self, name: &str) -> Option<MemberIndex> {
        self.processes.iter().position(|process| process.name == name)
    }

    /// Where routers serve clients.
    pub fn routers(&self) -> Vec<String> {
        let routers = self.of(Role::Router).into_iter();
        routers.map(|router| self.processes[router].url()).collect()
    }

    /// A client of the first placement member.
    pub fn admin(&self) -> Admin {
        self.admins().swap_remove(0)
    }

    /// Clients of every placement member.
    pub fn admins(&self) -> Vec<Admin> {
        let members = self.of(Role::Placement).into_iter();
        members
            .map(|member| Admin::new(self.processes[member].url()))
            .collect()
    }

    /// kill -9.
    pub fn kill(&mut self, member: MemberIndex) -> anyhow::Result<()> {
        self.processes[member].kill()
    }

    /// SIGTERM: it hands over what it leads and ends, while others go on.
    pub fn stop(&mut self, member: MemberIndex) -> anyhow::Result<()> {
        self.processes[member].stop()
    }

    /// Starts a member again that was killed or has exited, or was stopped, once it has ended; nothing if it runs.
    pub fn restart(&mut self, member: MemberIndex) -> anyhow::Result<()> {
        self.processes[member].start()
    }

    /// SIGSTOP.
    pub fn pause(&self, member: MemberIndex) -> anyhow::Result<()> {
        self.processes[member].pause()
    }

    /// SIGCONT.
    pub fn resume(&self, member: MemberIndex) -> anyhow::Result<()> {
        self.processes[member].resume()
    }

    /// Drops every packet from the first to the second of each pair, until they are [mended](Self::mend).
    pub fn cut(&mut self, pairs: &BTreeSet<(MemberIndex, MemberIndex)>) -> anyhow::Result<()> {
        self.network.cut(pairs)
    }

    /// Ends a cut of these pairs; what another one drops goes on being dropped.
    pub fn mend(&mut self, pairs: &BTreeSet<(MemberIndex, MemberIndex)>) -> anyhow::Result<()> {
        self.network.mend(pairs)
    }

    /// Loses so many of a hundred packets between members.
    pub fn lose(&mut self, percent: u8) -> anyhow::Result<()> {
        self.network.lose(percent)
    }

    /// Sets a member's wall clock off by so much; only its wall clock.
    pub fn set_clock(&self, member: MemberIndex, seconds: i64) -> anyhow::Result<()> {
        self.processes[member].set_clock(seconds)
    }

    /// Makes a member's synchronous writes take so long, or fail, until the answer is dropped.
    pub fn slow_disk(&self, member: MemberIndex, sync: Sync) -> anyhow::Result<Tracer> {
        let process = &self.processes[member];
        Tracer::attach(process.pid().context("it does not run")?, sync)
    }

    /// Fills a store's disk but for so much, until the answer is dropped.
    pub fn fill_disk(&self, member: MemberIndex, leave_bytes: u64) -> anyhow::Result<Filler> {
        Filler::fill(&self.processes[member].data_dir, leave_bytes)
    }

    /// Members that have ended by themselves since they were started.
    pub fn exited(&mut self) -> Vec<MemberIndex> {
        let processes = self.processes.iter_mut().enumerate();
        processes
            .filter_map(|(member, process)| process.has_exited().then_some(member))
            .collect()
    }

    /// Copies the data of every member, which are killed for it.
    ///
    /// # Errors
    /// The data can't be copied.
    pub fn keep_data(mut self, to: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(to)?;
        for process in &mut self.processes {
            process.kill()?;
            if process.role != Role::Router {
                let from = process.data_dir.display().to_string();
                network::run("cp", &["-a", &from, &to.display().to_string()])?;
            }
        }
        Ok(())
    }

    /// Lines of the logs that tell of panics, and of damage that no fault explains.
    pub fn complaints(&self) -> Vec<String> {
        self.processes.iter().flat_map(Process::complaints).collect()
    }
}

/// What becomes of a synchronous write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// It takes so many milliseconds more.
    Delayed(u64),
    /// It fails with EIO.
    Fails,
}
