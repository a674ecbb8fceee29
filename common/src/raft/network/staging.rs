//! The directory in which snapshots rest between the disk and the network, and how many may be under way.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Semaphore;
use xxhash_rust::xxh3::Xxh3;

use super::throttle::Throttle;

/// Buffer for reading a file through its checksum.
const READ_BYTES: usize = 256 * 1024;

/// How much of a process's disk and network snapshots may take.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotLimits {
    /// Snapshots being sent at a time; at least one.
    pub outgoing: usize,
    /// Snapshots being received at a time; at least one.
    pub incoming: usize,
    /// Bytes per second sent, all snapshots together.
    pub bytes_per_second: u64,
}

impl Default for SnapshotLimits {
    /// Two each way, 64 MiB/s.
    fn default() -> Self {
        Self {
            outgoing: 2,
            incoming: 2,
            bytes_per_second: 64 << 20,
        }
    }
}

/// A directory for snapshots in transit, and the process-wide limits on them.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    next: AtomicU64,
    pub(super) outgoing: Arc<Semaphore>,
    pub(super) incoming: Arc<Semaphore>,
    pub(super) throttle: Throttle,
}

impl Staging {
    /// Takes `dir` for this process alone, makes it if it is not there, and empties it: what an earlier run left is of no
    /// use to the network. A store that wants to finish an installation from a file that it was given does so before.
    ///
    /// # Errors
    /// The directory can't be made or emptied.
    pub fn open(dir: &Path, limits: SnapshotLimits) -> io::Result<Arc<Self>> {
        fs::create_dir_all(dir)?;
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Arc::new(Self {
            dir: dir.to_owned(),
            next: AtomicU64::new(1),
            outgoing: Arc::new(Semaphore::new(limits.outgoing.max(1))),
            incoming: Arc::new(Semaphore::new(limits.incoming.max(1))),
            throttle: Throttle::new(limits.bytes_per_second),
        }))
    }

    /// Changes how many bytes per second may be sent.
    pub fn set_bytes_per_second(&self, bytes_per_second: u64) {
        self.throttle.set_rate(bytes_per_second);
    }

    /// A name for a new file, which is removed when this is dropped. Nothing is created yet.
    pub(super) fn file(&self, extension: &str) -> TempFile {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        TempFile {
            path: self.dir.join(format!("{number}.{extension}")),
        }
    }
}

/// A file that goes when this goes.
#[derive(Debug)]
pub(super) struct TempFile {
    path: PathBuf,
}

impl TempFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            // Never made, or taken by whoever installed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "a snapshot's file stays behind")
            }
        }
    }
}

/// The checksum of a whole file. Blocks.
pub(super) fn checksum(file: &mut File) -> io::Result<u64> {
    let mut hash = Xxh3::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.digest()),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_are_removed_and_files_go_with_their_owners() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::write(dir.path().join("7.spool"), b"left").expect("write");
        let staging = Staging::open(dir.path(), SnapshotLimits::default()).expect("open");
        let count = || fs::read_dir(dir.path()).expect("read").count();
        assert_eq!(count(), 0);
        let file = staging.file("spool");
        fs::write(file.path(), b"new").expect("write");
        assert_eq!(count(), 1);
        drop(file);
        assert_eq!(count(), 0);
        drop(staging.file("spool"));
    }
}
