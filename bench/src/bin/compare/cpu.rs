//! Processor time: by process, from `/proc/PID/stat`, and of the whole machine, from `/proc/stat`.

use std::{collections::BTreeMap, fs, io, time::Duration};

use anyhow::Context;

/// Processes to account for, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Processes(pub(crate) BTreeMap<String, u32>);

/// Processor time used so far, by name.
#[derive(Clone, Debug)]
pub(crate) struct Usage(BTreeMap<String, Duration>);

impl Processes {
    /// What each has used since it was started.
    pub(crate) fn usage(&self) -> anyhow::Result<Usage> {
        let used = self.0.iter().map(|(name, pid)| {
            let used = used_by(&pid.to_string())
                .with_context(|| format!("cannot account for {name}, process {pid}"))?;
            Ok((name.clone(), used))
        });
        used.collect::<anyhow::Result<_>>().map(Usage)
    }
}

impl Usage {
    /// What each used from `earlier` to this.
    pub(crate) fn since(&self, earlier: &Self) -> BTreeMap<String, Duration> {
        let spent = |(name, used): (&String, &Duration)| {
            (
                name.clone(),
                used.saturating_sub(earlier.0.get(name).copied().unwrap_or_default()),
            )
        };
        self.0.iter().map(spent).collect()
    }
}

/// What this process has used, with all its threads, those that ended included.
pub(crate) fn used_by_self() -> anyhow::Result<Duration> {
    Ok(used_by("self")?)
}

/// What all processes of the machine have used since it was started, and the kernel on behalf of none.
pub(crate) fn used_by_machine() -> anyhow::Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    Ok(from_ticks(
        busy_ticks(&stat).context("cannot understand /proc/stat")?,
    ))
}

fn used_by(pid: &str) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, stat.clone()))?;
    Ok(from_ticks(ticks))
}

fn from_ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// All that the first line of `/proc/stat` counts as work: user, nice, system, (idle, iowait,) irq, softirq and steal.
fn busy_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_ascii_whitespace();
    let mut sum = 0;
    for place in 0..8 {
        let ticks: u64 = fields.next()?.parse().ok()?;
        if !matches!(place, 3 | 4) {
            sum += ticks;
        }
    }
    Some(sum)
}

/// User and system time in a line of `/proc/PID/stat`, in clock ticks. The name, second of the fields, may hold anything, even
/// spaces and parentheses: the others are counted from its last closing one.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    // The third field comes next; user time is the fourteenth.
    let user: u64 = fields.nth(11)?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_found_whatever_the_name() {
        let fields = "S 1 10 10 0 -1 4194560 900 0 3 0 250 50 7 8 20 0 9 0 1234 1000 200";
        assert_eq!(ticks(&format!("10 (etcd) {fields}")), Some(300));
        assert_eq!(ticks(&format!("10 (a) b (c)) {fields}")), Some(300));
        assert_eq!(ticks("10 (etcd) S 1 2"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn the_machine_is_busy_with_all_but_idling() {
        assert_eq!(
            busy_ticks("cpu  10 20 30 4000 5000 1 2 3 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n"),
            Some(66)
        );
        assert_eq!(busy_ticks("cpu0 10 20 30 4000 5000 1 2 3 0 0"), None);
        assert!(used_by_machine().expect("linux") >= used_by_self().expect("linux"));
    }

    #[test]
    fn this_process_uses_time() {
        let before = used_by_self().expect("linux");
        let mut sum = 0u64;
        while used_by_self().expect("linux") == before {
            sum = (0..100_000).fold(sum, |sum, number| std::hint::black_box(sum.wrapping_add(number)));
        }
    }

    #[test]
    fn usage_is_the_difference() {
        let usage = |millis| {
            Usage(BTreeMap::from([(
                "store".to_owned(),
                Duration::from_millis(millis),
            )]))
        };
        assert_eq!(usage(500).since(&usage(200))["store"], Duration::from_millis(300));
    }
}
