//! One member's process.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::sync::mpsc;

use super::plan::Spec;

/// Tells the launcher that a process has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) status: std::io::Result<ExitStatus>,
}

/// Starts a member's process, its log appended to `logs/NAME.log`, and returns its pid. Its end is told through `ended`.
pub(super) fn start(spec: &Spec, dir: &Path, ended: &mpsc::Sender<Ended>) -> std::io::Result<u32> {
    let logs = dir.join("logs");
    std::fs::create_dir_all(&logs)?;
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(logs.join(format!("{}.log", spec.name)))?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(&spec.command)
        .arg("--die-with-parent")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A group of its own: Ctrl-C reaches the launcher alone, which stops members in order.
        .process_group(0)
        .spawn()?;
    let pid = child
        .id()
        .ok_or_else(|| std::io::Error::other("the process ended as it began"))?;
    let (name, ended) = (spec.name.clone(), ended.clone());
    tokio::spawn(async move {
        let status = child.wait().await;
        // Nobody listens any more only when the launcher itself ends.
        let _ = ended.send(Ended { name, pid, status }).await;
    });
    Ok(pid)
}

/// Sends a signal to a process that may be gone already.
pub(super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// The end of a member's log, for an error message.
pub(super) fn log_tail(dir: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(dir.join("logs").join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
