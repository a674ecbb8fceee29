//! The processes of a site.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::network::{self, address, namespace};
use super::{MemberIndex, Plan};

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A placement member.
    Placement,
    /// A store.
    Store,
    /// A router.
    Router,
}

/// Of a store's disk, and what has to be free of it: small enough to be filled.
const DISK: &str = "size=1g";
const DISK_RESERVE_BYTES: u64 = 128 << 20;

/// A member and its process, if it runs.
pub(super) struct Process {
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) data_dir: PathBuf,
    program: PathBuf,
    /// Another version's program, which takes turns with that.
    beside: Option<PathBuf>,
    starts: usize,
    member: MemberIndex,
    arguments: Vec<String>,
    faults: String,
    clock: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    /// It was told to end in order.
    stopping: bool,
}

/// How long an ordered end may take, on a disk that is made slow, too.
const STOP_WITHIN: Duration = Duration::from_secs(60);

/// The members of a plan, none of them started.
pub(super) fn lay_out(program: &Path, dir: &Path, plan: &Plan) -> Vec<Process> {
    let roles = std::iter::repeat_n(Role::Placement, plan.placements)
        .chain(std::iter::repeat_n(Role::Store, plan.stores))
        .chain(std::iter::repeat_n(Role::Router, plan.routers));
    let rpc = |member: usize| format!("{}:7450", address(member));
    let placements: Vec<String> = (0..plan.placements).map(rpc).collect();
    let mut numbers = [0; 3];
    roles
        .enumerate()
        .map(|(member, role)| {
            numbers[role as usize] += 1;
            let (word, number) = (role.word(), numbers[role as usize]);
            let name = format!("{word}-{number}");
            let data_dir = dir.join(&name);
            let mut arguments = vec![word.to_owned(), "--insecure".to_owned()];
            let mut give = |flag: &str, value: String| arguments.extend([format!("--{flag}"), value]);
            give("http", format!("{}:{}", address(member), role.http_port()));
            if role != Role::Router {
                give("name", name.clone());
                give("data-dir", data_dir.display().to_string());
                give("rpc", rpc(member));
            }
            if role == Role::Placement {
                let members: Vec<String> = (0..plan.placements)
                    .map(|member| format!("placement-{}={}", member + 1, rpc(member)))
                    .collect();
                give("members", members.join(","));
            } else {
                give("placement", placements.join(","));
            }
            Process {
                role,
                member,
                arguments,
                data_dir,
                program: program.to_owned(),
                beside: plan.beside.clone(),
                starts: 0,
                faults: match role {
                    Role::Store => plan.faults.clone(),
                    Role::Placement | Role::Router => String::new(),
                },
                clock: dir.join(format!("{name}.clock")),
                log: dir.join(format!("logs/{name}.log")),
                name,
                child: None,
                stopping: false,
            }
        })
        .collect()
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Placement => "placement",
            Self::Store => "store",
            Self::Router => "router",
        }
    }

    fn http_port(self) -> u16 {
        match self {
            Self::Placement => 7410,
            Self::Store => 7420,
            Self::Router => 7400,
        }
    }
}

impl Process {
    /// Where it serves HTTP.
    pub(super) fn url(&self) -> String {
        format!("http://{}:{}", address(self.member), self.role.http_port())
    }

    /// Its process, if it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Its clock, and for a store a disk of its own.
    pub(super) fn prepare(&self) -> anyhow::Result<()> {
        self.set_clock(0)?;
        if self.role == Role::Store {
            let dir = self.data_dir.display().to_string();
            std::fs::create_dir_all(&self.data_dir)?;
            network::run("mount", &["-t", "tmpfs", "-o", DISK, "tmpfs", &dir])?;
        }
        Ok(())
    }

    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        if self.stopping {
            self.await_end()?;
        }
        if self.child.is_some() && !self.has_exited() {
            return Ok(());
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &namespace(self.member)])
            .arg(self.next_program())
            .args(&self.arguments)
            .env("FAILPOINTS", &self.faults)
            .env(
                "HOLDFAST_STORE_DISK_RESERVE_BYTES",
                DISK_RESERVE_BYTES.to_string(),
            )
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // A cluster is founded once, by one member, in an empty directory.
        if self.name == "placement-1" && !self.data_dir.exists() {
            command.arg("--bootstrap");
        }
        if self.role != Role::Router {
            command
                .env("LD_PRELOAD", faketime()?)
                .env("FAKETIME_TIMESTAMP_FILE", &self.clock)
                .env("FAKETIME_CACHE_DURATION", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
                .env("DONT_FAKE_MONOTONIC", "1")
                .env("NO_FAKE_STAT", "1");
        }
        self.child = Some(command.spawn()?);
        self.starts += 1;
        Ok(())
    }

    /// Every other member begins with the other version, and each changes it with every start.
    fn next_program(&self) -> &Path {
        match &self.beside {
            Some(beside) if (self.member + self.starts) % 2 == 1 => beside,
            _ => &self.program,
        }
    }

    /// Asks for an ordered end, and does not wait for it.
    pub(super) fn stop(&mut self) -> anyhow::Result<()> {
        self.send(Signal::TERM)?;
        self.stopping = self.child.is_some();
        Ok(())
    }

    fn await_end(&mut self) -> anyhow::Result<()> {
        self.resume()?;
        let begun = Instant::now();
        while !self.is_over() {
            ensure!(begun.elapsed() < STOP_WITHIN, "{} does not stop", self.name);
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill()
    }

    fn is_over(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        self.stopping = false;
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    pub(super) fn pause(&self) -> anyhow::Result<()> {
        self.send(Signal::STOP)
    }

    pub(super) fn resume(&self) -> anyhow::Result<()> {
        self.send(Signal::CONT)
    }

    fn send(&self, signal: Signal) -> anyhow::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let pid = Pid::from_raw(i32::try_from(pid)?).context("not a pid")?;
        Ok(kill_process(pid, signal)?)
    }

    pub(super) fn set_clock(&self, seconds: i64) -> anyhow::Result<()> {
        let next = self.clock.with_extension("next");
        std::fs::write(&next, format!("{seconds:+}\n"))?;
        Ok(std::fs::rename(next, &self.clock)?)
    }

    /// Whether it was started and has ended by itself.
    pub(super) fn has_exited(&mut self) -> bool {
        self.child.is_some() && !self.stopping && self.is_over()
    }

    pub(super) fn complaints(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        text.lines()
            .filter(|line| {
                line.contains("panicked at") || line.contains("damaged") || line.contains("corrupt")
            })
            .map(|line| format!("{}: {line}", self.name))
            .collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
        if self.role == Role::Store {
            let _ = network::run("umount", &[&self.data_dir.display().to_string()]);
        }
    }
}

/// The library that shifts the wall clock.
fn faketime() -> anyhow::Result<PathBuf> {
    let found = ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        .map(|machine| PathBuf::from(format!("/usr/lib/{machine}/faketime/libfaketimeMT.so.1")))
        .into_iter()
        .find(|path| path.exists());
    ensure!(
        found.is_some(),
        "libfaketime is missing: apt-get install faketime"
    );
    found.context("libfaketime")
}
