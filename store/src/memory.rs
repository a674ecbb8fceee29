//! What a store may keep in memory, and how that is divided.
//!
//! One number, [`Config::memory_bytes`](crate::Config::memory_bytes), stands for all that grows with use: caches, tables that are
//! being written, writes that wait. What is there anyway, and what each replica takes, comes on top.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_common::ids::StoreId;
use holdfast_common::raft::log;

use crate::engine;

const MIB: u64 = 1 << 20;

/// What a store takes for these things when nothing says otherwise.
const DEFAULT: u64 = 1024 * MIB;
/// Less than this makes a store that mostly waits for its disk.
pub(crate) const LEAST: u64 = 128 * MIB;

/// How a store's memory is divided.
#[derive(Clone, Debug)]
pub(crate) struct Shares {
    /// For the data.
    pub engine: engine::Options,
    /// For the log.
    pub log: log::Options,
    /// Writes between arrival and answer, of all ranges together, bytes.
    pub waiting: usize,
}

impl Shares {
    /// Divides so many bytes. The parts are all taken at the very most: when every table is full, and as many wait to be written out as
    /// may before commits stall.
    pub(crate) fn of(total: u64) -> Self {
        let part = |of_64: u64| total / 64 * of_64;
        let size = |of_64: u64| usize::try_from(part(of_64)).unwrap_or(usize::MAX);
        let engine = engine::Options {
            cache_bytes: part(16),
            row_cache_bytes: size(4),
            overlay_bytes: size(4),
            memtable_bytes: part(4),
            ..engine::Options::default()
        };
        let log = log::Options {
            block_cache_bytes: part(1),
            memtable_bytes: part(2),
            group_cache_bytes: log::Options::default().group_cache_bytes,
            total_cache_bytes: size(4),
        };
        Self {
            engine,
            log,
            waiting: size(8),
        }
    }

    /// With memtables of up to a quarter less, how much depends on the store. Replicas of the same ranges fill theirs at the same pace,
    /// and would otherwise write them out, merge and remove files in the same seconds; apart, a majority is mostly at full speed.
    pub(crate) fn apart_from_others(mut self, store: StoreId) -> Self {
        // Multiples of the golden ratio lie apart from each other, however many there are (Knuth, TAOCP 3, 6.4).
        let place = store.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        for bytes in [&mut self.engine.memtable_bytes, &mut self.log.memtable_bytes] {
            *bytes -= (*bytes >> 18) * place;
        }
        self
    }
}

/// What a store takes that was told nothing: the default, or less where it may not have that much. Two thirds of what the control
/// groups around it allow, since it takes something for other purposes too; a quarter of the machine, which others use as well.
pub(crate) fn available() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|info| total(&info));
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let allowed = limit_files(&groups)
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok())
        .min();
    within(allowed, machine)
}

fn within(allowed: Option<u64>, machine: Option<u64>) -> u64 {
    let allowed = allowed.map_or(DEFAULT, |bytes: u64| bytes / 3 * 2);
    let machine = machine.map_or(DEFAULT, |bytes| bytes / 4);
    DEFAULT.min(allowed).min(machine).max(LEAST)
}

/// The machine's memory, bytes, of what `/proc/meminfo` says.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Files that say what the control groups of `/proc/self/cgroup` allow, of either version, each group's and those of all around it. A
/// container often sees its own group as the root.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let of_line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (root, file) = match fields.next()? {
            "" => ("/sys/fs/cgroup", "memory.max"),
            controllers if controllers.split(',').any(|name| name == "memory") => {
                ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => return None,
        };
        let path = Path::new(fields.next()?.trim_start_matches('/'));
        let around = path
            .ancestors()
            .map(move |group| Path::new(root).join(group).join(file));
        Some(around.collect::<Vec<_>>())
    };
    groups.lines().filter_map(of_line).flatten().collect()
}

/// Room for the writes that a store has taken and not answered, over all its ranges. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    bytes: AtomicUsize,
    most: usize,
}

/// A part of a [`Room`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Held {
    room: Room,
    bytes: usize,
}

impl Room {
    /// Room for `most` bytes.
    pub(crate) fn new(most: usize) -> Self {
        let bytes = AtomicUsize::new(0);
        Self(Arc::new(Taken { bytes, most }))
    }

    /// Takes so much of it, or nothing when there is not that much left. Where nothing is held, anything fits.
    pub(crate) fn take(&self, bytes: usize) -> Option<Held> {
        let before = self.0.bytes.fetch_add(bytes, Ordering::Relaxed);
        let held = Held {
            room: self.clone(),
            bytes,
        };
        (before == 0 || before.saturating_add(bytes) <= self.0.most).then_some(held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.room.0.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_never_exceed_the_whole() {
        for total in [LEAST, 384 * MIB, DEFAULT, 64 * DEFAULT] {
            let Shares { engine, log, waiting } = Shares::of(total);
            // One table that is written and three that wait are as many as there can be; the log's other keyspace stays small.
            let tables = 4 * (engine.memtable_bytes + log.memtable_bytes);
            let caches = engine.cache_bytes + log.block_cache_bytes;
            let rest = engine.row_cache_bytes + engine.overlay_bytes + log.total_cache_bytes + waiting;
            let sum = tables + caches + rest as u64;
            assert!(sum <= total && sum > total / 10 * 9, "{sum} of {total}");
        }
    }

    #[test]
    fn stores_keep_their_distance() {
        let sizes = |store| {
            let shares = Shares::of(DEFAULT).apart_from_others(StoreId(store));
            [shares.engine.memtable_bytes, 2 * shares.log.memtable_bytes]
        };
        let most = Shares::of(DEFAULT).engine.memtable_bytes;
        for few in [3, 5, 8, 13] {
            for one in 1..=few {
                for size in sizes(one) {
                    assert!(size <= most && size >= most / 4 * 3, "{size} of {most}");
                }
                for other in 1..one {
                    let apart = sizes(one)[0].abs_diff(sizes(other)[0]);
                    assert!(
                        apart > most / 4 / (3 * few),
                        "{one} and {other} of {few}: {apart} of {most}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_store_takes_no_more_than_it_may_have() {
        assert_eq!(within(None, None), DEFAULT);
        assert_eq!(within(Some(u64::MAX), Some(64 * DEFAULT)), DEFAULT);
        assert_eq!(within(Some(384 * MIB), Some(64 * DEFAULT)), 256 * MIB);
        assert_eq!(within(None, Some(2048 * MIB)), 512 * MIB);
        assert_eq!(within(Some(1), None), LEAST);
    }

    #[test]
    fn limits_are_looked_for_in_all_groups_around() {
        let found = |groups| {
            let files = limit_files(groups);
            files
                .iter()
                .map(|file| file.display().to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            found("0::/system.slice/holdfast.service\n"),
            [
                "/sys/fs/cgroup/system.slice/holdfast.service/memory.max",
                "/sys/fs/cgroup/system.slice/memory.max",
                "/sys/fs/cgroup/memory.max",
            ]
        );
        assert_eq!(
            found("5:cpu,cpuacct:/a\n4:memory:/a\n"),
            [
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            ]
        );
        assert!(found("0::/\n") == ["/sys/fs/cgroup/memory.max"] && found("nonsense").is_empty());
    }

    #[test]
    fn the_machine_says_how_much_it_has() {
        assert_eq!(
            total("MemFree: 1 kB\nMemTotal:       24612345 kB\n"),
            Some(24_612_345 * 1024)
        );
        assert_eq!(total("MemTotal: much"), None);
    }

    #[test]
    fn what_is_held_leaves_no_room_for_others_until_it_is_dropped() {
        let room = Room::new(100);
        let first = room.take(60).expect("there is room");
        assert!(room.take(41).is_none());
        let second = room.take(40).expect("what was refused is not held");
        drop((first, second));
        assert!(room.take(1_000).is_some(), "anything fits when nothing is held");
    }
}
