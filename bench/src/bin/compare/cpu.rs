//! Processor time by process, from `/proc/PID/stat`.

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

fn used_by(pid: &str) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let ticks = ticks(&stat).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, stat.clone()))?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    ))
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
