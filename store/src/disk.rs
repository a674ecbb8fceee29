//! The disk guard: refuses puts before the disk is full, and keeps room to recover from a full one.
//!
//! Past the soft limit a store still deletes, reads, moves replicas away and compacts, all of which a full disk would end.
//! A reserve file takes space that nothing else can; when the file system is almost full all the same (another process's
//! doing), it is given up, so that compaction and deletes can free more.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_common::proto::placement::Capacity;
use holdfast_common::{blocking, clock};
use parking_lot::Mutex;
use rustix::fs::FallocateFlags;
use tokio_util::sync::CancellationToken;

use crate::metrics;

/// Time between two looks at the disk.
const INTERVAL: Duration = Duration::from_secs(2);

const RESERVE_FILE: &str = "RESERVE";

/// Size of the reserve file, bytes.
const RESERVE_BYTES: u64 = 32 << 20;

/// What the guard allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Free bytes on the file system below which puts are refused.
    pub min_available: u64,
    /// Most bytes that the directory may take before puts are refused.
    pub max_used: u64,
}

impl Limits {
    /// `soft_limit` of 0 is none.
    pub(crate) fn new(min_available: u64, soft_limit: u64) -> Self {
        Self {
            min_available,
            max_used: if soft_limit == 0 { u64::MAX } else { soft_limit },
        }
    }

    /// Whether puts are to be refused. Once refused they are until there is a sixteenth more room, so that the answer
    /// does not flap.
    fn refuse(&self, capacity: Capacity, refusing: bool) -> bool {
        let slack = |bound: u64| if refusing { bound / 16 } else { 0 };
        capacity.available < self.min_available.saturating_add(slack(self.min_available))
            || capacity.used > self.max_used - slack(self.max_used)
    }
}

/// Watches the disk of one data directory.
#[derive(Debug)]
pub(crate) struct DiskGuard {
    dir: PathBuf,
    limits: Limits,
    refusing: AtomicBool,
    capacity: Mutex<Capacity>,
}

impl DiskGuard {
    /// Takes a first look. Blocks.
    ///
    /// # Errors
    /// The file system does not answer.
    pub(crate) fn new(dir: &Path, limits: Limits) -> io::Result<Self> {
        let guard = Self {
            dir: dir.to_owned(),
            limits,
            refusing: AtomicBool::new(false),
            capacity: Mutex::new(Capacity::default()),
        };
        guard.look()?;
        Ok(guard)
    }

    /// Whether what takes space is refused now.
    pub(crate) fn refuses_puts(&self) -> bool {
        self.refusing.load(Ordering::Relaxed)
    }

    /// As of the last look.
    pub(crate) fn capacity(&self) -> Capacity {
        *self.capacity.lock()
    }

    /// Looks again and again until `shutdown`.
    pub(crate) async fn watch(self: std::sync::Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = clock::every(INTERVAL);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let guard = self.clone();
            let looked = blocking::run(move || guard.look()).await;
            if let Ok(Err(error)) = looked {
                tracing::warn!(%error, "the disk can't be measured");
            }
        }
    }

    fn look(&self) -> io::Result<()> {
        let capacity = measure(&self.dir)?;
        self.mind_the_reserve(capacity)?;
        *self.capacity.lock() = capacity;
        metrics::capacity(capacity);
        let before = self.refuses_puts();
        let now = self.limits.refuse(capacity, before);
        self.refusing.store(now, Ordering::Relaxed);
        match (before, now) {
            (false, true) => tracing::error!(?capacity, "the disk is nearly full: puts are refused"),
            (true, false) => tracing::info!(?capacity, "the disk has room again: puts are taken"),
            _ => {}
        }
        Ok(())
    }

    /// Sets the reserve file up while there is plenty of room, and gives it up when there is nearly none.
    fn mind_the_reserve(&self, capacity: Capacity) -> io::Result<()> {
        let path = self.dir.join(RESERVE_FILE);
        if capacity.available < RESERVE_BYTES / 2 {
            match fs::remove_file(&path) {
                Ok(()) => tracing::error!("the disk is full: the reserve file was given up"),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        } else if capacity.available > 8 * RESERVE_BYTES && !path.exists() {
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)?;
        }
        Ok(())
    }
}

fn measure(dir: &Path) -> io::Result<Capacity> {
    #[cfg(feature = "simulation")]
    if holdfast_common::simulation::is_on() {
        return Ok(Capacity {
            total: 64 * RESERVE_BYTES,
            used: 0,
            available: 8 * RESERVE_BYTES,
        });
    }
    let stat = rustix::fs::statvfs(dir)?;
    Ok(Capacity {
        total: stat.f_blocks * stat.f_frsize,
        used: size_of(dir)?,
        available: stat.f_bavail * stat.f_frsize,
    })
}

/// Bytes of all files below `dir`; one that vanishes meanwhile counts as nothing.
fn size_of(dir: &Path) -> io::Result<u64> {
    let mut total = 0;
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => pending.push(entry.path()),
                Ok(metadata) => total += metadata.len(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn capacity(used: u64, available: u64) -> Capacity {
        Capacity {
            total: 10_000,
            used,
            available,
        }
    }

    #[test]
    fn puts_are_refused_past_either_limit() {
        let limits = Limits::new(160, 1_600);
        assert!(!limits.refuse(capacity(1_600, 160), false));
        assert!(limits.refuse(capacity(1_601, 160), false));
        assert!(limits.refuse(capacity(1_600, 159), false));
        assert!(!Limits::new(160, 0).refuse(capacity(u64::MAX, 160), false));
    }

    #[test]
    fn a_refusal_ends_only_with_some_room_to_spare() {
        let limits = Limits::new(160, 1_600);
        assert!(limits.refuse(capacity(100, 169), true));
        assert!(!limits.refuse(capacity(100, 170), true));
        assert!(limits.refuse(capacity(1_501, 1_000), true));
        assert!(!limits.refuse(capacity(1_500, 1_000), true));
    }

    #[test]
    fn the_directory_is_measured_with_everything_below_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("data")).unwrap();
        fs::write(dir.path().join("data/table"), vec![0; 1_000]).unwrap();
        fs::write(dir.path().join("LOCK"), "").unwrap();
        assert_eq!(size_of(dir.path()).unwrap(), 1_000);
        let measured = measure(dir.path()).unwrap();
        assert!(measured.used == 1_000 && measured.total > measured.available);
    }

    #[test]
    fn puts_are_refused_on_a_directory_over_its_limit() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("table"), vec![0; 1_000]).unwrap();
        assert!(
            DiskGuard::new(dir.path(), Limits::new(0, 999))
                .unwrap()
                .refuses_puts()
        );
        assert!(
            !DiskGuard::new(dir.path(), Limits::new(0, 0))
                .unwrap()
                .refuses_puts()
        );
    }
}
