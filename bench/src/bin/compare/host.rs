//! What the comparison ran on: figures mean little without it, least of all those of the disk.

use std::{fmt, fs, io::Write, path::Path, time::Instant};

use serde::Serialize;

/// Syncs timed.
const PROBES: usize = 200;
/// Bytes appended before each.
const PROBE_BYTES: usize = 4096;
/// What `statfs` calls a file system in memory.
const TMPFS: i64 = 0x0102_1994;

/// The machine and its disk.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Host {
    processor: String,
    cores: usize,
    memory_gib: f64,
    kernel: String,
    /// Median time to append 4 KiB and `fdatasync`, in microseconds.
    sync_p50_us: u128,
    /// 99th percentile of the same.
    sync_p99_us: u128,
    /// Whether the directory is in memory, where a sync is free and the comparison says nothing of durability.
    in_memory: bool,
}

impl Host {
    /// Describes this machine, and the disk under `directory`.
    pub(crate) fn describe(directory: &Path) -> anyhow::Result<Self> {
        let mut syncs = time_syncs(&directory.join("sync-probe"))?;
        syncs.sort_unstable();
        Ok(Self {
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown processor".to_owned()),
            cores: std::thread::available_parallelism()?.get(),
            memory_gib: memory_kib().unwrap_or_default() / (1 << 20) as f64,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
                .trim()
                .to_owned(),
            sync_p50_us: syncs[PROBES / 2],
            sync_p99_us: syncs[PROBES * 99 / 100],
            in_memory: rustix::fs::statfs(directory)?.f_type as i64 == TMPFS,
        })
    }
}

impl fmt::Display for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor,
            cores,
            memory_gib,
            kernel,
            sync_p50_us,
            sync_p99_us,
            in_memory,
        } = self;
        write!(
            formatter,
            "{cores} cores of {processor}, {memory_gib:.1} GiB, Linux {kernel}; "
        )?;
        write!(
            formatter,
            "4 KiB append and fdatasync {sync_p50_us} µs (p99 {sync_p99_us} µs)"
        )?;
        if *in_memory {
            write!(
                formatter,
                "\nwarning: the data is kept in memory (tmpfs), where a sync costs nothing: name a disk with --dir"
            )?;
        }
        Ok(())
    }
}

/// Microseconds of each of [`PROBES`] appends with `fdatasync`.
fn time_syncs(path: &Path) -> std::io::Result<Vec<u128>> {
    let mut file = fs::File::create(path)?;
    let mut syncs = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let start = Instant::now();
        file.write_all(&[0x5a; PROBE_BYTES])?;
        file.sync_data()?;
        syncs.push(start.elapsed().as_micros());
    }
    fs::remove_file(path)?;
    Ok(syncs)
}

fn memory_kib() -> Option<f64> {
    field("/proc/meminfo", "MemTotal")?
        .split(' ')
        .next()?
        .parse()
        .ok()
}

/// The value of the first line `NAME : VALUE`.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}
