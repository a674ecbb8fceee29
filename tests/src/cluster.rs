//! `holdfast up`, started and stopped by a test.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;

use crate::{Admin, Client};

/// One cluster at a time: tests share few processors, and several clusters would starve each other.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other cluster runs.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How large a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Stores.
    pub stores: u16,
    /// Placement members.
    pub placements: u16,
    /// Routers.
    pub routers: u16,
    /// What goes wrong, as `FAILPOINTS` has it: see `store/src/failpoint.rs`.
    pub faults: &'static str,
    /// Settings of all its processes, as the environment has them.
    pub environment: &'static [(&'static str, &'static str)],
}

impl Default for Options {
    fn default() -> Self {
        Self {
            stores: 3,
            placements: 1,
            routers: 1,
            faults: "",
            environment: &[],
        }
    }
}

/// A member, as `cluster.json` has it.
#[derive(Clone, Debug, Deserialize)]
pub struct Member {
    /// placement, store or router.
    pub role: String,
    /// Its name.
    pub name: String,
    /// A store's id.
    pub id: Option<u64>,
    /// Its process, while it runs.
    pub pid: Option<u32>,
    /// Where it serves HTTP.
    pub http: String,
    /// Where it keeps its data.
    pub data_dir: Option<PathBuf>,
    /// running, stopped or exited.
    pub state: String,
}

#[derive(Deserialize)]
struct ClusterFile {
    members: Vec<Member>,
}

/// A running cluster. Dropping it stops it and removes its directory; a test that fails prints what its logs complain about.
pub struct Cluster {
    options: Options,
    program: PathBuf,
    base_port: u16,
    dir: tempfile::TempDir,
    launcher: Option<Child>,
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Starts a cluster with `program`, the `holdfast` under test, and returns once its first write would succeed.
    pub fn start(program: &str, options: Options) -> anyhow::Result<Self> {
        let turn = turn();
        let dir = tempfile::Builder::new().prefix("holdfast-test-").tempdir()?;
        let base_port = free_ports()?;
        let mut cluster = Self {
            options,
            program: program.into(),
            base_port,
            dir,
            launcher: None,
            _turn: turn,
        };
        cluster.up()?;
        Ok(cluster)
    }

    /// Starts the launcher again, on the same directory.
    pub fn up(&mut self) -> anyhow::Result<()> {
        ensure!(self.launcher.is_none(), "it runs already");
        let mut launcher = Command::new(&self.program)
            .arg("up")
            .env("FAILPOINTS", self.options.faults)
            .envs(self.options.environment.iter().copied())
            .arg("--data-dir")
            .arg(self.dir())
            .args(["--base-port", &self.base_port.to_string()])
            .args(["--stores", &self.options.stores.to_string()])
            .args(["--placements", &self.options.placements.to_string()])
            .args(["--routers", &self.options.routers.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(self.dir().join("launcher.log"))?)
            .spawn()?;
        let stdout = launcher.stdout.take().context("no standard output")?;
        self.launcher = Some(launcher);
        for line in BufReader::new(stdout).lines() {
            if line?.contains("Ctrl-C stops it") {
                return Ok(());
            }
        }
        bail!("the cluster did not come up:\n{}", self.complaints())
    }

    /// Stops everything in order.
    pub fn down(&mut self) -> anyhow::Result<()> {
        let mut launcher = self.launcher.take().context("it does not run")?;
        send(launcher.id(), Signal::TERM)?;
        let status = launcher.wait()?;
        ensure!(
            status.success(),
            "the launcher ended with {status}:\n{}",
            self.complaints()
        );
        Ok(())
    }

    /// kill -9 of every process, the launcher too.
    pub fn kill_everything(&mut self) -> anyhow::Result<()> {
        let mut launcher = self.launcher.take().context("it does not run")?;
        let pids: Vec<u32> = self.members()?.iter().filter_map(|member| member.pid).collect();
        send(launcher.id(), Signal::KILL)?;
        for pid in &pids {
            // Some may have died with the launcher already.
            let _ = send(*pid, Signal::KILL);
        }
        launcher.wait()?;
        wait_until(Duration::from_secs(10), "the members are gone", || {
            Ok(pids.iter().all(|pid| !alive(*pid)))
        })
    }

    /// kill -9 of one member.
    pub fn kill(&self, name: &str) -> anyhow::Result<()> {
        let pid = self
            .member(name)?
            .pid
            .with_context(|| format!("{name} does not run"))?;
        send(pid, Signal::KILL)?;
        wait_until(Duration::from_secs(10), "the launcher has noticed", || {
            Ok(self.member(name)?.pid.is_none())
        })
    }

    /// Asks the launcher to start a member that does not run.
    pub async fn start_member(&self, name: &str) -> anyhow::Result<()> {
        self.control(&format!("start/{name}"), serde_json::json!({}))
            .await
    }

    /// Asks the launcher to stop a member in order.
    pub async fn stop_member(&self, name: &str) -> anyhow::Result<()> {
        self.control(&format!("stop/{name}"), serde_json::json!({})).await
    }

    /// Asks the launcher to add a store.
    pub async fn add_store(&self, name: &str) -> anyhow::Result<()> {
        self.control("add", serde_json::json!({"node_id": name})).await
    }

    async fn control(&self, path: &str, body: serde_json::Value) -> anyhow::Result<()> {
        let url = format!("http://127.0.0.1:{}/api/control/{path}", self.base_port + 9);
        let answer = reqwest::Client::new().post(url).json(&body).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "{path}: {status}: {text}");
        Ok(())
    }

    /// Who there is, according to `cluster.json`.
    pub fn members(&self) -> anyhow::Result<Vec<Member>> {
        let text = std::fs::read(self.dir().join("cluster.json"))?;
        Ok(serde_json::from_slice::<ClusterFile>(&text)?.members)
    }

    /// One of them.
    pub fn member(&self, name: &str) -> anyhow::Result<Member> {
        self.members()?
            .into_iter()
            .find(|member| member.name == name)
            .with_context(|| format!("no member {name}"))
    }

    /// The store with this id.
    pub fn store(&self, id: u64) -> anyhow::Result<Member> {
        let mut members = self.members()?.into_iter();
        members
            .find(|member| member.role == "store" && member.id == Some(id))
            .with_context(|| format!("no store {id}"))
    }

    /// A client of the first router.
    pub fn client(&self) -> Client {
        Client::new(format!("http://127.0.0.1:{}", self.base_port))
    }

    /// A client of the first placement member.
    pub fn admin(&self) -> Admin {
        self.admin_of(1)
    }

    /// A client of the placement member with this number, from one.
    pub fn admin_of(&self, number: u16) -> Admin {
        Admin::new(format!("http://127.0.0.1:{}", self.base_port + 9 + number))
    }

    /// Where it keeps its data.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The program under test.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where the first placement member takes RPC.
    pub fn placement_rpc(&self) -> String {
        format!("127.0.0.1:{}", self.base_port + 50)
    }

    /// Fails when any member has panicked or logged an error.
    pub fn assert_no_errors(&self) -> anyhow::Result<()> {
        let complaints = self.complaints();
        ensure!(
            complaints.is_empty(),
            "unexpected errors in the logs:\n{complaints}"
        );
        Ok(())
    }

    /// Lines of the logs that tell of errors.
    fn complaints(&self) -> String {
        let mut found = String::new();
        let logs = std::fs::read_dir(self.dir().join("logs"))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path());
        for path in logs.chain([self.dir().join("launcher.log")]) {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            for line in text.lines().filter(|line| {
                line.contains("ERROR") || line.contains("panicked at") || line.starts_with("holdfast: not")
            }) {
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                found.push_str(&format!("{name}: {line}\n"));
            }
        }
        found
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs of the failed test:\n{}", self.complaints());
        }
        if self.launcher.is_some() && self.down().is_err() {
            eprintln!("the cluster had to be killed");
            let _ = self.kill_everything();
        }
    }
}

/// Polls until `holds`: for what a test can only see from outside.
pub(crate) fn wait_until(
    within: Duration,
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    while !holds()? {
        ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn send(pid: u32, signal: Signal) -> anyhow::Result<()> {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .context("not a pid")?;
    Ok(kill_process(pid, signal)?)
}

fn alive(pid: u32) -> bool {
    // A zombie that its parent has not collected yet has no command line any more.
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

/// A base port with the ports that a cluster needs behind it free, below those that the kernel gives to clients.
pub(crate) fn free_ports() -> anyhow::Result<u16> {
    for _ in 0..200 {
        let base = rand::random_range(100..320) * 100;
        let held: Vec<_> = (base..base + 95)
            .map_while(|port| TcpListener::bind(("127.0.0.1", port)).ok())
            .collect();
        if held.len() == 95 {
            return Ok(base);
        }
    }
    bail!("no block of free ports")
}
