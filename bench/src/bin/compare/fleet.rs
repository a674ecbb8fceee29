//! The processes started for a comparison, and their end.
//!
//! Each child is the leader of a process group of its own, so that Ctrl-C reaches this program alone, which then stops them in
//! order. It stops them when the comparison is over or has failed, on SIGINT and SIGTERM, and on a panic: politely, then by
//! force. Children of children that outlive their parents (a launcher that had to be killed) are found by the scratch
//! directory in their environment, which no other process has.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// How long children may take to stop when asked.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often they are looked at meanwhile.
const POLL: Duration = Duration::from_millis(20);
/// Lines of a dead child's log to show.
const LOG_TAIL_LINES: usize = 15;

/// Children and the directory that all their files are in. Clones are the same fleet.
#[derive(Clone)]
pub(crate) struct Fleet {
    scratch: Arc<Path>,
    members: Arc<Mutex<Members>>,
}

struct Members {
    directory: Option<tempfile::TempDir>,
    running: Vec<Member>,
}

struct Member {
    name: String,
    child: Child,
}

impl Fleet {
    /// An empty fleet with a scratch directory made in `parent`.
    pub(crate) fn new(parent: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("holdfast-compare-")
            .tempdir_in(std::path::absolute(parent)?);
        let directory =
            directory.with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        let scratch = directory.path().into();
        fs::create_dir(directory.path().join("tmp"))?;
        Ok(Self {
            scratch,
            members: Arc::new(Mutex::new(Members {
                directory: Some(directory),
                running: Vec::new(),
            })),
        })
    }

    /// The scratch directory.
    pub(crate) fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Starts a child; its output goes to `NAME.log` in the scratch directory. Returns its process id.
    pub(crate) fn spawn(&self, name: &str, command: &mut Command) -> anyhow::Result<u32> {
        use std::os::unix::process::CommandExt;

        let mut members = self.members.lock();
        if members.directory.is_none() {
            bail!("stopped");
        }
        let log = File::create(self.log(name))?;
        command
            .process_group(0)
            .current_dir(&self.scratch)
            .env("TMPDIR", self.mark());
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {:?}", command.get_program()))?;
        let pid = child.id();
        members.running.push(Member {
            name: name.to_owned(),
            child,
        });
        Ok(pid)
    }

    /// An error if a child has ended, with the end of its log.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        for member in &mut self.members.lock().running {
            if let Some(status) = member.child.try_wait()? {
                let log = fs::read_to_string(self.log(&member.name)).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
                bail!("{} ended ({status}); the last it wrote:\n{tail}", member.name);
            }
        }
        Ok(())
    }

    /// Stops every child and removes the scratch directory. Stopping twice is harmless.
    pub(crate) fn stop(&self) {
        let mut members = self.members.lock();
        members
            .running
            .iter()
            .for_each(|member| send(member.child.id(), Signal::TERM));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && members.running.iter_mut().any(Member::is_running) {
            thread::sleep(POLL);
        }
        for member in &mut members.running {
            if member.is_running() {
                eprintln!("{} does not stop, killing it", member.name);
                // It may have ended meanwhile, which is as well.
                let _ = member.child.kill();
                let _ = member.child.wait();
            }
        }
        members.running.clear();
        self.stragglers()
            .into_iter()
            .for_each(|pid| send(pid, Signal::KILL));
        if let Some(Err(error)) = members.directory.take().map(tempfile::TempDir::close) {
            eprintln!("cannot remove {}: {error}", self.scratch.display());
        }
    }

    /// From now on stops the fleet, and then the program, on SIGINT, SIGTERM and SIGHUP, and the fleet on a panic.
    pub(crate) fn stop_on_signal(&self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let fleet = self.clone();
        thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let code = runtime.block_on(first_signal());
            fleet.stop();
            std::process::exit(code);
        })?;
        // Release builds abort on a panic and run no destructor, so the fleet is stopped from the hook.
        let (fleet, report) = (self.clone(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            report(panic);
            fleet.stop();
        }));
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.scratch.join(format!("{name}.log"))
    }

    /// What tells this fleet's processes from all others: the temporary directory in their environment.
    fn mark(&self) -> PathBuf {
        self.scratch.join("tmp")
    }

    fn stragglers(&self) -> Vec<u32> {
        let mark = format!("TMPDIR={}", self.mark().display());
        let Ok(processes) = fs::read_dir("/proc") else {
            return Vec::new();
        };
        let pids = processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let marked = |pid: &u32| {
            // Processes of others cannot be read, and are not ours.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == mark.as_bytes())
        };
        pids.filter(marked).collect()
    }
}

impl Member {
    fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile, which is what the signal is for.
        let _ = kill_process(pid, signal);
    }
}

/// Waits for a signal to stop and returns the exit code that tells of it.
async fn first_signal() -> i32 {
    let listen = |kind| signal(kind).expect("signals can be listened to once the runtime is up");
    let (mut interrupt, mut terminate, mut hang_up) = (
        listen(SignalKind::interrupt()),
        listen(SignalKind::terminate()),
        listen(SignalKind::hangup()),
    );
    tokio::select! {
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
        _ = hang_up.recv() => 129,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn stopping_leaves_nothing_behind() {
        let fleet = Fleet::new(&std::env::temp_dir()).expect("a directory");
        let orphan = "sleep 1000 & echo $! > orphan; wait";
        let pid = fleet.spawn("parent", &mut shell(orphan)).expect("sh");
        let written = fleet.scratch().join("orphan");
        while fs::read_to_string(&written).unwrap_or_default().trim().is_empty() {
            thread::yield_now();
        }
        let orphan: u32 = fs::read_to_string(written)
            .expect("written")
            .trim()
            .parse()
            .expect("a pid");
        fleet.check().expect("all run");

        fleet.stop();
        fleet.stop();
        assert!(!fleet.scratch().exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        let state = fs::read_to_string(format!("/proc/{orphan}/stat")).unwrap_or_default();
        assert!(
            state.is_empty() || state.contains(") Z "),
            "the child's child is gone or about to be reaped: {state}"
        );
        assert!(
            fleet.spawn("late", &mut shell("true")).is_err(),
            "nothing starts after the end"
        );
    }

    #[test]
    fn a_dead_child_is_told_with_its_last_words() {
        let fleet = Fleet::new(&std::env::temp_dir()).expect("a directory");
        fleet
            .spawn("victim", &mut shell("echo farewell; exit 3"))
            .expect("sh");
        let error = loop {
            if let Err(error) = fleet.check() {
                break error.to_string();
            }
            thread::yield_now();
        };
        assert!(
            error.contains("victim ended") && error.contains("farewell"),
            "{error}"
        );
        fleet.stop();
    }
}
