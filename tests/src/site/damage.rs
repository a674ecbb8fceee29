//! Disks that are slow, fail or are full.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};

use super::Sync;

/// `strace` at work on a process, which answers its synchronous writes.
pub struct Tracer {
    strace: Child,
    log: tempfile::NamedTempFile,
}

impl Tracer {
    pub(super) fn attach(pid: u32, sync: Sync) -> anyhow::Result<Self> {
        let what = match sync {
            Sync::Delayed(ms) => format!("delay_enter={}", ms * 1_000),
            Sync::Fails => "error=EIO".to_owned(),
        };
        let log = tempfile::NamedTempFile::new()?;
        let mut strace = Command::new("strace")
            .args(["-f", "-e", "trace=fsync,fdatasync"])
            .args(["-e", &format!("inject=fsync,fdatasync:{what}")])
            .arg("-o")
            .arg(log.path())
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("strace")?;
        let mut lines = BufReader::new(strace.stderr.take().context("no standard error")?).lines();
        // It says so once it is attached, and goes on talking.
        let said = lines.next().transpose()?;
        std::thread::spawn(move || lines.for_each(drop));
        ensure!(
            said.as_ref().is_some_and(|said| said.contains("attached")),
            "strace can't trace here: {said:?}"
        );
        Ok(Self { strace, log })
    }

    /// Whether it has made a synchronous write fail.
    pub fn has_failed_some(&self) -> bool {
        std::fs::read_to_string(self.log.path()).is_ok_and(|log| log.contains("EIO"))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Asked to end, it lets the process go on alone; killed, it might not.
        let pid = i32::try_from(self.strace.id()).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::INT));
        let _ = self.strace.wait();
    }
}

/// A file that takes up a disk.
pub struct Filler {
    path: PathBuf,
}

impl Filler {
    pub(super) fn fill(dir: &Path, leave_bytes: u64) -> anyhow::Result<Self> {
        let disk = rustix::fs::statvfs(dir)?;
        let free = disk.f_bavail * disk.f_frsize;
        let path = dir.join("filler");
        let file = std::fs::File::create(&path)?;
        let filler = Self { path };
        if let Some(bytes) = free.checked_sub(leave_bytes).filter(|bytes| *bytes > 0) {
            rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?;
        }
        Ok(filler)
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
